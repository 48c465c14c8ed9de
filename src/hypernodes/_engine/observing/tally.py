"""How far a map is: counts that go up where outcomes arrive, so that nobody has to be told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypernodes._engine.failure import Failure

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from hypernodes._engine.failure import Outcome


class Tally:
    """The items of a map that are over; changed in one thread at a time, to be read in any.

    Attributes:
        ended: How many items have ended, well or not.
        failed: How many of them have failed.
        cached: How many of them needed no run: something was found in a cache, and nothing missed.
    """

    __slots__ = ("_told", "cached", "ended", "failed")

    def __init__(self) -> None:
        self.ended: int = 0
        self.failed: int = 0
        self.cached: int = 0
        self._told = (0, 0)

    def add(self, outcome: object) -> None:
        """Count an item."""
        self.ended += 1
        if type(outcome) is Failure:
            self.failed += 1

    def news(self) -> tuple[int, int]:
        """Return how many items have ended, and failed, since that was asked last."""
        before, self._told = self._told, (self.ended, self.failed)
        return self._told[0] - before[0], self._told[1] - before[1]


def counted(entries: Iterable[tuple[int, Outcome]], tally: Tally) -> Iterator[tuple[int, Outcome]]:
    """Yield what a map gives, and count it.

    Args:
        entries: Indexes and outcomes.
        tally: Where it is counted.
    """
    for entry in entries:
        tally.add(entry[1])
        yield entry
