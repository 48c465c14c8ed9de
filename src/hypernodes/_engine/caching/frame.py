"""One run of a plan with a cache, as far as it has come: what to look up and what to run now."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from hypernodes._engine.caching.loading import keep, keep_map
from hypernodes._engine.caching.maps import inner_items, rows_of
from hypernodes._engine.caching.orders import AROUND, LOOKUPS, ORDER, Lookups
from hypernodes._engine.caching.telling import has_replaced
from hypernodes._engine.failure import Failure
from hypernodes._engine.frame import Frame
from hypernodes._engine.observing.witness import clock
from hypernodes._engine.shipping.keeping import Missing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from hypernodes._engine.batches import Batch
    from hypernodes._engine.caching.engine import CachingEngine
    from hypernodes._engine.caching.loading import Row
    from hypernodes._engine.caching.orders import Order
    from hypernodes._engine.caching.prepared import Item, Prepared
    from hypernodes._engine.failure import Given, Outcome
    from hypernodes._engine.observing.follower import Follower
    from hypernodes._engine.plan import Inner, Slot, Step
    from hypernodes._engine.segments import Segment


class CachedFrame(Frame):
    """The values of a run that are there, and what is wanted besides; see `Resolver`.

    Every step is a segment of its own. Lookups are segments too: they may take time.

    Args:
        engine: What runs the plan.
        inputs: The inputs; in a map, those that all items share.
        item: The item's own inputs.
        index: The item's index, or None outside of a map.
        done: Called once, with the outputs or the failure.
        witness: Who is told, if somebody observes.
    """

    __slots__ = ("_away", "_engine", "_known", "_once", "_resolver", "_rows", "_running", "_twins")

    inputs: Prepared

    def __init__(
        self,
        engine: CachingEngine,
        inputs: Prepared,
        item: Item,
        index: int | None,
        done: Callable[[Outcome], None],
        *,
        witness: Follower | None = None,
    ) -> None:
        super().__init__(engine, inputs, item, index, done, witness=witness)
        self._engine = engine
        self._known = item
        self._once = inputs.once
        self._resolver = engine.resolver(inputs, item, self.values)
        self._rows: dict[int, list[Row]] = {}
        self._running = 0
        self._away: set[int] = set()
        self._twins: dict[str, list[Step]] = {}

    def first(self) -> list[Segment]:
        return self._next()

    def arguments(self, segment: Segment) -> dict[Slot, Any]:
        step = segment.steps[0]
        if isinstance(segment, Lookups):
            return {LOOKUPS: (segment.wanted, self._once)}
        taken: dict[Slot, Any] = {slot: self._resolver.values[slot] for slot in segment.takes}
        self._engine.check_arguments(step, self._resolver, self.inputs)
        order = self._engine.order(step, self._resolver, self._known, self.inputs)
        if order is not None:
            taken[ORDER] = order
        if step.index in self._engine.inner_engines:
            taken[AROUND] = self.inputs, self._resolver.keys
        return taken

    def kept_here(
        self, segment: Segment, taken: dict[Slot, Any], then: Callable[[Given], None]
    ) -> Callable[[Given], None]:
        step = segment.steps[0]
        self._away.add(step.index)
        if ORDER not in taken or not self._engine.shelf(step).is_tied:
            return then
        order = taken.pop(ORDER)
        if self.witness is not None:
            self.witness.missed(step.index, order.made)
        return partial(self._keep, step, order, then)

    def _keep(self, step: Step, order: Order, then: Callable[[Given], None], given: Given) -> None:
        """Keep what came back; what nobody waits for any more may have been broken off."""
        if not self.closed and not isinstance(given, Failure):
            made = [given[slot] for slot in step.outputs if slot in given]
            if len(made) == len(step.outputs):
                self._keep_made(step, order, made)
        then(given)

    def _keep_made(self, step: Step, order: Order, made: list[Any]) -> None:
        is_own = order.is_sound and not has_replaced(self.witness, step)
        kept = is_own and keep(self._engine, step, order, made)
        if self.witness is not None:
            self.witness.kept(step.index, clock(), order.made if kept else None)

    def items(
        self, step: Step, inner: Inner, values: Iterable[Any]
    ) -> tuple[Mapping[str, Any], Batch]:
        del inner  # it is the step's
        engine, keys = self._engine, self._resolver.keys
        shared, items = inner_items(engine, step, values, keys, self.inputs)
        self._rows[step.index] = rows_of(engine, step, items)
        return shared, dict(enumerate(items))

    def settle(self, segment: Segment, outcome: Given | Missing) -> list[Segment]:
        if self.closed:
            return []
        if isinstance(outcome, Failure):
            self._fail(outcome)
            return []
        assert not isinstance(outcome, Missing)  # noqa: S101 - its values are never kept elsewhere
        self._running -= 1
        if isinstance(segment, Lookups):
            self._take_found(segment, outcome[LOOKUPS])
        else:
            self._take_made(segment.steps[0], outcome)
        return self._next()

    def _take_found(self, lookups: Lookups, found: Iterable[Any]) -> None:
        for (step, made), outputs in zip(lookups.wanted, found, strict=True):
            self._engine.found(self._resolver, step, made, outputs, self.witness)

    def _take_made(self, step: Step, outcome: Mapping[Slot, Any]) -> None:
        rows, replaced = self._rows.pop(step.index, None), has_replaced(self.witness, step)
        if rows is not None:
            order = self._engine.order(step, self._resolver, self._known, self.inputs)
            if order is not None and order.is_sound and not replaced:
                keep_map(self._engine, step, order, rows)
        if not (step.index in self._away or self._engine.plan.request.ctx.in_order):
            self._engine.recheck_arguments(step, self._resolver, self.inputs)
        self._resolver.settle(step, [outcome[slot] for slot in step.outputs], replaced=replaced)
        for twin in self._twins.pop(self._resolver.made[step.index], ()):
            self._resolver.look_again(twin)

    def _take_ready(self) -> list[Step]:
        if not self._engine.plan.request.ctx.in_order:
            return list(filter(self._is_first, self._resolver.take_ready()))
        step = None if self._running else self._resolver.next_ready()
        return [] if step is None else [step]

    def _is_first(self, step: Step) -> bool:
        """Tell whether a step may run; else it waits for another one of the same signature."""
        made = self._resolver.made[step.index]
        if made in self._twins:
            self._twins[made].append(step)
            return False
        if made:
            self._twins[made] = []
        return True

    def _next(self) -> list[Segment]:
        """Return what can be done now; finish where nothing is left to do."""
        lookups = self._engine.unknown(self._resolver, self._known, self.witness)
        ready = [self._engine.segments[step.index] for step in self._take_ready()]
        if lookups:
            ready.append(Lookups(lookups))
        self._running += len(ready)
        if not self._running:
            self.closed = True
            self.jobs.clear()
            if self.index is None:
                self._engine.finish(self.inputs)
            self._end(self._resolver.outputs())
        return ready
