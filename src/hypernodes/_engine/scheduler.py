"""The scheduler: hands segments and items to workers as soon as what they wait for is there.

It lives in the caller's thread, for one run or one map, and is the only one who submits: a worker
never waits for the workers that it is one of, so nothing here can deadlock. Whatever happens
reaches it as a message in its inbox.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from contextvars import copy_context
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from hypernodes._engine.frame import Frame
from hypernodes._engine.inner import items_of
from hypernodes._engine.jobs import Collector, Entry, MapJob, Stream
from hypernodes._engine.kernel import NO_ITEM, PipelineExecutionEngine
from hypernodes._engine.workers import OCCUPIED, Workers, closed_error

if TYPE_CHECKING:
    from concurrent import futures

    from hypernodes._engine.failure import Given, Outcome
    from hypernodes._engine.plan import Inner, Step
    from hypernodes._engine.segments import Segment

Message = Callable[[], None]


class Scheduler:
    """Runs plans on the workers of one executor.

    Args:
        executor: Whose workers they are.
        workers: The workers.
        inline: Whether a segment that is alone ready runs in the caller's thread.
    """

    def __init__(self, executor: Hashable, workers: Workers, *, inline: bool = True) -> None:
        self._inline = inline
        self._workers = workers
        self._inbox: SimpleQueue[Message] = SimpleQueue()
        self._ready: deque[tuple[Frame, Segment]] = deque()
        self._in_flight: set[futures.Future[Any]] = set()
        self._away = 0
        self._context = copy_context()
        self._context.run(OCCUPIED.set, OCCUPIED.get() | {executor})

    def run(self, engine: PipelineExecutionEngine, inputs: Mapping[str, Any]) -> Outcome:
        """Run a plan once."""
        outcome: list[Outcome] = []
        frame = Frame(engine, inputs, NO_ITEM, None, outcome.append)
        try:
            self._start(frame)
            self._launch()
            while not outcome:
                self._inbox.get()()
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
        size = self._workers.size
        stream = Stream(items, ahead=2 * size, ordered=ordered)
        entries = stream.take()
        job = MapJob(engine, inputs, stream.put, apart=engine.leaves or len(entries) < size)
        try:
            while entries or not stream.is_done:
                self._add(job, entries)
                self._receive(stream)
                yield from stream.ready()
                entries = stream.take()
        finally:
            self._close(job)

    # ------------------------------------------------------------ messages

    def _receive(self, stream: Stream) -> None:
        """Handle what has come; wait for something where there is nothing else to do."""
        self._launch()
        if stream.outstanding and not stream.is_open and self._inbox.empty():
            self._inbox.get()()
        while not self._inbox.empty():
            self._inbox.get()()
            self._launch()

    def _close(self, work: Frame | MapJob) -> None:
        """Drop what has not started; what runs on is not waited for."""
        self._ready.clear()
        work.close()
        for future in tuple(self._in_flight):
            future.cancel()
        self._in_flight.clear()

    # ------------------------------------------------------------ frames and their segments

    def _start(self, frame: Frame) -> None:
        self._ready.extend((frame, segment) for segment in frame.first())

    def _launch(self) -> None:
        """Hand out every segment that is ready."""
        while self._ready:
            frame, segment = self._ready.popleft()
            step = segment.steps[0]
            if frame.closed:
                continue
            if step.inner is None:
                self._compute(frame, segment)
            elif step.inner.elsewhere:
                self._send_away(frame, segment, step.inner)
            else:
                self._open_map(frame, segment, step, step.inner)

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

    def _settle(self, frame: Frame, segment: Segment, given: Given) -> None:
        self._ready.extend((frame, follower) for follower in frame.settle(segment, given))

    def _send_away(self, frame: Frame, segment: Segment, inner: Inner) -> None:
        """Let the executor of a step's own run it, beside this one's work if there is any."""
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

    def _open_map(self, frame: Frame, segment: Segment, step: Step, inner: Inner) -> None:
        """Start the map inside a step; its outcomes settle the segment."""
        try:
            items = items_of(inner, [frame.values[argument.slot] for argument in step.arguments])
            entries = list(enumerate(items.items))
        except Exception as error:  # noqa: BLE001 - an input that cannot be mapped over
            self._settle(frame, segment, frame.engine.failure(error, step, frame.index))
            return
        collector = Collector(frame, segment, len(entries), partial(self._settle, frame, segment))
        if not entries:
            collector.finish()
            return
        engine = inner.engine(items.shared)
        apart = engine.leaves or len(entries) < self._workers.size
        job = MapJob(engine, items.shared, collector.put, apart=apart)
        frame.jobs.append(job)
        self._add(job, entries)

    def _add(self, job: MapJob, entries: Iterable[Entry]) -> None:
        if job.apart:
            for index, item in entries:
                self._start(job.frame(index, item))
        else:
            job.pending.extend(entries)
            self._staff(job)

    def _staff(self, job: MapJob) -> None:
        """Put idle workers on the items that wait."""
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
