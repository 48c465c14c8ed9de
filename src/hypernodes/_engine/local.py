"""Workers that share this process's memory: they take items from a common queue."""

from __future__ import annotations

from abc import abstractmethod
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any

from hypernodes._engine.workers import OCCUPIED, Crew, Workers, closed_error

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from concurrent import futures

    from hypernodes._engine.failure import Given
    from hypernodes._engine.frame import Frame
    from hypernodes._engine.jobs import MapJob
    from hypernodes._engine.segments import Segment
    from hypernodes._engine.workers import Post


class LocalWorkers(Workers):
    """Workers that can call what lives in this process."""

    @abstractmethod
    def submit(self, work: Callable[..., Any], *args: Any) -> futures.Future[Any]:
        """Start `work(*args)` as soon as there is room."""

    def crew(self, executor: Hashable, post: Post) -> Crew:
        return _LocalCrew(self, executor, post)


class _LocalCrew(Crew):
    def __init__(self, workers: LocalWorkers, executor: Hashable, post: Post) -> None:
        self._workers = workers
        self._post = post
        self._in_flight: set[futures.Future[None]] = set()
        self._context = copy_context()
        self._context.run(OCCUPIED.set, OCCUPIED.get() | {executor})

    @property
    def is_idle(self) -> bool:
        return not self._in_flight

    def run_segment(
        self, frame: Frame, segment: Segment, then: Callable[[Given], None], *, alone: bool
    ) -> None:
        arguments = segment.index, frame.arguments(segment), frame.index
        if alone:  # right here: a worker would only add its own time
            then(frame.engine.attempt_segment(*arguments))
        else:
            self._submit(then, frame.engine.attempt_segment, *arguments)

    def serve(self, job: MapJob) -> None:
        for _ in range(min(self._workers.size - job.drains, len(job.pending))):
            job.drains += 1
            self._submit(partial(self._drained, job), job.drain, self._post)

    def _drained(self, job: MapJob, _: None) -> None:
        job.drains -= 1
        self.serve(job)

    def close(self) -> None:
        for future in tuple(self._in_flight):
            future.cancel()

    def _submit(self, then: Callable[[Any], None], work: Callable[..., Any], *args: Any) -> None:
        future = self._workers.submit(self._context.copy().run, work, *args)
        self._in_flight.add(future)
        future.add_done_callback(lambda done: self._post(partial(self._take, done, then)))

    def _take(self, future: futures.Future[Any], then: Callable[[Any], None]) -> None:
        self._in_flight.discard(future)
        if future.cancelled():
            raise closed_error()
        then(future.result())
