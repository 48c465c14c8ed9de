"""A map on many workers, simulated event by event: driver, scheduler, workers, and who dies.

How many items a chunk has, how far items are taken ahead and how many chunks wait at a worker is
decided by the library's own rules (`rules`). Items of a chunk follow one another, so a chunk is a
range of indexes, and a simulation costs as much as it has chunks. What is done of a chunk before
its end comes when its worker is asked.

Driver and scheduler do one thing at a time. The driver hands out before it reads what has come
back, as long as it may hand out. What is behind a slow item on a worker goes back when others are
idle. A worker that dies loses its chunk: the driver hears of it later, then one item of it or all
of them run alone, and what waited behind it goes back.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Final

from benchmarks.scaling import rules
from benchmarks.scaling.parts import Chunk, Outcome, Range, Ranking, Server, SlowItems, Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from benchmarks.scaling.parts import Costs, Work

PARTS: Final = 4
"""Of so many parts of the items it is noted when they had been delivered."""


class Simulation:
    """One map.

    Args:
        work: What there is to do.
        workers: How many do it.
        costs: What it costs.
        lifetime: How long a worker lives on average, in seconds.
        deaths: When which workers die besides: seconds, and their numbers.
        seed: Of all that is random.
    """

    def __init__(
        self,
        work: Work,
        workers: int,
        costs: Costs,
        *,
        lifetime: float = math.inf,
        deaths: Iterable[tuple[float, int]] = (),
        seed: int = 0,
    ) -> None:
        self._work = work
        self._costs = costs
        self._lifetime = lifetime
        self._random = random.Random(seed)
        self._fate = random.Random(seed)
        self._now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._workers = [Worker() for _ in range(workers)]
        self._scheduler = Server()
        self._driver_busy = 0.0
        self._driver_works = False
        self._arrived: deque[Callable[[], float]] = deque()
        self._pending: deque[Range] = deque()
        self._waiting = 0
        self._there = 0
        self._alone: deque[Chunk] = deque()
        self._ranking = Ranking(self._workers)
        self._next = 0
        self._early: list[Range] = []
        self._found = 0
        self._asked: dict[int, list[Chunk]] = {}
        self._slow = SlowItems(work.slow_share, self._random)
        self._out = Outcome()
        for when, index in deaths:
            self._at(when, partial(self._die, index))

    def run(self) -> Outcome:
        """Simulate until everything has been delivered, and return how it went."""
        with rules.on_clock(lambda: self._now):
            self._pace = rules.new_pace(self._work.chunksize, self._costs.hides)
            self._window = self._opened()
            for index in range(len(self._workers)):
                self._await_death(index)
            self._drive()
            while self._out.delivered < self._work.items or self._driver_works:
                self._now, _, event = heapq.heappop(self._events)
                event()
        return self._concluded()

    def _opened(self) -> rules.Window:
        work, size = self._work, len(self._workers)
        first = work.first or rules.first_ahead(size, known=work.items if work.known else 0)
        farthest = max(work.ahead or rules.farthest(size), work.first or 0)
        facts = {"ahead": first, "patience": self._costs.patience, "farthest": farthest}
        return rules.Window(work.items, at_hand=work.items if work.known else 0, **facts)

    def _concluded(self) -> Outcome:
        out, now = self._out, self._now
        out.seconds = now
        if now:
            out.driver, out.scheduler = self._driver_busy / now, self._scheduler.busy / now
            out.workers /= now * len(self._workers)
        return out

    def _at(self, when: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._numbers), event))

    # ------------------------------------------------------------ the driver

    def _drive(self) -> None:
        """Let the driver do what is next, if it is free and there is something to do."""
        if self._driver_works:
            return
        steps = (step() for step in (self._take, self._hand_out, self._read))
        spent = next((seconds for seconds in steps if seconds is not None), None)
        if spent is None:
            return
        self._driver_works = True
        self._driver_busy += spent
        self._at(self._now + spent, self._rest)

    def _rest(self) -> None:
        self._driver_works = False
        self._drive()

    def _arrive(self, letter: Callable[[], float]) -> None:
        self._arrived.append(letter)
        self._drive()

    def _read(self) -> float | None:
        """Read all that has come."""
        if not self._arrived:
            return None
        letters, self._arrived = self._arrived, deque()
        turn = self._costs.driver_turn * len(self._workers)
        return turn + sum(letter() for letter in letters)

    def _take(self) -> float | None:
        """Take items in, look them up, and let those wait that are not found."""
        if not self._window.is_open:
            return None
        first = self._window.taken
        count = self._window.take_count()
        if not count:
            return None
        self._out.furthest = max(self._out.furthest, self._window.ahead)
        found = int(self._window.taken * self._work.found + 1e-9) - self._found
        self._found += found
        if found:
            self._deliver(Range(first, found))
        self._there += count - found
        if count > found:
            self._wait(Range(first + found, count - found))
        return count * self._work.find

    def _wait(self, new: Range) -> None:
        """Let items wait for workers, in one range with those before them if they follow these."""
        self._waiting += new.size
        if self._pending and sum(self._pending[-1]) == new.first:
            first, count = self._pending.pop()
            new = Range(first, count + new.size)
        self._pending.append(new)

    def _hand_out(self) -> float | None:
        """Send the next chunk to whoever has least to do, where there is one to be sent."""
        index = self._ranking.first()
        if index is None:
            return None
        worker = self._workers[index]
        chunk = self._draw(behind=bool(worker.sent))
        if chunk is None:
            return None
        self._out.chunks += 1
        worker.sent += 1
        self._ranking.note(index)
        spent = self._spent_on(chunk.count, chunks=1, is_out=True)
        arrive = partial(self._on_chunk, chunk, index, worker.life)
        self._at(self._now + spent, partial(self._through, arrive))
        chunk.looked_at = self._now + spent
        if self._costs.driver_look:
            glance = partial(self._glance, chunk, index, worker.life)
            self._at(chunk.looked_at + self._costs.looks, glance)
        return spent

    def _spent_on(self, items: int, *, chunks: int, is_out: bool) -> float:
        costs = self._costs
        chunk = costs.driver_chunk + costs.driver_worker * len(self._workers)
        each = costs.driver_item + (0.0 if is_out else 2 * self._work.tell)
        return (chunks * chunk + items * each) / 2

    def _draw(self, *, behind: bool) -> Chunk | None:
        if self._alone:
            return None if behind else self._alone.popleft()
        if not self._waiting:
            return None
        under_way = self._there - self._waiting
        count = self._pace.count(self._waiting, len(self._workers), under_way)
        if behind and not self._pace.may_wait(count):
            return None
        found = self._pending.popleft()
        if found.size > count:
            self._pending.appendleft(Range(found.first + count, found.size - count))
        count = min(count, found.size)
        self._waiting -= count
        return Chunk(found.first, count)

    # ------------------------------------------------------------ on the way

    def _through(self, event: Callable[[], None]) -> None:
        """Have something happen at the other end of the way, by way of the scheduler."""
        latency = self._costs.latency
        at = self._scheduler.after(self._now, self._costs.scheduler_chunk / 2)
        self._at(at + latency, event)

    def _glance(self, chunk: Chunk, index: int, life: int) -> None:
        """Have a worker asked how far a chunk is, when it is time."""
        worker = self._workers[index]
        runs = bool(worker.chunks) and worker.chunks[0] is chunk
        if worker.life != life or chunk.is_over or chunk.is_asked or (runs and chunk.count == 1):
            return
        pause = self._pause(runs=runs)
        due = self._now + self._costs.looks if pause is None else chunk.looked_at + pause
        if due > self._now + 1e-9:
            self._at(due, partial(self._glance, chunk, index, life))
            return
        chunk.is_asked = True
        asked = self._asked.setdefault(index, [])
        asked.append(chunk)
        if len(asked) == 1:
            self._arrive(lambda: self._ask(index, life))

    def _pause(self, *, runs: bool) -> float | None:
        """Return how long a chunk is left alone; None while there is nothing to ask it for."""
        if not self._waiting and self._ranking.has_idle:
            return self._costs.looks
        return self._costs.fresh if runs else None

    def _ask(self, index: int, life: int) -> float:
        """Ask how far a worker is: all that is to be asked at once."""
        chunks = self._asked.pop(index)
        self._out.looks += 1
        costs = self._costs
        answered_at = self._scheduler.after(self._now, costs.scheduler_look) + 2 * costs.latency
        for chunk in chunks:
            chunk.looked_at = self._now
            self._at(answered_at, partial(self._answer, chunk, index, life))
        return costs.driver_look

    def _answer(self, chunk: Chunk, index: int, life: int) -> None:
        """Have what is done told, and ask for more when it is time."""
        chunk.is_asked = False
        worker = self._workers[index]
        if worker.life == life and worker.chunks and worker.chunks[0] is chunk:
            costs = self._costs
            worked = self._now - costs.latency - chunk.began - costs.worker_chunk
            done = chunk.done(worked, self._work.slow_seconds)
            self._arrive(lambda: self._on_news(chunk, done))
        self._glance(chunk, index, life)

    def _on_news(self, chunk: Chunk, done: int) -> float:
        """Take what is done of a chunk before its end."""
        if chunk.is_over or done <= chunk.received:
            return 0.0
        return self._receive(chunk, done, chunks=0)

    def _receive(self, chunk: Chunk, done: int, *, chunks: int) -> float:
        """Take the first items of a chunk that have not come; return what that costs."""
        found = Range(chunk.first + chunk.received, done - chunk.received)
        chunk.received = done
        self._out.ran += found.size
        self._there -= found.size
        if found.size:
            self._deliver(found)
        return self._spent_on(found.size, chunks=chunks, is_out=False)

    def _on_chunk(self, chunk: Chunk, index: int, life: int) -> None:
        worker = self._workers[index]
        if worker.life != life:  # it died before: nothing of it has begun
            self._arrive(lambda: self._put_back([chunk]))
            return
        worker.chunks.append(chunk)
        self._start(index)

    # ------------------------------------------------------------ workers

    def _start(self, index: int) -> None:
        worker = self._workers[index]
        if worker.is_running or not worker.chunks:
            return
        chunk = worker.chunks[0]
        worker.is_running = True
        self._time(chunk)
        self._await_end(chunk, index)
        if chunk.takes > self._costs.looks:
            self._look_later(chunk, index, self._costs.looks)

    def _time(self, chunk: Chunk) -> None:
        """Decide how long a chunk takes."""
        costs, work = self._costs, self._work
        chunk.began = self._now
        chunk.slow = self._slow.places(chunk)
        chunk.each = self._mean(chunk.count) + costs.worker_item + work.store
        slow = len(chunk.slow) * work.slow_seconds
        chunk.takes = costs.worker_chunk + chunk.count * chunk.each + slow

    def _mean(self, count: int) -> float:
        """Return how long each of some items takes on average; one is distributed as gamma."""
        mean, spread = self._work.seconds, self._work.spread
        if not (spread and mean):
            return mean
        return self._random.gammavariate(count / spread**2, mean * spread**2) / count

    def _await_end(self, chunk: Chunk, index: int) -> None:
        life = self._workers[index].life
        self._at(chunk.began + chunk.takes, lambda: self._finish(chunk, index, life))

    def _finish(self, chunk: Chunk, index: int, life: int) -> None:
        worker = self._workers[index]
        if worker.life != life or not worker.chunks or worker.chunks[0] is not chunk:
            return
        worker.chunks.popleft()
        worker.is_running = False
        besides = self._costs.worker_chunk + chunk.count * (
            self._costs.worker_item + self._work.store
        )
        self._out.workers += chunk.takes - besides
        self._through(lambda: self._arrive(lambda: self._on_end(chunk, index, life)))
        self._start(index)

    def _on_end(self, chunk: Chunk, index: int, life: int) -> float:
        worker = self._workers[index]
        chunk.is_over = True
        if worker.life == life:
            worker.sent -= 1
            self._ranking.note(index)
        self._pace.learn(chunk.count, chunk.takes - self._costs.worker_chunk)
        spent = self._receive(chunk, chunk.count, chunks=1)
        if self._costs.driver_look and worker.chunks:
            self._glance(worker.chunks[0], index, worker.life)
        return spent

    def _deliver(self, found: Range) -> None:
        """Hand items on to the consumer: at once, or when all before them are there."""
        if not self._work.ordered:
            self._hand_on(found.size)
            return
        heapq.heappush(self._early, found)
        while self._early and self._early[0].first == self._next:
            count = heapq.heappop(self._early).size
            self._next += count
            self._hand_on(count)

    def _hand_on(self, count: int) -> None:
        self._out.delivered += count
        self._window.deliver(count)
        while self._out.delivered * PARTS >= self._work.items * (len(self._out.marks) + 1):
            self._out.marks.append(self._now)

    # ------------------------------------------------------------ what goes back

    def _put_back(self, chunks: list[Chunk]) -> float:
        """Take back what has not begun."""
        for chunk in reversed(chunks):
            chunk.is_over = True
            if chunk.alone:
                again = Chunk(chunk.first, 1, crashes=chunk.crashes, alone=True)
                self._alone.appendleft(again)
            else:
                self._pending.appendleft(Range(chunk.first, chunk.count))
                self._waiting += chunk.count
        return 0.0

    def _look_later(self, chunk: Chunk, index: int, seconds: float) -> None:
        life = self._workers[index].life
        self._at(self._now + seconds, lambda: self._look(chunk, index, life, seconds))

    def _look(self, chunk: Chunk, index: int, life: int, seconds: float) -> None:
        """Where workers are idle and nothing waits, take back what waits behind something slow."""
        worker = self._workers[index]
        if worker.life != life or not worker.chunks or worker.chunks[0] is not chunk:
            return
        if self._waiting or self._alone or not self._ranking.has_idle:
            self._look_later(chunk, index, 2 * seconds)
            return
        behind = [worker.chunks.pop() for _ in range(len(worker.chunks) - 1)]
        worker.sent -= len(behind)
        self._ranking.note(index)
        rest = self._cut(chunk, index)
        if rest is not None:
            behind.append(rest)
        if behind:
            self._arrive(lambda: self._put_back(behind[::-1]))

    def _cut(self, chunk: Chunk, index: int) -> Chunk | None:
        """Cut off what waits behind the slow item that runs in a chunk, if one does."""
        slow = self._work.slow_seconds
        for number, place in enumerate(chunk.slow):
            ends = (place + 1) * chunk.each + (number + 1) * slow
            if self._now < chunk.began + ends and place + 1 < chunk.count:
                if self._now < chunk.began + ends - slow:
                    return None
                rest = Chunk(chunk.first + place + 1, chunk.count - place - 1)
                chunk.count, chunk.takes = place + 1, self._costs.worker_chunk + ends
                self._await_end(chunk, index)
                return rest
        return None

    # ------------------------------------------------------------ deaths

    def _await_death(self, index: int) -> None:
        if self._lifetime < math.inf:
            lived = self._fate.expovariate(1 / self._lifetime)
            self._at(self._now + lived, lambda: self._die(index))

    def _die(self, index: int) -> None:
        worker = self._workers[index]
        if not worker.is_alive:
            return
        chunks = list(worker.chunks)
        ran = chunks.pop(0) if worker.is_running else None
        worker.chunks.clear()
        worker.is_running = worker.is_alive = False
        worker.life += 1
        worker.sent = 0
        self._ranking.note(index)
        self._out.lost += 1
        heard = self._now + self._costs.verdict
        self._at(heard, lambda: self._arrive(lambda: self._bury(ran, chunks)))
        self._at(self._now + max(self._costs.restart, 1e-9), lambda: self._hire(index))

    def _hire(self, index: int) -> None:
        self._workers[index].is_alive = True
        self._ranking.note(index)
        self._await_death(index)
        self._drive()

    def _bury(self, ran: Chunk | None, waited: list[Chunk]) -> float:
        """Decide about the chunks of a dead worker."""
        self._put_back(waited)
        self._out.again += sum(chunk.count for chunk in waited)
        if ran is None:
            return 0.0
        ran.is_over = True
        first, size = ran.rest
        if ran.count == 1:
            self._blame(ran, crashes=ran.crashes + 1)
            return 0.0
        self._out.again += size
        if self._costs.is_isolating:
            self._isolate(ran)
        else:
            ones = range(first, first + size)
            self._alone.extend(Chunk(one, 1, crashes=1, alone=True) for one in ones)
        return 0.0

    def _blame(self, item: Chunk, *, crashes: int) -> None:
        if crashes >= rules.MOST_CRASHES:
            self._out.failed += 1
            self._out.ran += 1
            self._there -= 1
            self._deliver(Range(item.first, 1))
            return
        self._out.again += 1
        self._alone.append(Chunk(item.first, 1, crashes=crashes, alone=True))

    def _isolate(self, ran: Chunk) -> None:
        """Run the item alone that ran; those before it are done, but had not been reported."""
        at = ran.first + self._random.randrange(ran.count)
        self._alone.append(Chunk(at, 1, crashes=1, alone=True))
        parts = Range(ran.first, at - ran.first), Range(at + 1, ran.first + ran.count - at - 1)
        self._put_back([Chunk(*part) for part in parts if part.size])
