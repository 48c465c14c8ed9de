"""The library's own rules that the simulation follows, on a clock of the simulation.

The one place that knows in which modules of the library they are.
"""

from __future__ import annotations

import itertools
from contextlib import contextmanager
from typing import TYPE_CHECKING
from unittest.mock import patch

from hypernodes._engine import stream
from hypernodes._engine.clusters import places, underway
from hypernodes._engine.clusters import pool as clusters
from hypernodes._engine.processes import hand, pool
from hypernodes._engine.shipping import crew, deaths, pace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = [
    "CLUSTER_PATIENCE",
    "DEPTH",
    "FRESH",
    "HIDES",
    "LOOK",
    "MOST_CRASHES",
    "PATIENCE",
    "SHORTEST",
    "SLOW",
    "Window",
    "clusters",
    "crew",
    "farthest",
    "first_ahead",
    "hand",
    "new_pace",
    "on_clock",
    "pace",
    "places",
    "pool",
    "stream",
    "underway",
]

DEPTH = places.DEPTH
"""How many chunks a worker has at the most, the one that runs included."""
MOST_CRASHES = deaths.MOST_CRASHES
"""With so many crashes an item has failed, unless its node has retries left."""
PATIENCE = crew.Dispatcher.patience
"""For how many seconds of work a map takes items ahead, where workers are processes."""
CLUSTER_PATIENCE = pace.LONGEST
"""The same where they are those of a cluster."""
SLOW = pool.SLOW
"""After how many seconds without news a process may lose what waits behind its work."""
LOOK = underway.LOOK
"""After how many seconds a cluster's worker is asked for what others could run at once."""
FRESH = underway.FRESH
"""After how many seconds it is asked for what is done of a chunk, again and again."""
SHORTEST = pace.SHORTEST
"""How long a chunk should take at least where workers are processes, in seconds."""
HIDES = pace.HIDES
"""How many times what a task costs a chunk of a cluster should take at least."""


@contextmanager
def on_clock(clock: Callable[[], float]) -> Iterator[None]:
    """Have the rules read `clock`.

    Args:
        clock: Returns the seconds since the beginning.
    """
    readings = itertools.count(1)
    ticking = lambda: clock() + next(readings) * 1e-12  # noqa: E731 - no real clock stands still
    with patch.object(pace, "perf_counter", ticking), patch.object(stream, "perf_counter", ticking):
        yield


def new_pace(chunksize: int | None, shortest: float) -> pace.Pace:
    """Return what decides how many items a chunk has; to be made and used within `on_clock`."""
    return pace.Pace(chunksize, shortest)


class Window(stream.Stream):
    """How far items are taken ahead of the consumer: the library's rule, on numbers of items.

    Args:
        items: How many items there are.
        ahead: How many are taken ahead in the beginning.
        patience: For how many seconds of work more of them are.
        farthest: How many at the most.
        at_hand: How many are there, as far as is known.
    """

    def __init__(
        self, items: int, *, ahead: int, patience: float, farthest: int, at_hand: int = 0
    ) -> None:
        facts = {"ahead": min(ahead, farthest), "patience": patience, "farthest": farthest}
        super().__init__(iter(()), ordered=True, at_hand=at_hand, **facts)
        self._left = items

    def take_count(self) -> int:
        """Take some items, as far as there is room; return how many."""
        room = self._ahead - (self._taken - self._delivered)
        count = min(room, max(1, self._ahead // 2, self._at_hand - self._taken), self._left)
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


def first_ahead(size: int, *, known: int) -> int:
    """Return how many items are taken ahead in the beginning.

    Args:
        size: How many workers there are.
        known: How many items there are; 0 where that is not known beforehand.
    """
    return max(2 * size, min(known, farthest(size)))


def farthest(size: int) -> int:
    """Return how many items are taken ahead at the most.

    Args:
        size: How many workers there are.
    """
    return max(crew.MOST_AHEAD, crew.AHEAD * size)
