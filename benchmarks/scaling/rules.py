"""The library's own rules that the simulation follows, on a clock of the simulation.

The one place that knows in which modules of the library they are.
"""

from __future__ import annotations

import itertools
from contextlib import contextmanager
from typing import TYPE_CHECKING
from unittest.mock import patch

from hypernodes._engine import jobs, workers
from hypernodes._engine.processes import crew, hand, pace, pool, sources

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = [
    "BRIEF",
    "DEPTH",
    "FARTHEST",
    "MOST_CRASHES",
    "PATIENCE",
    "SHORTEST",
    "SLOW",
    "Window",
    "crew",
    "first_ahead",
    "hand",
    "jobs",
    "new_pace",
    "on_clock",
    "pace",
    "pool",
]

DEPTH = pool.DEPTH
"""How many chunks a worker has at the most, the one that runs included."""
MOST_CRASHES = sources.MOST_CRASHES
"""With so many crashes an item has failed, unless its node has retries left."""
FARTHEST = crew.ProcessCrew.farthest
"""How many items are taken ahead of the consumer at the most."""
PATIENCE = crew.ProcessCrew.patience
SLOW = pool.SLOW
"""After how many seconds without news a worker may lose what waits behind its work."""
SHORTEST = pace.SHORTEST
BRIEF = pace.BRIEF / pace.SHORTEST


@contextmanager
def on_clock(clock: Callable[[], float], shortest: float) -> Iterator[None]:
    """Have the rules read `clock`.

    Args:
        clock: Returns the seconds since the beginning.
        shortest: How long a chunk should take at least, in seconds.
    """
    readings = itertools.count(1)
    ticking = lambda: clock() + next(readings) * 1e-12  # noqa: E731 - no real clock stands still
    aims = {"SHORTEST": shortest, "BRIEF": BRIEF * shortest}
    with (
        patch.multiple(pace, perf_counter=ticking, **aims),
        patch.object(jobs, "perf_counter", ticking),
    ):
        yield


def new_pace(chunksize: int | None) -> pace.Pace:
    """Return what decides how many items a chunk has; to be made and used within `on_clock`."""
    return pace.Pace(chunksize)


class Window(jobs.Stream):
    """How far items are taken ahead of the consumer: the library's rule, on numbers of items.

    Args:
        items: How many items there are.
        ahead: How many are taken ahead in the beginning.
        farthest: How many are taken ahead at the most.
    """

    def __init__(self, items: int, *, ahead: int, farthest: int) -> None:
        ahead = min(ahead, farthest)
        super().__init__(iter(()), ahead=ahead, ordered=True, patience=PATIENCE, farthest=farthest)
        self._left = items

    def take_count(self) -> int:
        """Take some items, as far as there is room; return how many."""
        room = self._ahead - (self._taken - self._delivered)
        count = min(room, max(1, self._ahead // 2), self._left)
        self._taken += count
        self._left -= count
        self._exhausted = self._left == 0
        if self._delivered >= self._next_look:
            self._look_at_clock()
        return count

    def deliver(self, count: int) -> None:
        """Take note that so many items have gone on to the consumer."""
        self._received += count
        self._delivered += count

    @property
    def taken(self) -> int:
        """How many items have been taken."""
        return self._taken

    @property
    def ahead(self) -> int:
        """How many items have been taken and not handed on."""
        return self._taken - self._delivered


def first_ahead(size: int, *, known: bool) -> int:
    """Return how many items are taken ahead in the beginning.

    Args:
        size: How many workers there are.
        known: Whether the number of items is known beforehand, as that of a list is.
    """
    return max(2 * size, workers.MOST_AHEAD if known else 0)
