"""The scheduler for coroutines: the core on a background loop, with threads for plain functions."""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import Callable, Generator, Hashable, Iterable, Mapping, Sized
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NoReturn
from weakref import WeakSet

from hypernodes._aside import in_thread
from hypernodes._cancel import CANCELLATION, Cancellation
from hypernodes._engine.core import Core
from hypernodes._engine.inbox import Inbox
from hypernodes._engine.interrupts import Deferral
from hypernodes._engine.jobs import Receiver
from hypernodes._engine.kernel import NO_ITEM, PipelineExecutionEngine
from hypernodes._engine.local import LocalWorkers
from hypernodes._engine.observing.runs import tell_aside
from hypernodes._engine.slots import HELD, Share, Slots
from hypernodes._engine.stream import Handed, Stream, handed_over, handing
from hypernodes._engine.threads import DaemonThreads
from hypernodes._engine.workers import MOST_AHEAD, OCCUPIED, closed_error
from hypernodes._lending import place_lent
from hypernodes._loop import GRACE, BackgroundLoop

if TYPE_CHECKING:
    from concurrent import futures

    from hypernodes._engine.batches import Batch
    from hypernodes._engine.failure import Outcome
    from hypernodes._engine.frame import Frame
    from hypernodes._engine.jobs import MapJob, Message
    from hypernodes._engine.plan import Inner
    from hypernodes._engine.segments import Segment
    from hypernodes._engine.stream import Handful


PATIENCE: Final = 0.005


class LoopWorkers(LocalWorkers):
    """What runs for equal executors: slots for nodes on each loop, and threads.

    Args:
        slots: How many nodes may be under way at once.
        threads: How many of them in threads.
    """

    def __init__(self, slots: int, threads: int) -> None:
        super().__init__()
        self._size = slots
        self.threads = threads
        self._pool = DaemonThreads(threads, "hypernodes-async")
        self._slots: dict[BackgroundLoop, Slots] = {}
        self._schedulers: WeakSet[TaskScheduler] = WeakSet()

    @property
    def size(self) -> int:
        return self._size

    def slots(self, host: BackgroundLoop) -> Slots:
        """Return the slots of those who run on `host`."""
        return self._slots.setdefault(host, Slots(self._size))

    def submit(self, work: Callable[..., Any], *args: Any) -> futures.Future[Any]:
        try:
            return self._pool.submit(work, *args)
        except RuntimeError as error:
            raise closed_error() from error

    def replace(self, future: futures.Future[Any]) -> None:
        self._pool.replace(future)

    def serve(self, scheduler: TaskScheduler) -> None:
        """Work for `scheduler`, until these workers are closed."""
        self._schedulers.add(scheduler)

    def close(self) -> None:
        super().close()
        for scheduler in tuple(self._schedulers):
            scheduler.abandon()
        self._pool.shutdown(wait=True, cancel_futures=True)


class TaskScheduler(Core):
    """Runs plans on a loop, for one run or map; lives in the loop's thread.

    Args:
        executor: Whose run it is.
        crew: Its slots and threads.
        host: The loop.
        fail: Called once with what ends the run: what is no `Exception`, or an error of ours.
    """

    def __init__(
        self,
        executor: Hashable,
        crew: LoopWorkers,
        host: BackgroundLoop,
        fail: Callable[[BaseException], None],
    ) -> None:
        super().__init__(most_frames=sys.maxsize)
        slots = crew.slots(host)
        self._crew = crew
        self._loop = host.loop
        self._fail = fail
        self._share = Share(slots, inside=slots in HELD.get())
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False
        self._cancellation = Cancellation(between_steps=True)
        context = copy_context()
        context.run(CANCELLATION.set, self._cancellation)
        self._on_loop = host.context(context)
        self._held = HELD.get()
        self._on_loop.run(HELD.set, self._held | {slots})
        self._in_threads = context
        crew.serve(self)
        self._in_threads.run(OCCUPIED.set, OCCUPIED.get() | {executor})

    # ------------------------------------------------------------ from outside

    def run(self, engine: PipelineExecutionEngine, inputs: Mapping[str, Any], done: Done) -> Frame:
        """Start a run."""
        frame = engine.frame(inputs, NO_ITEM, None, done, witness=engine.present(None))
        self._do(self._start, frame)
        return frame

    def map(
        self,
        engine: PipelineExecutionEngine,
        inputs: Mapping[str, Any],
        receiver: Receiver,
        count: int,
    ) -> MapJob:
        """Start a map of `count` items, at the most."""
        return self._job(engine, inputs, receiver, count, engine.entrance())

    def add(self, job: MapJob, batch: Batch) -> None:
        """Add items to a map."""
        self._do(self._add, job, batch)

    def abandon(self) -> None:
        """End the run or map, because the workers are closed under it; from any thread."""
        self._post_from_thread(partial(_raise, closed_error()))

    async def close(self, work: Frame | MapJob, *, over: bool) -> None:
        """Drop what has not started and cancel what has; give it a moment to tidy up.

        Args:
            work: What was run.
            over: Whether all has been done, so that nothing has to be stopped.
        """
        self._closed = True
        self._ready.clear()
        work.close()
        tasks = self._tasks - {_this_task()}
        if not over:
            self._cancellation.ask()
            for task in tasks:
                task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=GRACE)

    # ------------------------------------------------------------ messages

    def _do(self, call: Callable[..., None], *args: Any) -> None:
        """Make a call and launch what is ready then; the end of all that happens here."""
        if self._closed:
            return
        try:
            call(*args)
            self._launch()
        except BaseException as error:  # noqa: BLE001 - raised again where the run ends
            self._end(error)

    def _end(self, error: BaseException) -> None:
        if not self._closed:
            self._closed = True
            self._fail(error)

    def _post(self, message: Message) -> None:
        self._loop.call_soon(self._do, message)

    def _post_from_thread(self, message: Message) -> None:
        self._loop.call_soon_threadsafe(self._do, message)

    # ------------------------------------------------------------ tasks

    def _begin(self, then: Callable[[Any], None], work: Callable[..., Any], *args: Any) -> None:
        """Start `work(*args)`, a coroutine; `then` is called with what it returns."""
        coroutine = self._work(then, work, *args)
        task = self._loop.create_task(coroutine, context=self._on_loop.copy())
        self._tasks.add(task)

    async def _work(
        self, then: Callable[[Any], None], work: Callable[..., Any], *args: Any
    ) -> None:
        try:
            result = await work(*args)
        except BaseException as error:  # noqa: BLE001 - raised again where the run ends
            self._end(error)
        else:
            self._do(then, result)
        finally:
            self._tasks.remove(_this_task())

    async def _in_slot(self, work: Callable[..., Any], *args: Any) -> Any:
        slot = await self._share.take()
        try:
            return await work(*args)
        finally:
            slot.give()

    async def _in_thread(self, function: Callable[..., Any], *args: Any) -> Any:
        future = self._crew.submit(self._in_threads.copy().run, function, *args)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            if future.cancelled() and not _this_task().cancelling():
                raise closed_error() from None
            if future.running():
                self._crew.replace(future)
            raise

    # ------------------------------------------------------------ where things run

    def _compute(self, frame: Frame, segment: Segment) -> None:
        values = frame.arguments(segment)
        await_segment = partial(frame.engine.await_segment, witness=frame.witness)
        arguments = segment.index, values, frame.index, frame.is_open, self._in_thread
        self._begin(partial(self._settle, frame, segment), self._in_slot, await_segment, *arguments)

    def _send_away(self, frame: Frame, segment: Segment, inner: Inner) -> None:
        if inner.ctx.maps_on is None:  # it blocks: a thread waits for it
            self._compute(frame, segment)
            return
        values = frame.arguments(segment)
        facts = segment.index, values, frame.index
        attempt = partial(frame.engine.attempt_segment, *facts, witness=frame.witness)
        self._begin(partial(self._settle, frame, segment), self._outside, attempt)

    async def _outside(self, attempt: Callable[[], Any]) -> Any:
        """Make a call that takes none of the slots and threads, since what is in it needs them."""
        HELD.set(self._held)
        return await in_thread(attempt)

    def _is_apart(self, engine: PipelineExecutionEngine, count: int) -> bool:
        few = engine.awaits or count < self._crew.threads
        return engine.leaves or (few and engine.overlaps)

    def _staff(self, job: MapJob) -> None:
        awaits = job.engine.awaits
        size = self._crew.size if awaits else self._crew.threads
        for _ in range(min(size - job.drains, len(job.pending))):
            job.drains += 1
            then = partial(self._drained, job)
            if awaits:
                self._begin(then, self._drain, job)
            else:
                work = self._in_thread, job.drain, self._post_from_thread
                self._begin(then, self._in_slot, *work)

    def _drained(self, job: MapJob, _: None) -> None:
        job.drains -= 1
        self._staff(job)

    async def _drain(self, job: MapJob) -> None:
        """Run an item, if one waits; only one, so that each has a context of its own."""
        slot = await self._share.take()
        try:
            if not job.pending:
                return
            index, item = job.take()
            witness = None if job.enter is None else job.enter(index)
            outcome = await job.engine.await_item(job.inputs, item, index, self._in_thread, witness)
        finally:
            slot.give()
        job.report(index, outcome, self._post)

    def _read_items(
        self, values: Iterable[Any], read: Callable[[], Any], then: Callable[[Any], None]
    ) -> None:
        if all(isinstance(value, Sized) for value in values):
            then(read())
        else:  # an iterator may take its time
            self._look_up(read, then)

    def _look_up(self, read: Callable[[], Any], then: Callable[[Any], None]) -> None:
        self._begin(then, self._in_slot, self._in_thread, read)


Done = Callable[[Any], None]


class Runs:
    """Runs and maps on a background loop, for callers in other threads or on other loops.

    Args:
        executor: Whose runs they are.
        crew: Its slots and threads.
        host: The loop.
    """

    def __init__(self, executor: Hashable, crew: LoopWorkers, host: BackgroundLoop) -> None:
        self._executor = executor
        self._crew = crew
        self._host = host

    def run(self, engine: PipelineExecutionEngine, inputs: Mapping[str, Any]) -> Outcome:
        """Run a plan once and wait for it."""
        given = engine.prepared(inputs)
        tell_aside(engine)
        with place_lent():
            found: Outcome | BaseException = self._host.run(self.outcome(engine, given))
        if isinstance(found, BaseException):
            raise found
        return found

    async def outcome(
        self, engine: PipelineExecutionEngine, inputs: Mapping[str, Any]
    ) -> Outcome | BaseException:
        """Run a plan once; on the loop. What is no failure of a node is returned as well."""
        found = asyncio.get_running_loop().create_future()

        def done(result: Outcome | BaseException) -> None:
            if not found.done():
                found.set_result(result)

        scheduler = TaskScheduler(self._executor, self._crew, self._host, done)
        frame = scheduler.run(engine, inputs, done)
        try:
            return await found  # type: ignore[no-any-return]
        finally:
            over = found.done() and not found.cancelled() and isinstance(found.result(), dict)
            await scheduler.close(frame, over=over)

    def map(
        self,
        engine: PipelineExecutionEngine,
        inputs: Mapping[str, Any],
        items: Iterable[Mapping[str, Any]],
        known: int = 0,
        *,
        ordered: bool,
    ) -> Handed:
        """Run a plan for each of `items`, which are taken in the caller's thread.

        Returns:
            Indexes and outcomes, in order or as they finish.
        """
        del known  # a loop is woken for each item anyway
        tell_aside(engine)
        inbox = Inbox()
        ahead = 2 * (self._crew.size if engine.awaits else self._crew.threads)
        stream = Stream(items, ahead=ahead, ordered=ordered, patience=PATIENCE, farthest=MOST_AHEAD)
        outbox = _Outbox(stream, inbox)
        scheduler = TaskScheduler(self._executor, self._crew, self._host, outbox.fail)
        start = partial(scheduler.map, engine, inputs, outbox)
        return self._handed_over(stream, inbox, scheduler, start)

    @handing
    def _handed_over(
        self,
        stream: Stream,
        inbox: Inbox,
        scheduler: TaskScheduler,
        start: Callable[[int], MapJob],
    ) -> Generator[Handful, None, None]:
        batch = stream.take()
        job = start(stream.most)

        def add(batch: Batch) -> None:
            self._host.loop.call_soon_threadsafe(scheduler.add, job, batch)

        def receive() -> None:
            for _ in inbox.messages(wait=stream.must_wait):
                pass

        def close() -> None:
            self._host.finish(scheduler.close(job, over=stream.is_done))

        with Deferral(), inbox.open():
            yield from handed_over(stream, batch, add, receive, close)


def _this_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - only called in tasks
    return task


class _Outbox(Receiver):
    """Takes outcomes from the loop to the thread of their consumer, many at a time."""

    def __init__(self, stream: Stream, inbox: Inbox) -> None:
        self._stream = stream
        self._inbox = inbox
        self._outcomes: deque[tuple[int, Outcome]] = deque()
        self._signalled = False

    def put(self, index: int, outcome: Outcome) -> None:
        self._outcomes.append((index, outcome))
        if not self._signalled:
            self._signalled = True
            self._inbox.put(self._collect)

    def fail(self, error: BaseException) -> None:
        self._inbox.put(partial(_raise, error))

    def _collect(self) -> None:
        self._signalled = False
        while self._outcomes:
            self._stream.put(*self._outcomes.popleft())


def _raise(error: BaseException) -> NoReturn:
    raise error
