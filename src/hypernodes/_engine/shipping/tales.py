"""What is told of a piece before it is over, also by workers that are lost then."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from hypernodes._engine.observing.witness import clock
from hypernodes._engine.shipping.events import tell_end, tell_records
from hypernodes.exceptions import WorkerCrashedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from hypernodes._engine.kernel import PipelineExecutionEngine
    from hypernodes._engine.observing.witness import Record, Witness
    from hypernodes._engine.shipping.events import Story

ENDS: Final = frozenset({"found", "inner_ended", "kept"})
"""What ends a step for good."""
WORK_ENDS: Final = frozenset({"node_ended", "released"})
"""What ends a step, unless it was looked up in a cache: then it is to be kept."""


class Tale:
    """An item of a map, or a run, that is told as it goes on.

    Each step is told of once, although what was lost with a worker runs again.

    Args:
        witness: Who is told.
        engine: What runs it.
        item: The item's own inputs.
    """

    def __init__(
        self, witness: Witness, engine: PipelineExecutionEngine, item: Mapping[str, Any]
    ) -> None:
        self._witness = witness
        self._facts = engine, item
        self._missed: set[int] = set()
        self._started: set[int] = set()
        self._ended: set[int] = set()

    def go_on(self, records: list[Record]) -> None:
        """Tell what its worker tells next."""
        tell_records(self._witness, *self._facts, self._new(records))

    def lose(self, delay: float) -> None:
        """Tell that its worker is gone, and that it runs again after some seconds."""
        message = "the worker that ran this is gone; it runs again"
        error = WorkerCrashedError(message, index=self._witness.item_index)
        self._witness.lost(clock(), error, delay)

    def end(self, story: Story) -> None:
        """Tell the rest of how it went."""
        engine, _ = self._facts
        told = {engine.plan.steps[index].path for index in self._started}
        story = story._replace(lost=[lost for lost in story.lost if lost.path not in told])
        tell_records(self._witness, *self._facts, self._new(story.records or ()), story)
        tell_end(self._witness, engine, story, self._ended)

    def _new(self, records: Iterable[Record]) -> Iterator[Record]:
        """Yield the records of steps that have not been told to their ends."""
        for record in records:
            place, told, facts = record
            if not place and not _is_of_step(told):
                yield record
                continue
            step = place[0][0] if place else facts[0]
            if step in self._ended:
                continue
            yield record
            if not place:
                self._note(step, told)

    def _note(self, step: int, told: str) -> None:
        if told == "missed":
            self._missed.add(step)
        elif told == "node_started":
            self._started.add(step)
        elif told in ENDS or (told in WORK_ENDS and step not in self._missed):
            self._ended.add(step)


def _is_of_step(told: str) -> bool:
    return told not in {"started", "over", "lost"}
