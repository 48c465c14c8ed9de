"""A map on its way through the scheduler: items that wait, outcomes that have come."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextvars import copy_context
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from hypernodes._engine.batches import Batch, Item, Shelf
from hypernodes._engine.failure import Failure, Faulted
from hypernodes._engine.inner import gather
from hypernodes._engine.observing.inside import tell_inner_ended, tell_inner_failed
from hypernodes._engine.observing.posted import posting

if TYPE_CHECKING:
    from hypernodes._engine.failure import Given, Outcome
    from hypernodes._engine.frame import Frame
    from hypernodes._engine.kernel import PipelineExecutionEngine
    from hypernodes._engine.observing.passes import Entrance
    from hypernodes._engine.observing.witness import Witness
    from hypernodes._engine.segments import Segment
    from hypernodes._engine.twins import Twins

Entry = tuple[int, Item]

Message = Callable[[], None]

LookedUp = tuple[Mapping[int, "Outcome"], Batch, Sequence[Message]]
"""Outcomes of items, the items that have none, and what tells of those that have."""

TURN: Final = 0.05
"""Seconds after which a worker is free for other runs on the same executor."""


class Receiver(ABC):
    """Who gets the outcomes of a map."""

    @property
    def is_over(self) -> bool:
        """Whether it will get no more."""
        return False

    @abstractmethod
    def put(self, index: int, outcome: Outcome) -> None:
        """Receive the outcome of an item."""

    def put_all(self, indexes: Sequence[int], outcomes: Sequence[Outcome]) -> None:
        """Receive the outcomes of several items."""
        for index, outcome in zip(indexes, outcomes, strict=True):
            self.put(index, outcome)


class Done:
    """What workers have finished, on its way to the scheduler's thread.

    One message for all that is finished before it is read: waking a thread is dear.
    """

    __slots__ = ("_finished", "_signalled")

    def __init__(self) -> None:
        self._finished: deque[Callable[[], None]] = deque()
        self._signalled = False

    def add(self, finish: Callable[[], None], post: Callable[[Callable[[], None]], None]) -> None:
        """Have `finish` called in the scheduler's thread.

        Args:
            finish: Takes note of the work.
            post: Takes what the scheduler's thread has to call.
        """
        self._finished.append(finish)
        if not self._signalled:
            self._signalled = True
            post(self.collect)

    def keep(self, finish: Callable[[], None]) -> None:
        """Have `finish` called with what is added next, or when `collect` is called."""
        self._finished.append(finish)

    def collect(self) -> None:
        """Make the calls; in the scheduler's thread."""
        self._signalled = False  # first: what is added from now on sends a message of its own
        while self._finished:
            self._finished.popleft()()


class MapJob:
    """The items of one map that wait for workers.

    Args:
        engine: What runs the plan of an item.
        inputs: The inputs that all items share.
        receiver: Gets the outcomes, in the scheduler's thread.
        open_frames: Starts the frames that there is room for, where each item is to be a frame of
            its own, whose nodes are scheduled one by one; None where workers take whole items.
        enter: Returns who is told of an item; None where nobody observes.

    Attributes:
        twins: Holds back equal items, where there is a cache.
    """

    __slots__ = (
        "_done",
        "_frames",
        "_open_frames",
        "_receiver",
        "closed",
        "drains",
        "engine",
        "enter",
        "inputs",
        "items",
        "pending",
        "twins",
    )

    def __init__(
        self,
        engine: PipelineExecutionEngine,
        inputs: Mapping[str, Any],
        receiver: Receiver,
        open_frames: Callable[[MapJob], None] | None = None,
        enter: Entrance | None = None,
    ) -> None:
        self.engine: PipelineExecutionEngine = engine
        self.inputs: Mapping[str, Any] = engine.prepared(inputs)
        self.closed: bool = False
        self.twins: Twins | None = None
        self.enter: Entrance | None = enter
        self._open_frames = open_frames
        self.items: Shelf = Shelf()
        self.pending: deque[int] = deque()
        self.drains: int = 0
        self._receiver = receiver
        self._frames: dict[int, Frame] = {}
        self._done = Done()

    @property
    def apart(self) -> bool:
        """Whether each item is a frame of its own; else workers take whole items."""
        return self._open_frames is not None

    @property
    def frames(self) -> int:
        """How many items are frames."""
        return len(self._frames)

    def add(self, batch: Batch) -> None:
        """Let items wait for workers."""
        self.items.add(batch)  # first: who finds an index takes its item at once
        self.pending.extend(batch)

    def take(self) -> Entry:
        """Return the next item; `IndexError` if none waits."""
        index = self.pending.popleft()
        return index, self.items.pop(index)

    def open_frame(self) -> Frame:
        """Return a frame for the next item, which delivers its outcome."""
        index, item = self.take()
        witness = None if self.enter is None else self.enter(index)
        done = partial(self._close_frame, index)
        frame = self.engine.frame(self.inputs, item, index, done, witness=witness)
        self._frames[index] = frame
        return frame

    def _close_frame(self, index: int, outcome: Outcome) -> None:
        self._frames.pop(index, None)
        self._receiver.put(index, outcome)
        if self._open_frames is not None:
            self._open_frames(self)

    @property
    def is_over(self) -> bool:
        """Whether nobody waits for outcomes any more."""
        return self._receiver.is_over

    def receive(self, indexes: Sequence[int], outcomes: Sequence[Outcome]) -> None:
        """Hand over outcomes of items that have no frame."""
        self._receiver.put_all(indexes, outcomes)

    def drain(self, post: Callable[[Message], None], *, is_looked_after: bool = False) -> None:
        """Run items until none waits or the turn is over; called by workers, several at once.

        Args:
            post: Takes what the scheduler's thread has to call.
            is_looked_after: Whether that thread calls `collect` now and then: then what happens in
                items does not wake it.
        """
        context = copy_context()
        leave = self._done.keep if is_looked_after else partial(self._done.add, post=post)
        attempt = (
            self.engine.attempter() if self.enter is None else partial(self._attempt_told, leave)
        )
        end = perf_counter() + TURN
        while perf_counter() < end:
            try:
                index, item = self.take()
            except IndexError:
                return
            outcome = context.copy().run(attempt, self.inputs, item, index)
            self.report(index, outcome, post)

    def collect(self) -> None:
        """Take note of what workers have left; in the scheduler's thread."""
        self._done.collect()

    def _attempt_told(
        self,
        leave: Callable[[Message], None],
        inputs: Mapping[str, Any],
        item: Mapping[str, Any],
        index: int,
    ) -> Outcome:
        """Run an item; what happens is told in the scheduler's thread, before its outcome."""
        assert self.enter is not None  # noqa: S101 - only called where somebody observes
        witness: Witness = self.enter(index)
        if self.engine.plan.inside is None:  # else whoever has all of the item tells of it at once
            witness = posting(witness, leave)
        return self.engine.attempt_told(inputs, item, index, witness)

    def report(self, index: int, outcome: Outcome, post: Callable[[Message], None]) -> None:
        """Have the outcome of an item handed over by the scheduler.

        Args:
            index: The item's index.
            outcome: What it gave.
            post: Takes what the scheduler has to call.
        """
        self._done.add(partial(self._receiver.put, index, outcome), post)

    def look_up(self, batch: Batch) -> LookedUp:
        """Return the outcomes of items that need no run, and the other items."""
        news: list[Message] = []
        enter = None if self.enter is None else partial(_entered, self.enter, news.append)
        return *self.engine.look_up(self.inputs, batch, enter), news

    def close(self) -> None:
        """Drop what has not started."""
        self.closed = True
        self.engine.finish(self.inputs)
        self.pending.clear()
        for frame in tuple(self._frames.values()):
            frame.close()


def _entered(enter: Entrance, post: Callable[[Message], None], index: int) -> Witness:
    return posting(enter(index), post)


class Collector(Receiver):
    """Gathers the outcomes of a map inside a step, and settles the step's segment.

    Args:
        frame: The run that the step belongs to.
        segment: The step's segment; it has no other step.
        count: How many items there are.
        settle: Called once, with what the step gives, or the failure.
    """

    __slots__ = ("_count", "_frame", "_left", "_rows", "_settle", "_step", "_tally")

    def __init__(
        self,
        frame: Frame,
        segment: Segment,
        count: int,
        settle: Callable[[Given], None],
    ) -> None:
        self._frame = frame
        self._step = segment.steps[0]
        self._count = count
        self._settle = settle
        self._rows: dict[int, Outcome] = {}
        self._left = count
        self._tally = None if frame.witness is None else frame.witness.tally(self._step.index)

    @property
    def is_over(self) -> bool:
        return self._frame.closed or self._left <= 0

    def put(self, index: int, outcome: Outcome) -> None:
        self._left -= 1
        if self._frame.closed:
            return
        if self._tally is not None:
            self._tally.add(outcome)
        self._rows[index] = outcome
        if isinstance(outcome, Failure) or len(self._rows) == self._count:
            self.finish()

    def finish(self) -> None:
        """Put the lists of outputs in their places, or fail with the item that failed."""
        frame, step = self._frame, self._step
        assert step.inner is not None  # noqa: S101 - only steps with a pipeline inside are mapped
        rows, self._rows = self._rows, {}
        try:
            lists = gather(step.inner, rows.items())
        except Faulted as error:
            tell_inner_failed(frame.witness, step, error.failure.error)
            self._settle(frame.engine.failure(error, step, frame.index))
            return
        tell_inner_ended(frame.witness, step, lists)
        self._settle(dict(zip(step.outputs, lists, strict=True)))
