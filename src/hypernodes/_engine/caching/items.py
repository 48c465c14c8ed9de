"""Items that another executor runs as a whole: looked up, then handed over with their keys."""

from __future__ import annotations

from contextvars import ContextVar
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Final

from hypernodes._engine.caching.engine import CachingEngine
from hypernodes._engine.caching.prepared import Carried, Doubt, Item, Prepared
from hypernodes._engine.frame import Frame
from hypernodes._engine.inner import inputs_of, whole_item
from hypernodes._engine.kernel import PipelineExecutionEngine
from hypernodes._engine.observing.inside import item_elsewhere

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping, Sequence

    from hypernodes._engine.batches import Batch
    from hypernodes._engine.failure import Given, Outcome
    from hypernodes._engine.kernel import Attempt, Enter, InThread
    from hypernodes._engine.observing.follower import Follower
    from hypernodes._engine.observing.script import Script
    from hypernodes._engine.observing.witness import Witness
    from hypernodes._engine.plan import Inner, Plan, Slot
    from hypernodes._engine.segments import Segment

# A slot that no plan has.
_KNOWN: Final = -4

_known: Final[ContextVar[tuple[Prepared, Item] | None]] = ContextVar(
    "hypernodes_known_of_item", default=None
)


class ItemEngine(PipelineExecutionEngine):
    """Has items run by another executor, which keeps what it makes.

    Args:
        plan: One step, which stands for the plan inside it.
    """

    looks_up: bool = True

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        (step,) = plan.steps
        assert plan.inside is not None and step.inner is not None  # noqa: PT018, S101 - see above
        self.inside = CachingEngine(plan.inside)
        self.audience = self.inside.audience
        run = partial(_run, whole_item(step.inner, step.path), step.inner, plan.inside)
        call = partial(_told, run) if self.observed else run
        self.calls: tuple[Callable[..., Any], ...] = (call,)

    @cached_property
    def observed(self) -> frozenset[int]:
        return frozenset((0,) if self.is_observed else ())

    @cached_property
    def script(self) -> Script:
        return self.inside.script

    def opened(
        self,
        inputs: Mapping[str, Any],
        item: Mapping[str, Any],
        witness: Witness | None,
        when: float | None = None,
    ) -> None:
        self.inside.opened(inputs, item, witness, when)

    @property
    def is_tied(self) -> bool:
        return self.inside.is_tied

    def prepared(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        return self.inside.prepared(inputs)

    def shared_inputs(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        return self.inside.shared_inputs(inputs)

    def strangers(self, inputs: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
        return self.inside.strangers(inputs)

    def doubt(
        self, inputs: Mapping[str, Any], strangers: Sequence[str] = (), *, is_lasting: bool = False
    ) -> Doubt | None:
        return self.inside.doubt(inputs, strangers, is_lasting=is_lasting)

    def distrust(self, inputs: Mapping[str, Any], doubt: Doubt) -> None:
        self.inside.distrust(inputs, doubt)

    def warn(self, inputs: Mapping[str, Any], about: Hashable, message: str) -> None:
        self.inside.warn(inputs, about, message)

    def finish(self, inputs: Mapping[str, Any]) -> None:
        self.inside.finish(inputs)

    def look_up(
        self, inputs: Mapping[str, Any], batch: Batch, enter: Enter | None = None
    ) -> tuple[dict[int, Outcome], Batch]:
        return self.inside.look_up(inputs, batch, enter)

    def identity(self, item: Mapping[str, Any]) -> Hashable | None:
        return self.inside.identity(item)

    @property
    def loop(self) -> None:
        """What is inside has more to do for an item."""

    def attempter(self) -> Attempt:
        return self._attempt_present

    def attempt_told(
        self,
        inputs: Mapping[str, Any],
        item: Mapping[str, Any],
        index: int | None,
        witness: Witness | None,
    ) -> Outcome:
        prepared = self.inside.prepared(inputs)
        known = self.inside.item(prepared, item)
        token = _known.set((prepared, known))
        try:
            return super().attempt_told(prepared, known, index, witness)
        finally:
            _known.reset(token)

    def frame(
        self,
        inputs: Mapping[str, Any],
        item: Mapping[str, Any],
        index: int | None,
        done: Callable[[Outcome], None],
        *,
        witness: Follower | None = None,
    ) -> Frame:
        prepared = self.inside.prepared(inputs)
        known = self.inside.item(prepared, item)
        return _ItemFrame(self, prepared, known, index, done, witness=witness)

    def attempt_segment(
        self,
        number: int,
        values: dict[Slot, Any],
        index: int | None = None,
        is_wanted: Callable[[], bool] | None = None,
        witness: Witness | None = None,
    ) -> Given:
        prepared, item, keys, found = values.pop(_KNOWN)
        known = Item(item, keys, 0)
        known.found |= found
        token = _known.set((prepared, known))
        try:
            return super().attempt_segment(number, values, index, is_wanted, witness)
        finally:
            _known.reset(token)

    async def await_segment(
        self,
        number: int,
        values: dict[Slot, Any],
        index: int | None,
        is_wanted: Callable[[], bool] | None,
        in_thread: InThread,
        *,
        witness: Witness | None = None,
    ) -> Given:
        facts = number, values, index, is_wanted, witness
        return await in_thread(self.attempt_segment, *facts)  # type: ignore[no-any-return]


class _ItemFrame(Frame):
    """An item on its way to the executor that runs it."""

    __slots__ = ("_item_known",)

    def __init__(
        self,
        engine: ItemEngine,
        inputs: Prepared,
        item: Item,
        index: int | None,
        done: Callable[[Outcome], None],
        *,
        witness: Follower | None = None,
    ) -> None:
        super().__init__(engine, inputs, item, index, done, witness=witness)
        self._item_known = inputs, dict(item), item.slot_keys, item.found

    def arguments(self, segment: Segment) -> dict[Slot, Any]:
        return super().arguments(segment) | {_KNOWN: self._item_known}


def _told(run: Callable[..., Any], witness: Witness | None, *values: Any) -> Any:
    return item_elsewhere(witness, partial(run, *values))


def _run(run: Callable[..., Any], inner: Inner, inside: Plan, *values: Any) -> Any:
    """Hand the inputs of an item over, with what is known of them."""
    inputs, known = inputs_of(inner, values), _known.get()
    if known is None:
        return run(inputs)
    token = _known.set(None)  # what runs inside is something else
    try:
        return run(Carried(inputs, inside, *known))
    finally:
        _known.reset(token)
