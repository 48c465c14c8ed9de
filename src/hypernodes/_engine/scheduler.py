"""The scheduler for workers: hands them segments and items as soon as what these need is there.

It lives in the caller's thread, for one run or one map, and is the only one who submits: a worker
never waits for the workers that it is one of, so nothing here can deadlock. Whatever happens
reaches it as a message in its inbox.
"""

from __future__ import annotations

from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any

from hypernodes._cancel import CANCELLATION, Cancellation
from hypernodes._engine.core import Core
from hypernodes._engine.frame import Frame
from hypernodes._engine.inbox import Inbox
from hypernodes._engine.jobs import MapJob, Stream, handed_over
from hypernodes._engine.kernel import NO_ITEM, PipelineExecutionEngine
from hypernodes._engine.workers import OCCUPIED, Workers, closed_error

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Mapping
    from concurrent import futures

    from hypernodes._engine.failure import Given, Outcome
    from hypernodes._engine.plan import Inner
    from hypernodes._engine.segments import Segment


class Scheduler(Core):
    """Runs plans on the workers of one executor.

    Args:
        executor: Whose workers they are.
        workers: The workers.
        inline: Whether a segment that is alone ready runs in the caller's thread.
    """

    def __init__(self, executor: Hashable, workers: Workers, *, inline: bool = True) -> None:
        super().__init__()
        self._inline = inline
        self._workers = workers
        self._inbox = Inbox()
        self._in_flight: set[futures.Future[Any]] = set()
        self._away = 0
        self._context = copy_context()
        self._context.run(OCCUPIED.set, OCCUPIED.get() | {executor})
        self._cancellation = Cancellation(between_steps=True)
        self._context.run(CANCELLATION.set, self._cancellation)

    def run(self, engine: PipelineExecutionEngine, inputs: Mapping[str, Any]) -> Outcome:
        """Run a plan once."""
        outcome: list[Outcome] = []
        frame = Frame(engine, inputs, NO_ITEM, None, outcome.append)
        try:
            self._start(frame)
            self._launch()
            with self._inbox.open():
                while not outcome:
                    self._inbox.handle()
                    self._launch()
        finally:
            self._close(frame)
        return outcome[0]

    def map(
        self,
        engine: PipelineExecutionEngine,
        inputs: Mapping[str, Any],
        items: Iterator[Mapping[str, Any]],
        *,
        ordered: bool,
    ) -> Iterator[tuple[int, Outcome]]:
        """Run a plan for each of `items`; yield indexes and outcomes, in order or as they finish.

        Items are taken a bounded number ahead of the consumer: few at first, more where workers run
        dry. Closing the iterator drops what has not started.
        """
        stream = Stream(items, ahead=2 * self._workers.size, ordered=ordered)
        entries = stream.take()
        job = self._job(engine, inputs, stream.put, len(entries))
        add, receive = partial(self._add, job), partial(self._receive, stream)
        with self._inbox.open():
            yield from handed_over(stream, entries, add, receive, partial(self._close, job))

    # ------------------------------------------------------------ messages

    def _receive(self, stream: Stream) -> None:
        """Handle what has come; wait for something where there is nothing else to do."""
        self._launch()
        for _ in self._inbox.messages(wait=stream.must_wait):
            self._launch()

    def _close(self, work: Frame | MapJob) -> None:
        """Drop what has not started, stop what waits; what runs on is not waited for."""
        self._ready.clear()
        work.close()
        for future in tuple(self._in_flight):
            future.cancel()
        self._in_flight.clear()
        self._cancellation.ask()

    # ------------------------------------------------------------ segments

    @property
    def _is_alone(self) -> bool:
        return not self._ready and not self._in_flight and not self._away

    def _compute(self, frame: Frame, segment: Segment) -> None:
        """Run a segment: here if there is nothing to run beside it, else on a worker."""
        if self._inline and self._is_alone:
            self._settle(frame, segment, self._attempt(frame, segment))
            return
        values = frame.arguments(segment)
        settle = partial(self._settle, frame, segment)
        self._submit(settle, frame.engine.attempt_segment, segment.index, values, frame.index)

    @staticmethod
    def _attempt(frame: Frame, segment: Segment) -> Given:
        values = frame.arguments(segment)
        return frame.engine.attempt_segment(segment.index, values, frame.index)

    def _send_away(self, frame: Frame, segment: Segment, inner: Inner) -> None:
        if self._is_alone:
            self._settle(frame, segment, self._attempt(frame, segment))
            return
        self._away += 1
        inner.ctx.config.executor.beside(partial(self._fetch, frame, segment))

    def _fetch(self, frame: Frame, segment: Segment) -> None:
        try:
            given = self._attempt(frame, segment)
        except BaseException as error:  # noqa: BLE001 - raised again where the run can end
            self._inbox.put(partial(self._raise, error))
        else:
            self._inbox.put(partial(self._come_back, frame, segment, given))

    def _come_back(self, frame: Frame, segment: Segment, given: Given) -> None:
        self._away -= 1
        self._settle(frame, segment, given)

    @staticmethod
    def _raise(error: BaseException) -> None:
        raise error

    # ------------------------------------------------------------ maps

    def _is_apart(self, engine: PipelineExecutionEngine, count: int) -> bool:
        return engine.leaves or count < self._workers.size

    def _staff(self, job: MapJob) -> None:
        for _ in range(min(self._workers.size - job.drains, len(job.pending))):
            job.drains += 1
            self._submit(partial(self._drained, job), job.drain, self._inbox.put)

    def _drained(self, job: MapJob, _: None) -> None:
        job.drains -= 1
        self._staff(job)

    # ------------------------------------------------------------ workers

    def _submit(self, then: Callable[[Any], None], call: Callable[..., Any], *args: Any) -> None:
        """Give a call to a worker; `then` is called here with what it returns."""
        future = self._workers.submit(self._context.copy().run, call, *args)
        self._in_flight.add(future)
        future.add_done_callback(lambda done: self._inbox.put(partial(self._take, done, then)))

    def _take(self, future: futures.Future[Any], then: Callable[[Any], None]) -> None:
        self._in_flight.discard(future)
        if future.cancelled():
            raise closed_error()
        then(future.result())
