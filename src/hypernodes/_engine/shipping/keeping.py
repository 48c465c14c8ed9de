"""Values that stay where they were made: which may, and what stands for them here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from hypernodes._engine.kernel import PipelineExecutionEngine
    from hypernodes._engine.plan import Slot
    from hypernodes._engine.segments import Segment


def beside(slot: Slot) -> Slot:
    """Return where what stands for a value lies that comes back itself, or the slot of that."""
    return ~slot


class Kept(NamedTuple):
    """Stands for a value that stays where it was made.

    Attributes:
        number: What its driver calls the chunk that made it.
        slot: Where it belongs.
        size: How many bytes it has.
    """

    number: int
    slot: Slot
    size: int


def keepable(engine: PipelineExecutionEngine, segment: Segment) -> set[Slot]:
    """Return which of the values that a segment gives only other tasks need.

    What is asked for comes back, and so does what the driver needs to see: the items of a map
    inside, and what another executor runs. With a cache, the driver keeps account of all values.
    """
    return _taken(engine, segment).difference(engine.plan.results.values())


def copyable(engine: PipelineExecutionEngine, segment: Segment) -> set[Slot]:
    """Return which of the values that a segment gives other tasks need, and the driver, too.

    They come back, but other tasks take them where they were made.
    """
    return _taken(engine, segment).intersection(engine.plan.results.values())


def _taken(engine: PipelineExecutionEngine, segment: Segment) -> set[Slot]:
    if engine.looks_up:
        return set()
    others = [engine.segments[index] for index in segment.followers]
    seen = {slot for other in others if other.steps[0].inner is not None for slot in other.takes}
    taken = {slot for other in others for slot in other.takes}
    return taken.intersection(segment.gives) - seen


class Reference:
    """Stands in the driver for a value that stays where it was made, as long as it is needed.

    Args:
        kept: What its worker tells of it.
        release: Called in the end with the number of the chunk that made it.

    Attributes:
        lost: Whether the worker that had it is gone.
    """

    __slots__ = ("__weakref__", "_release", "kept", "lost")

    def __init__(self, kept: Kept, release: Callable[[Reference], None]) -> None:
        self.kept: Kept = kept
        self.lost: bool = False
        self._release = release

    def __del__(self) -> None:
        self._release(self)


class Missing(NamedTuple):
    """Stands for what a segment gives where values that it takes were lost, so that it did not run.

    Attributes:
        held: The values that it was handed and that are still there, by slot.
    """

    held: Mapping[Slot, Any]
