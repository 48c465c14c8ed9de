"""The scheduler: hands segments and items to workers as soon as what they wait for is there.

It lives in the caller's thread, for one run or one map, and is the only one who submits: a worker
never waits for the workers that it is one of, so nothing here can deadlock. Whatever happens
reaches it as a message in its inbox.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from hypernodes._engine.frame import Frame
from hypernodes._engine.inner import items_of
from hypernodes._engine.jobs import Collector, Entry, MapJob, Stream
from hypernodes._engine.kernel import NO_ITEM, PipelineExecutionEngine

if TYPE_CHECKING:
    from hypernodes._engine.failure import Given, Outcome
    from hypernodes._engine.plan import Inner, Step
    from hypernodes._engine.segments import Segment
    from hypernodes._engine.workers import Workers

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
        self._inbox: SimpleQueue[Message] = SimpleQueue()
        self._ready: deque[tuple[Frame, Segment]] = deque()
        self._away = 0
        self._size = workers.size
        self._crew = workers.crew(executor, self._inbox.put)

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
        size, crew = self._size, self._crew
        stream = Stream(
            items,
            ahead=2 * size,
            ordered=ordered,
            patience=crew.patience,
            farthest=crew.farthest,
        )
        entries = stream.take()
        job = MapJob(engine, inputs, stream, apart=engine.leaves or len(entries) < size)
        try:
            while entries or not stream.is_done:
                self._add(job, entries)
                self._receive(stream)
                yield from stream.ready()
                entries = stream.take()
            stream.finish()
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
        self._crew.close()

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
        return not self._ready and not self._away and self._crew.is_idle

    def _compute(self, frame: Frame, segment: Segment) -> None:
        settle = partial(self._settle, frame, segment)
        self._crew.run_segment(frame, segment, settle, alone=self._inline and self._is_alone)

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
            taken = frame.arguments(segment)
            items = items_of(inner, [taken[argument.slot] for argument in step.arguments])
            entries = list(enumerate(items.items))
        except Exception as error:  # noqa: BLE001 - an input that cannot be mapped over
            self._settle(frame, segment, frame.engine.failure(error, step, frame.index))
            return
        collector = Collector(frame, segment, len(entries), partial(self._settle, frame, segment))
        if not entries:
            collector.finish()
            return
        engine = inner.engine(items.shared)
        apart = engine.leaves or len(entries) < self._size
        job = MapJob(engine, items.shared, collector, apart=apart)
        frame.jobs.append(job)
        self._add(job, entries)

    def _add(self, job: MapJob, entries: Iterable[Entry]) -> None:
        if job.apart:
            for index, item in entries:
                self._start(job.frame(index, item))
        else:
            job.pending.extend(entries)
            self._crew.serve(job)
