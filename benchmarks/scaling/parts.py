"""What a simulation is made of: what is given, what comes out, and the things in between."""

from __future__ import annotations

import heapq
import math
from bisect import bisect_left
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.scaling import rules

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What things cost, in seconds.

    Attributes:
        driver_item: To take, pack, read, order and hand on an item.
        driver_chunk: To hand out a chunk and to take note of its end.
        driver_worker: What every worker adds to `driver_chunk`.
        driver_turn: What every worker adds to a turn of the driver, in which it reads all that has
            come, and then hands out what it may.
        scheduler_chunk: What a chunk costs a scheduler between driver and workers.
        latency: One way between any two of them.
        worker_item: What an item costs its worker besides its work.
        worker_chunk: What a chunk does.
        driver_look: What it costs the driver to ask a worker how far it is; nothing where it sees.
        scheduler_look: The same for the scheduler.
        looks: After which time it asks for what others could run at once, again and again.
        fresh: After which time it asks for what is done, again and again.
        hides: How long a chunk should take at least; see `pace`.
        patience: For how long items are taken ahead of the consumer.
        verdict: After how long the driver hears of a dead worker.
        restart: After how long there is another in its place.
        is_isolating: Whether it is known which item a worker died of; else all that its chunk has
            left run alone.
    """

    driver_item: float = 0.0
    driver_chunk: float = 0.0
    driver_worker: float = 0.0
    driver_turn: float = 0.0
    driver_look: float = 0.0
    scheduler_look: float = 0.0
    scheduler_chunk: float = 0.0
    latency: float = 0.0
    worker_item: float = 0.0
    worker_chunk: float = 0.0
    looks: float = rules.SLOW
    fresh: float = rules.FRESH
    hides: float = rules.SHORTEST
    patience: float = rules.PATIENCE
    verdict: float = 0.0
    restart: float = 0.0
    is_isolating: bool = True


@dataclass(frozen=True, kw_only=True)
class Work:
    """A map.

    Attributes:
        items: How many there are.
        seconds: How long one takes.
        chunksize: How many are in a chunk; None for what the library chooses.
        first: How many are taken ahead in the beginning; None for what the library chooses.
        ahead: How many are taken ahead at the most; None for what the library chooses.
        known: Whether their number is known beforehand.
        ordered: Whether the consumer gets them in order.
        spread: The standard deviation of `seconds`, as a part of it.
        slow_share: Which part of the items takes `slow_seconds` instead.
        slow_seconds: See there.
        find: What looking for an item in a cache costs the driver; 0 without one.
        found: Which part is found there, evenly spread.
        store: What storing costs the worker.
        tell: What telling of an item's events costs the driver; 0 where nobody observes.
    """

    items: int
    seconds: float
    chunksize: int | None = None
    first: int | None = None
    ahead: int | None = None
    known: bool = False
    ordered: bool = True
    spread: float = 0.0
    slow_share: float = 0.0
    slow_seconds: float = 0.0
    find: float = 0.0
    found: float = 0.0
    store: float = 0.0
    tell: float = 0.0


@dataclass
class Outcome:
    """How it went.

    Attributes:
        seconds: How long it took.
        delivered: How many items were handed on to the consumer.
        ran: How many were run to their end, or died on the way; found ones do not count.
        failed: How many have failed, for having lost too many workers.
        chunks: How many chunks were sent.
        looks: How often workers were asked how far they are.
        again: How many items had to be handed out again after a worker was lost.
        lost: How many workers were.
        driver: Which part of the time the driver was busy.
        scheduler: The same for the scheduler.
        workers: The same for all workers, with nothing but the items' own work.
        furthest: How many items were ahead of the consumer at the most.
        marks: When each quarter of the items had been delivered, in seconds.
    """

    seconds: float = 0.0
    delivered: int = 0
    ran: int = 0
    failed: int = 0
    chunks: int = 0
    looks: int = 0
    again: int = 0
    lost: int = 0
    driver: float = 0.0
    scheduler: float = 0.0
    workers: float = 0.0
    furthest: int = 0
    marks: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Items a second, in the middle of the run."""
        middle = self.marks[2] - self.marks[0]
        return self.delivered / 2 / middle if middle else math.inf

    def projected(self, items: int) -> float:
        """Return how long so many items would take at that rate, in seconds.

        What beginning and end have taken longer than the middle is added once.
        """
        return self.seconds + (items - self.delivered) / self.rate


class Range(NamedTuple):
    """Items that follow one another."""

    first: int
    size: int


@dataclass(eq=False)
class Chunk:
    """A range on its way.

    Attributes:
        first: The index of its first item.
        count: How many items there are.
        crashes: How many workers died of it, where it is one item that runs alone.
        alone: Whether it is.
        looked_at: When it was asked last how far it is, or was sent, in seconds.
        is_asked: Whether it was, and has not answered.
        began: When it began, in seconds.
        each: How long each item takes, with all that comes on top, unless it is slow.
        slow: The places of slow items.
        takes: How long it takes.
        received: How many of its items have been reported.
        is_over: Whether its end is known, or its worker's.
    """

    first: int
    count: int
    crashes: int = 0
    alone: bool = False
    looked_at: float = 0.0
    is_asked: bool = False
    began: float = 0.0
    each: float = 0.0
    slow: Sequence[int] = ()
    takes: float = 0.0
    received: int = 0
    is_over: bool = False

    @property
    def rest(self) -> Range:
        """What has not been reported."""
        return Range(self.first + self.received, self.count - self.received)

    def done(self, seconds: float, slow_seconds: float) -> int:
        """Return how many items are done after some seconds of work.

        Args:
            seconds: For how long it has worked.
            slow_seconds: What a slow item takes on top.
        """
        each = max(self.each, 1e-12)
        for place in self.slow:
            if seconds < place * each:
                break
            seconds = max(place * each, seconds - slow_seconds)
        return max(0, min(self.count, int(seconds / each)))


@dataclass(eq=False)
class Worker:
    """A worker: its chunks, the first of which it runs."""

    chunks: deque[Chunk] = field(default_factory=deque)
    sent: int = 0
    life: int = 0
    is_alive: bool = True
    is_running: bool = False


class Ranking:
    """Which worker has the fewest chunks.

    Args:
        workers: All of them.
    """

    def __init__(self, workers: Sequence[Worker]) -> None:
        self._workers = workers
        self._turns = [0] * len(workers)
        self._heap: list[tuple[int, int, int]] = []
        for index in range(len(workers)):
            self.note(index)

    def note(self, index: int) -> None:
        """Take note of what a worker has to do; its earlier notes count no more."""
        worker = self._workers[index]
        self._turns[index] += 1
        if worker.is_alive and worker.sent < rules.DEPTH:
            heapq.heappush(self._heap, (worker.sent, index, self._turns[index]))

    def first(self) -> int | None:
        """Return the worker with the fewest chunks, of those that may have more."""
        while self._heap:
            _, index, turn = self._heap[0]
            if self._turns[index] == turn:
                return index
            heapq.heappop(self._heap)
        return None

    @property
    def has_idle(self) -> bool:
        """Whether a worker has nothing to do."""
        index = self.first()
        return index is not None and not self._workers[index].sent


class SlowItems:
    """Which items of a map are slow: always the same ones, wherever they run.

    Args:
        share: Which part of all.
        generator: Of the random gaps between them.
    """

    def __init__(self, share: float, generator: random.Random) -> None:
        self._share = share
        self._random = generator
        self._known = [-1]

    def places(self, chunk: Chunk) -> list[int]:
        """Return the places of slow items in a chunk."""
        if not self._share:
            return []
        known, end = self._known, chunk.first + chunk.count
        while known[-1] < end:
            known.append(known[-1] + self._gap())
        at, to = bisect_left(known, chunk.first), bisect_left(known, end)
        return [index - chunk.first for index in known[at:to]]

    def _gap(self) -> int:
        if self._share >= 1:
            return 1
        return 1 + int(math.log(1 - self._random.random()) / math.log(1 - self._share))


class Server:
    """Whoever does one thing at a time, in the order in which it comes."""

    def __init__(self) -> None:
        self.free = 0.0
        self.busy = 0.0

    def after(self, now: float, seconds: float) -> float:
        """Return when something is done that comes now."""
        self.busy += seconds
        self.free = max(now, self.free) + seconds
        return self.free
