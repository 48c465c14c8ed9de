"""The core of scheduling: which segments and items can run, wherever that is decided.

It never blocks and knows neither threads nor loops. What is ready goes to the subclass that says
where things run: in the caller's thread that waits (`scheduler`), or on an event loop (`tasks`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any

from hypernodes._engine.inner import items_of
from hypernodes._engine.jobs import Batch, Collector, MapJob, Receiver
from hypernodes.exceptions import SerializationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from hypernodes._engine.failure import Given
    from hypernodes._engine.frame import Frame
    from hypernodes._engine.kernel import PipelineExecutionEngine
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
        self._read_items(values, read, partial(self._map_inside, frame, segment, inner))

    def _map_inside(
        self,
        frame: Frame,
        segment: Segment,
        inner: Inner,
        found: tuple[Mapping[str, Any], Batch] | Given,
    ) -> None:
        if not isinstance(found, tuple):
            self._settle(frame, segment, found)
            return
        shared, batch = found
        collector = Collector(frame, segment, len(batch), partial(self._settle, frame, segment))
        if not batch:
            collector.finish()
            return
        job = self._job(inner.engine(shared), shared, collector, len(batch))
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
    ) -> MapJob:
        apart = self._is_apart(engine, count)
        return MapJob(engine, inputs, receiver, self._open_frames if apart else None)

    def _add(self, job: MapJob, batch: Batch) -> None:
        job.add(batch)
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
        items = items_of(inner, values)
        return items.shared, dict(enumerate(items.items))
    except Exception as error:  # noqa: BLE001 - an input that cannot be mapped over
        return frame.engine.failure(error, step, frame.index)
