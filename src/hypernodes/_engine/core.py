"""The core of scheduling: which segments and items can run, wherever that is decided.

It never blocks and knows neither threads nor loops. What is ready goes to the subclass that says
where things run: in the caller's thread that waits (`scheduler`), or on an event loop (`tasks`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any

from hypernodes._engine.failure import Failure
from hypernodes._engine.jobs import Collector, LookedUp, MapJob, Receiver
from hypernodes._engine.observing.inside import tell_inner_started
from hypernodes._engine.twins import Twins
from hypernodes.exceptions import SerializationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from hypernodes._engine.batches import Batch
    from hypernodes._engine.failure import Given, Outcome
    from hypernodes._engine.frame import Frame
    from hypernodes._engine.kernel import PipelineExecutionEngine
    from hypernodes._engine.observing.passes import Entrance
    from hypernodes._engine.plan import Inner, Step
    from hypernodes._engine.segments import Segment


class Core(ABC):
    """Takes frames and maps apart into what can run now, and puts together what they give.

    Args:
        most_frames: How many items of one map are frames at the same time.
    """

    def __init__(self, most_frames: int) -> None:
        self._most_frames = most_frames
        self._ready: deque[tuple[Frame, Segment]] = deque()
        self._leaving: deque[tuple[Frame, Segment, Inner]] = deque()

    # ------------------------------------------------------------ where things run

    @abstractmethod
    def _compute(self, frame: Frame, segment: Segment) -> None:
        """Run a segment and settle it."""

    @abstractmethod
    def _send_away(self, frame: Frame, segment: Segment, inner: Inner) -> None:
        """Let the executor of a step's own run it, beside this one's work if there is any."""

    @abstractmethod
    def _staff(self, job: MapJob) -> None:
        """Put idle workers on the items that wait."""

    @abstractmethod
    def _is_apart(self, engine: PipelineExecutionEngine, count: int) -> bool:
        """Return whether each of `count` items is to be a frame of its own."""

    def _look_up(self, read: Callable[[], Any], then: Callable[[Any], None]) -> None:
        """Call `then` with what `read` gives, which may ask a cache."""
        then(read())

    def _read_items(
        self, values: Iterable[Any], read: Callable[[], Any], then: Callable[[Any], None]
    ) -> None:
        """Call `then` with what `read` gives, which goes through the user's `values`."""
        del values
        then(read())

    # ------------------------------------------------------------ frames and their segments

    def _start(self, frame: Frame) -> None:
        self._ready.extend((frame, segment) for segment in frame.first())

    def _launch(self) -> None:
        """Hand out what is ready; last what another executor runs, since that may block."""
        while self._ready or self._leaving:
            while self._ready:
                frame, segment = self._ready.popleft()
                if not frame.closed:
                    self._hand_out(frame, segment, segment.steps[0])
            if self._leaving:
                frame, segment, inner = self._leaving.popleft()
                if not frame.closed:
                    self._send_away(frame, segment, inner)

    def _hand_out(self, frame: Frame, segment: Segment, step: Step) -> None:
        inner = step.inner
        if inner is not None and inner.elsewhere:
            self._leaving.append((frame, segment, inner))
        elif inner is not None and inner.map_over:
            self._open_map(frame, segment, step, inner)
        else:
            self._compute(frame, segment)

    def _settle(self, frame: Frame, segment: Segment, given: Given) -> None:
        self._ready.extend((frame, follower) for follower in frame.settle(segment, given))

    # ------------------------------------------------------------ maps

    def _open_map(self, frame: Frame, segment: Segment, step: Step, inner: Inner) -> None:
        """Start the map inside a step; its outcomes settle the segment."""
        taken = frame.arguments(segment)
        values = [taken[argument.slot] for argument in step.arguments]
        read = partial(_read, frame, step, inner, values)
        self._read_items(values, read, partial(self._map_inside, frame, segment, inner, values))

    def _map_inside(
        self,
        frame: Frame,
        segment: Segment,
        inner: Inner,
        values: list[Any],
        found: tuple[Mapping[str, Any], Batch] | Given,
    ) -> None:
        if not isinstance(found, tuple):
            self._settle(frame, segment, found)
            return
        shared, batch = found
        step, engine = segment.steps[0], inner.engine(shared)
        tell_inner_started(frame.witness, step, len(batch), values)
        enter = None if frame.witness is None else frame.witness.entrance(step.index, engine)
        collector = Collector(frame, segment, len(batch), partial(self._settle, frame, segment))
        if not batch:
            collector.finish()
            return
        job = self._job(engine, shared, collector, len(batch), enter)
        frame.jobs.append(job)
        try:
            self._add(job, batch)
        except SerializationError as error:  # of what the items share, which this run has made
            self._settle(frame, segment, frame.engine.failure(error, segment.steps[0], frame.index))

    def _job(
        self,
        engine: PipelineExecutionEngine,
        inputs: Mapping[str, Any],
        receiver: Receiver,
        count: int,
        enter: Entrance | None = None,
    ) -> MapJob:
        apart = self._is_apart(engine, count)
        open_frames = self._open_frames if apart else None
        if not engine.looks_up:
            return MapJob(engine, inputs, receiver, open_frames, enter)
        twins = Twins(receiver, engine.identity)
        job = MapJob(engine, inputs, twins, open_frames, enter)
        twins.free = partial(self._reunite, job)
        job.twins = twins
        return job

    def _add(self, job: MapJob, batch: Batch) -> None:
        if job.twins is None:
            self._enqueue(job, batch)
        else:
            then = partial(self._looked_up, job, job.twins.hold)
            self._look_up(partial(job.look_up, batch), then)

    def _reunite(self, job: MapJob, batch: Batch, outcome: Outcome) -> None:
        """Let items take what an equal one has left, or else run."""
        if isinstance(outcome, Failure):
            self._enqueue(job, batch)
        else:
            self._look_up(partial(job.look_up, batch), partial(self._looked_up, job, dict))

    def _looked_up(
        self,
        job: MapJob,
        pick: Callable[[Batch], Batch],
        found: LookedUp,
    ) -> None:
        hits, rest, news = found
        if not job.closed:
            for tell in news:
                tell()
            job.receive(tuple(hits), tuple(hits.values()))
            self._enqueue(job, pick(rest))

    def _enqueue(self, job: MapJob, batch: Batch) -> None:
        if job.closed:
            return
        job.add(batch)
        if not job.pending:
            return
        if job.apart:
            self._open_frames(job)
        else:
            self._staff(job)

    def _open_frames(self, job: MapJob) -> None:
        """Start items; the others as these end."""
        while job.pending and job.frames < self._most_frames:
            frame = job.open_frame()
            self._start(frame)


def _read(
    frame: Frame, step: Step, inner: Inner, values: Iterable[Any]
) -> tuple[Mapping[str, Any], Batch] | Given:
    """Return the shared inputs and the items of a mapped step, or the failure to read them."""
    try:
        return frame.items(step, inner, values)
    except Exception as error:  # noqa: BLE001 - an input that cannot be mapped over
        return frame.engine.failure(error, step, frame.index)
