"""One run of one plan, as far as it has come."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from hypernodes._engine.failure import Failure
    from hypernodes._engine.jobs import MapJob
    from hypernodes._engine.kernel import Outcome, PipelineExecutionEngine
    from hypernodes._engine.segments import Segment


class Frame:
    """The values of a run that are there, and the segments that still wait.

    Args:
        engine: What runs the plan.
        inputs: The inputs; in a map, those that all items share.
        item: The item's own inputs.
        index: The item's index, or None outside of a map.
        done: Called once, with the outputs or the failure.
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
        "jobs",
        "values",
    )

    def __init__(
        self,
        engine: PipelineExecutionEngine,
        inputs: Mapping[str, Any],
        item: Mapping[str, Any],
        index: int | None,
        done: Callable[[Outcome], None],
    ) -> None:
        plan = engine.plan
        self.engine = engine
        self.index = index
        self._item = item
        self.closed = False
        self.jobs: list[MapJob] = []
        self.values: list[Any] = [None] * plan.slots
        for slot, value in plan.constants.items():
            self.values[slot] = value
        for name, slot in plan.shared.items():
            self.values[slot] = inputs[name]
        for name, slot in plan.mapped.items():
            self.values[slot] = item[name]
        self._done = done
        self._left = len(engine.segments)
        self._waiting = [segment.waits_for for segment in engine.segments]
        self._uses = list(engine.uses)

    def first(self) -> list[Segment]:
        """Return the segments that wait for nothing."""
        if not self._left:
            self._finish()
        return [segment for segment in self.engine.segments if not segment.waits_for]

    def attempt(self, segment: Segment) -> Failure | None:
        """Run the steps of `segment` in this thread; return what failed, if so."""
        return self.engine.attempt_segment(segment, self.values, self.index)

    def settle(self, segment: Segment, failure: Failure | None) -> list[Segment]:
        """Take note that `segment` has run, or failed; return the segments that waited for it."""
        if self.closed:
            return []
        if failure is not None:
            self.close()
            self._done(failure if self.index is None else failure.at_item(self.index, self._item))
            return []
        self._let_go(segment)
        self._left -= 1
        if not self._left:
            self._finish()
            return []
        return [self.engine.segments[index] for index in segment.followers if self._is_free(index)]

    def close(self) -> None:
        """Drop what has not started."""
        self.closed = True
        for job in self.jobs:
            job.close()

    def _is_free(self, index: int) -> bool:
        self._waiting[index] -= 1
        return not self._waiting[index]

    def _let_go(self, segment: Segment) -> None:
        """Drop the values that nothing needs any more."""
        uses = self._uses
        for step in segment.steps:
            for argument in step.arguments:
                uses[argument.slot] -= 1
            for slot in (*step.outputs, *(argument.slot for argument in step.arguments)):
                if not uses[slot]:
                    self.values[slot] = None

    def _finish(self) -> None:
        self.closed = True
        self._done({name: self.values[slot] for name, slot in self.engine.plan.results.items()})
