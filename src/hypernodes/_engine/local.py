"""Workers that share this process's memory: they take items from a common queue."""

from __future__ import annotations

import atexit
import threading
from abc import abstractmethod
from collections import deque
from concurrent import futures
from contextvars import copy_context
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakSet, ref

from hypernodes._cancel import CANCELLATION, Cancellation, result_of
from hypernodes._engine.jobs import TURN, Done
from hypernodes._engine.observing.posted import posting
from hypernodes._engine.threads import DaemonThreads
from hypernodes._engine.workers import OCCUPIED, Crew, Workers, closed_error
from hypernodes._loop import GRACE

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from hypernodes._engine.failure import Given
    from hypernodes._engine.frame import Frame
    from hypernodes._engine.jobs import MapJob
    from hypernodes._engine.kernel import PipelineExecutionEngine
    from hypernodes._engine.observing.follower import Follower
    from hypernodes._engine.observing.witness import Witness
    from hypernodes._engine.segments import Segment
    from hypernodes._engine.workers import Post


_ABANDONED: Final[WeakSet[futures.Future[None]]] = WeakSet()
"""Work that was told to stop and that nobody waits for."""


@atexit.register
def _give_a_moment() -> None:
    """Let coroutines that were cancelled by Ctrl-C or a failure tidy up before the program ends."""
    futures.wait(tuple(_ABANDONED), 2 * GRACE)


class LocalWorkers(Workers):
    """Workers that can call what lives in this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # No `WeakSet`: it would lose an interrupt that comes while it lets go of something.
        self._crews: dict[int, ref[_LocalCrew]] = {}

    @abstractmethod
    def submit(self, work: Callable[..., Any], *args: Any) -> futures.Future[Any]:
        """Start `work(*args)` as soon as there is room."""

    def replace(self, future: futures.Future[Any]) -> None:
        """Give the place of a call that nobody waits for to others; by default, nothing is done."""
        del future

    def crew(self, executor: Hashable, post: Post) -> Crew:
        crew = _LocalCrew(self, executor, post)
        with self._lock:
            self._crews[id(crew)] = ref(crew)
        return crew

    def dismiss(self, crew: Crew) -> None:
        """Forget a crew whose run or map has ended."""
        with self._lock:
            self._crews.pop(id(crew), None)

    def close(self) -> None:
        with self._lock:
            crews = [known() for known in self._crews.values()]
        for crew in crews:
            if crew is not None:
                crew.abandon()


class ThreadWorkers(LocalWorkers):
    """Threads of this process.

    Args:
        size: How many there are at the most.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size = size
        self._pool = DaemonThreads(size, "hypernodes-thread")

    @property
    def size(self) -> int:
        return self._size

    def submit(self, work: Callable[..., Any], *args: Any) -> futures.Future[Any]:
        try:
            return self._pool.submit(work, *args)
        except RuntimeError as error:
            raise closed_error() from error

    def replace(self, future: futures.Future[Any]) -> None:
        self._pool.replace(future)

    def close(self) -> None:
        super().close()
        self._pool.shutdown(wait=True, cancel_futures=True)


class _LocalCrew(Crew):
    """Workers that take segments and items from common queues, as long as there are any."""

    def __init__(self, workers: LocalWorkers, executor: Hashable, post: Post) -> None:
        self._workers = workers
        self._post = post
        self._in_flight: set[futures.Future[None]] = set()
        self._context = copy_context()
        self._context.run(OCCUPIED.set, OCCUPIED.get() | {executor})
        self._cancellation = Cancellation(between_steps=True)
        self._context.run(CANCELLATION.set, self._cancellation)
        self._segments: deque[Callable[[], None]] = deque()
        self._unsettled = 0
        self._drains = 0
        self._mapping = 0
        self._done = Done()
        self._observed: dict[MapJob, None] = {}

    @property
    def is_idle(self) -> bool:
        return not self._unsettled and not self._mapping

    def run_segment(
        self, frame: Frame, segment: Segment, then: Callable[[Given], None], *, alone: bool
    ) -> None:
        attempt = partial(
            frame.engine.attempt_segment,
            segment.index,
            frame.arguments(segment),
            frame.index,
            frame.is_open,
        )
        if alone:  # right here: a worker would only add its own time
            then(attempt(witness=frame.witness))
            return
        self._unsettled += 1
        if frame.witness is not None:
            attempt = partial(attempt, witness=self._witness_of(frame.witness, frame.engine))
        self._segments.append(partial(self._attempt, attempt, then))
        if self._drains < self._workers.size:
            self._drains += 1
            self._submit(self._drained, self._drain)

    def _witness_of(self, witness: Follower, engine: PipelineExecutionEngine) -> Witness:
        if engine.plan.inside is not None:  # whoever has all of the item tells of it at once
            return witness
        return posting(witness, self._done.keep)

    @property
    def look(self) -> Callable[[], None]:
        return self._collect

    def _collect(self) -> None:
        self._done.collect()
        for job in tuple(self._observed):
            if job.closed:
                del self._observed[job]
            else:
                job.collect()

    def serve(self, job: MapJob) -> None:
        if job.enter is not None:
            self._observed[job] = None
        for _ in range(min(self._workers.size - job.drains, len(job.pending))):
            job.drains += 1
            self._mapping += 1
            drain = partial(job.drain, is_looked_after=True)
            self._submit(partial(self._mapped, job), drain, self._post)

    def abandon(self) -> None:
        """End the run or map, because the workers are closed under it."""
        self._segments.clear()
        self._post(_raise_closed)

    def close(self, *, over: bool) -> None:
        self._workers.dismiss(self)
        self._segments.clear()
        for future in tuple(self._in_flight):
            future.cancel()
        if not over:
            self._cancellation.ask()
            _ABANDONED.update(self._in_flight)
            for future in tuple(self._in_flight):
                if future.running():
                    self._workers.replace(future)

    # ------------------------------------------------------------ on workers

    def _drain(self) -> None:
        """Run segments until none waits or the turn is over."""
        end = perf_counter() + TURN
        while perf_counter() < end:
            try:
                run = self._segments.popleft()
            except IndexError:
                return
            run()

    def _attempt(self, attempt: Callable[[], Given], then: Callable[[Given], None]) -> None:
        given = self._context.copy().run(attempt)
        self._done.add(partial(self._settle, then, given), self._post)

    # ------------------------------------------------------------ in the scheduler's thread

    def _settle(self, then: Callable[[Given], None], given: Given) -> None:
        self._unsettled -= 1
        then(given)

    def _drained(self) -> None:
        self._drains -= 1
        if self._segments:
            self._drains += 1
            self._submit(self._drained, self._drain)

    def _mapped(self, job: MapJob) -> None:
        job.drains -= 1
        self._mapping -= 1
        self.serve(job)

    def _submit(self, then: Callable[[], None], work: Callable[..., None], *args: Any) -> None:
        future = self._workers.submit(self._context.copy().run, work, *args)
        self._in_flight.add(future)
        future.add_done_callback(lambda done: self._post(partial(self._take, done, then)))

    def _take(self, future: futures.Future[None], then: Callable[[], None]) -> None:
        self._in_flight.discard(future)
        if future.cancelled():
            raise closed_error()
        result_of(future)
        then()


def _raise_closed() -> None:
    raise closed_error()
