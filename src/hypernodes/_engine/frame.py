"""One run of one plan, as far as it has come."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypernodes._engine.failure import Failure
from hypernodes._engine.inner import items_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from hypernodes._engine.failure import Given, Outcome
    from hypernodes._engine.jobs import Batch, MapJob
    from hypernodes._engine.kernel import PipelineExecutionEngine
    from hypernodes._engine.observing.passes import Pass
    from hypernodes._engine.plan import Inner, Slot, Step
    from hypernodes._engine.segments import Segment


class Frame:
    """The values of a run that are there, and the segments that still wait.

    Args:
        engine: What runs the plan.
        inputs: The inputs; in a map, those that all items share.
        item: The item's own inputs.
        index: The item's index, or None outside of a map.
        done: Called once, with the outputs or the failure.
        witness: Who is told, if somebody observes.
    """

    __slots__ = (
        "_done",
        "_item",
        "_left",
        "_uses",
        "_waiting",
        "closed",
        "engine",
        "index",
        "inputs",
        "jobs",
        "values",
        "witness",
    )

    def __init__(
        self,
        engine: PipelineExecutionEngine,
        inputs: Mapping[str, Any],
        item: Mapping[str, Any],
        index: int | None,
        done: Callable[[Outcome], None],
        *,
        witness: Pass | None = None,
    ) -> None:
        self.engine: PipelineExecutionEngine = engine
        self.inputs: Mapping[str, Any] = inputs
        self.index: int | None = index
        self._item = item
        self.closed: bool = False
        self.jobs: list[MapJob] = []
        self.values: dict[Slot, Any] = engine.plan.values(inputs, item)
        self.witness: Pass | None = witness
        engine.opened(inputs, item, witness)
        self._done = done
        self._left = len(engine.segments)
        self._waiting = [segment.waits_for for segment in engine.segments]
        self._uses = engine.uses.copy()

    def first(self) -> list[Segment]:
        """Return the segments that wait for nothing."""
        if not self._left:
            self._finish()
        return [segment for segment in self.engine.segments if not segment.waits_for]

    def arguments(self, segment: Segment) -> dict[Slot, Any]:
        """Hand over what `segment` takes, by slot; what no other needs is let go here."""
        taken = {slot: self.values[slot] for slot in segment.takes}
        for slot in taken:
            self._uses[slot] -= 1
            if not self._uses[slot]:
                del self.values[slot]
        return taken

    def kept_here(
        self, segment: Segment, taken: dict[Slot, Any], then: Callable[[Given], None]
    ) -> Callable[[Given], None]:
        """Return what takes the values of a segment that runs in another process.

        Args:
            segment: The segment.
            taken: What it takes; what means nothing in another process is taken out.
            then: Takes the values, or the failure.
        """
        del segment, taken
        return then

    def items(
        self, step: Step, inner: Inner, values: Iterable[Any]
    ) -> tuple[Mapping[str, Any], Batch]:
        """Return the shared inputs and the items of a mapped step.

        Args:
            step: The step.
            inner: The pipeline inside.
            values: What the step takes, in order.
        """
        del step
        items = items_of(inner, values)
        return items.shared, dict(enumerate(items.items))

    def settle(self, segment: Segment, outcome: Given) -> list[Segment]:
        """Take what `segment` gives, or its failure; return the segments that waited for it."""
        if self.closed:
            return []
        if isinstance(outcome, Failure):
            self._fail(outcome)
            return []
        for slot in segment.gives:
            self.values[slot] = outcome[slot]
        self._left -= 1
        if not self._left:
            self._finish()
            return []
        return [self.engine.segments[index] for index in segment.followers if self._is_free(index)]

    def _fail(self, failure: Failure) -> None:
        self.close()
        self._end(failure if self.index is None else failure.at_item(self.index, self._item))

    def is_open(self) -> bool:
        """Tell whether the run is still wanted."""
        return not self.closed

    def close(self) -> None:
        """Drop what has not started."""
        self.closed = True
        for job in self.jobs:
            job.close()
        self.jobs.clear()

    def _is_free(self, index: int) -> bool:
        self._waiting[index] -= 1
        return not self._waiting[index]

    def _finish(self) -> None:
        self.closed = True
        self.jobs.clear()
        self._end({name: self.values[slot] for name, slot in self.engine.plan.results.items()})

    def _end(self, outcome: Outcome) -> None:
        self.engine.closed(self.witness, outcome)
        self._done(outcome)
