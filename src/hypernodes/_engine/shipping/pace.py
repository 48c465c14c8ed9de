"""How many items a chunk should hold: enough to hide its cost, few enough to stay fresh."""

from __future__ import annotations

import math
from time import perf_counter
from typing import Final

HIDES: Final = 20
"""How many times its own cost a chunk takes at least."""
SHORTEST: Final = HIDES * 0.00005
"""Seconds of work that hide the way to a process of this machine."""
LONGEST: Final = 0.5
MOST_ITEMS: Final = 10_000
MOST_BYTES: Final = 8_000_000
BRIEF: Final = 20
"""How many of the shortest chunks a chunk may be as long as that waits behind others."""
SHARE: Final = 10
GUESS: Final = 0.0001
"""Seconds that an item is taken for while none has been timed."""
PROBES: Final = 8
"""Of how many chunks for each worker a first one is, at the most."""


class Pace:
    """Learns from chunks what the next one should be like.

    A chunk costs its worker and its driver some time between them. Twenty times as much work hides
    that; with time a map may have longer ones, a tenth of the time that it has taken.

    Args:
        fixed: The number of items that the user wants, or None.
        shortest: How long a chunk should take at least, in seconds.

    Attributes:
        is_timed: Whether a chunk of this map has been.
    """

    def __init__(self, fixed: int | None, shortest: float = SHORTEST) -> None:
        self._fixed = fixed
        self._shortest = shortest
        self._began = perf_counter()
        self._seconds: float | None = None
        self.is_timed = False
        self._bytes = 0.0

    def again(self) -> Pace:
        """Return one for a next map of such items, which need not begin anew."""
        pace = Pace(self._fixed, self._shortest)
        pace._seconds, pace._bytes = self._seconds, self._bytes
        return pace

    def count(self, waiting: int, workers: int, under_way: int = 0) -> int:
        """Return how many of `waiting` items the next chunk should have.

        Args:
            waiting: How many items are there to be taken.
            workers: How many workers share them.
            under_way: How many more these have by now.
        """
        if self._fixed is not None:
            return self._fixed
        if self._seconds is None:
            return max(1, min(int(self._shortest / GUESS), waiting // (PROBES * workers)))
        each = max(self._seconds, 1e-8)
        elapsed = perf_counter() - self._began
        aim = min(max(self._shortest, elapsed / SHARE), LONGEST)
        by_time = aim / each
        by_bytes = MOST_BYTES / self._bytes if self._bytes else math.inf
        # Shares get smaller towards the end, but none so small that its way is all it costs: at
        # last, each worker has its part of what is left. So it has at first: what was known before
        # may be wrong.
        fair, worth = (waiting + under_way) / workers, self._shortest / 4 / each
        last = max(fair, self._shortest / HIDES / each) if self.is_timed else fair
        by_share = max(waiting / (2 * workers), min(worth, last))
        return max(1, int(min(by_time, by_bytes, math.ceil(by_share), MOST_ITEMS)))

    def may_wait(self, count: int) -> bool:
        """Whether a chunk of `count` items may wait behind others: it is over soon, yet worth it.

        Smaller ones are kept for workers that run dry, and grow meanwhile.
        """
        if self._seconds is None:
            return False
        return self._fixed is not None or self._shortest / 2 <= count * self._seconds <= min(
            BRIEF * self._shortest, LONGEST
        )

    def learn(self, count: int, seconds: float) -> None:
        """Take in what a chunk took."""
        found = seconds / count
        before = self._seconds if self.is_timed and count == 1 else None
        self._seconds = found if before is None else (before + found) / 2
        self.is_timed = True

    def weigh(self, count: int, size: int) -> None:
        """Take in the bytes of some items, or of what they gave."""
        self._bytes = max(size / count, self._bytes / 2)
