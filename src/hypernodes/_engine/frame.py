"""One run of one plan, as far as it has come."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypernodes._engine.failure import Failure
from hypernodes._engine.inner import items_of
from hypernodes._engine.shipping.keeping import Missing, Reference

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from hypernodes._engine.batches import Batch
    from hypernodes._engine.failure import Given, Outcome
    from hypernodes._engine.jobs import MapJob
    from hypernodes._engine.kernel import PipelineExecutionEngine
    from hypernodes._engine.observing.follower import Follower
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
        "_settled",
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
        witness: Follower | None = None,
    ) -> None:
        self.engine: PipelineExecutionEngine = engine
        self.inputs: Mapping[str, Any] = inputs
        self.index: int | None = index
        self._item = item
        self.closed: bool = False
        self.jobs: list[MapJob] = []
        self.values: dict[Slot, Any] = engine.plan.values(inputs, item)
        self.witness: Follower | None = witness
        engine.opened(inputs, item, witness)
        self._done = done
        self._left = len(engine.segments)
        self._waiting = [segment.waits_for for segment in engine.segments]
        self._settled: set[int] = set()
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

    def settle(self, segment: Segment, outcome: Given | Missing) -> list[Segment]:
        """Take what `segment` gives, or its failure; return the segments that waited for it."""
        if self.closed:
            return []
        if isinstance(outcome, Failure):
            self._fail(outcome)
            return []
        if isinstance(outcome, Missing):
            return self._renewed(segment, outcome)
        for slot in segment.gives:
            self.values[slot] = outcome[slot]
        self._settled.add(segment.index)
        self._left -= 1
        if not self._left:
            self._finish()
            return []
        return [self.engine.segments[index] for index in segment.followers if self._is_free(index)]

    def _renewed(self, segment: Segment, missing: Missing) -> list[Segment]:
        """Return what runs again, so that a segment finds values that have been lost."""
        makers = {slot: made for made in self.engine.segments for slot in made.gives}
        initial = self.engine.plan.values(self.inputs, self._item)
        asked, ready = [(segment, missing.held)], []
        while asked:
            again, held = asked.pop()
            there = initial | dict(held)
            lost = [slot for slot in again.takes if not self._is_at_hand(slot, there)]
            self._uses.update(again.takes)
            before = {makers[slot].index: makers[slot] for slot in lost}
            for maker in before.values():
                if maker.index in self._settled:
                    self._undo(maker)
                    asked.append((maker, {}))
            self._waiting[again.index] = len(before)
            if not before:
                ready.append(again)
        return ready

    def _is_at_hand(self, slot: Slot, there: Mapping[Slot, Any]) -> bool:
        """Return whether a value is there, perhaps again."""
        value = self.values.get(slot)
        if slot in self.values and not (type(value) is Reference and value.lost):
            return True
        self.values.pop(slot, None)
        if slot in there:
            self.values[slot] = there[slot]
        return slot in there

    def _undo(self, maker: Segment) -> None:
        """Have a segment run again, and wait for it those that have not started."""
        self._settled.remove(maker.index)
        self._left += 1
        for index in maker.followers:
            if self._waiting[index] > 0:
                self._waiting[index] += 1

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
