"""The scheduler for workers: hands them segments and items as soon as what these need is there.

It lives in the caller's thread, for one run or one map, and is the only one who submits: a worker
never waits for the workers that it is one of, so nothing here can deadlock. Whatever happens
reaches it as a message in its inbox.
"""

from __future__ import annotations

import sys
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any

from hypernodes._cancel import CANCELLATION, Cancellation
from hypernodes._engine.core import Core
from hypernodes._engine.inbox import Inbox
from hypernodes._engine.interrupts import Deferral
from hypernodes._engine.kernel import NO_ITEM, PipelineExecutionEngine
from hypernodes._engine.stream import Handful, Stream, handed_over, handing

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Hashable, Iterable, Mapping

    from hypernodes._engine.failure import Given, Outcome
    from hypernodes._engine.frame import Frame
    from hypernodes._engine.jobs import MapJob
    from hypernodes._engine.plan import Inner
    from hypernodes._engine.segments import Segment
    from hypernodes._engine.workers import Workers


class Scheduler(Core):
    """Runs plans on the workers of one executor.

    Args:
        executor: Whose workers they are.
        workers: The workers.
        inline: Whether a segment that is alone ready runs in the caller's thread.
    """

    def __init__(self, executor: Hashable, workers: Workers, *, inline: bool = True) -> None:
        super().__init__(most_frames=2 * workers.size + 8)
        self._inline = inline
        self._inbox = Inbox()
        self._away = 0
        self._cancellation: Cancellation | None = None
        self._size = workers.size
        self._crew = workers.crew(executor, self._inbox.put)

    def run(self, engine: PipelineExecutionEngine, inputs: Mapping[str, Any]) -> Outcome:
        """Run a plan once."""
        outcome: list[Outcome] = []
        present = engine.present(None)
        frame = engine.frame(inputs, NO_ITEM, None, outcome.append, witness=present)
        try:
            self._start(frame)
            self._launch()
            with self._inbox.open(), self._inbox.looking(self._crew.look if present else None):
                while not outcome:
                    self._inbox.handle()
                    self._launch()
        finally:
            self._close(frame, over=bool(outcome) and isinstance(outcome[0], dict))
        return outcome[0]

    @handing
    def map(
        self,
        engine: PipelineExecutionEngine,
        inputs: Mapping[str, Any],
        items: Iterable[Mapping[str, Any]],
        known: int = 0,
        *,
        ordered: bool,
    ) -> Generator[Handful, None, None]:
        """Run a plan for each of `items`; yield indexes and outcomes, in order or as they finish.

        Items are taken a bounded number ahead of the consumer: few at first, unless they are known
        to be at hand, more where workers run dry. Closing what is returned drops what has not
        started.
        """
        crew = self._crew
        stream = Stream(
            items,
            ahead=max(2 * self._size, min(known, crew.at_hand)),
            ordered=ordered,
            patience=crew.patience,
            farthest=crew.farthest,
            at_hand=known,
            by_columns=crew.takes_columns,
        )
        batch = stream.take()
        most = min(stream.most, known or sys.maxsize)
        job = self._job(engine, inputs, stream, most, engine.entrance())
        add, receive = partial(self._add, job), partial(self._receive, stream)
        look = self._crew.look if job.enter else None
        with Deferral(), self._inbox.open(), self._inbox.looking(look):
            close = lambda: self._close(job, over=stream.is_done)  # noqa: E731
            yield from handed_over(stream, batch, add, receive, close)

    # ------------------------------------------------------------ messages

    def _receive(self, stream: Stream) -> None:
        """Handle what has come; wait for something where there is nothing else to do."""
        self._launch()
        for _ in self._inbox.messages(wait=stream.must_wait):
            self._launch()

    def _close(self, work: Frame | MapJob, *, over: bool) -> None:
        """Drop what has not started, stop what waits; what runs on is not waited for."""
        self._ready.clear()
        work.close()
        self._crew.close(over=over)
        if self._cancellation is not None and not over:
            self._cancellation.ask()

    # ------------------------------------------------------------ segments

    @property
    def _is_alone(self) -> bool:
        waiting = self._ready or self._leaving or self._away
        return not waiting and self._crew.is_idle

    def _compute(self, frame: Frame, segment: Segment) -> None:
        settle = partial(self._settle, frame, segment)
        self._crew.run_segment(frame, segment, settle, alone=self._inline and self._is_alone)

    def _send_away(self, frame: Frame, segment: Segment, inner: Inner) -> None:
        values = frame.arguments(segment)
        attempt = partial(
            frame.engine.attempt_segment,
            segment.index,
            values,
            frame.index,
            witness=frame.witness,
        )
        if self._is_alone:
            self._settle(frame, segment, attempt())
            return
        self._away += 1
        if self._cancellation is None:
            self._cancellation = Cancellation(between_steps=True)
        context = copy_context()
        context.run(CANCELLATION.set, self._cancellation)
        fetch = partial(self._fetch, frame, segment, attempt)
        context.run(inner.ctx.config.executor.beside, fetch)

    def _fetch(self, frame: Frame, segment: Segment, attempt: Callable[[], Given]) -> None:
        try:
            given = attempt()
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
        return engine.leaves or count < self._size or not self._crew.takes_items(engine)

    def _staff(self, job: MapJob) -> None:
        self._crew.serve(job)
