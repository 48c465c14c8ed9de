"""What executors open to run work on, and the one place where it is kept.

Equal executors share their workers. They are opened on first use and end with `close`, or with the
interpreter.
"""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

from hypernodes.exceptions import HyperNodesError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from hypernodes._engine.failure import Given
    from hypernodes._engine.frame import Frame
    from hypernodes._engine.jobs import MapJob
    from hypernodes._engine.kernel import PipelineExecutionEngine
    from hypernodes._engine.segments import Segment

    Message = Callable[[], None]
    Post = Callable[[Message], None]


MOST_AHEAD: Final = 1024


class Workers(ABC):
    """What an executor has opened to run work beside the thread that asks for it.

    Attributes:
        farewell: Called once, when they have ended.
        ground: Where they are, if others, opened for another executor, may be there as well: what
            runs there waits for none of them. None for workers of their own.
    """

    farewell: Callable[[], None] | None = None
    ground: Hashable | None = None

    def part(self) -> None:
        """Tell who wants to know that they have ended."""
        farewell, self.farewell = self.farewell, None
        if farewell is not None:
            farewell()

    def retire(self) -> None:
        """Make way for others: end when nothing needs them; by default, they have ended."""
        self.part()

    @property
    @abstractmethod
    def size(self) -> int:
        """How many pieces of work can run at once."""

    @property
    def is_over(self) -> bool:
        """Whether the next run needs others: they have ended, or are not the right ones now."""
        return False

    def check(self, engine: PipelineExecutionEngine) -> None:
        """Refuse a plan that none of them could ever run; local ones take any.

        Raises:
            ResourceError: A node asks for what no worker has.
        """
        del engine

    @abstractmethod
    def crew(self, executor: Hashable, post: Post) -> Crew:
        """Return these workers in the service of one run or map.

        Args:
            executor: Whose workers they are.
            post: Takes what the scheduler's thread has to call; may be called from any thread.
        """

    @abstractmethod
    def close(self) -> None:
        """Drop what has not started and wait for what has."""


class Crew(ABC):
    """Workers in the service of one scheduler, from its start to its end.

    How work reaches a worker is decided here: threads of this process drain the items of a map
    from their common queue, other processes get them in chunks.

    Attributes:
        patience: For how many seconds of work items are taken ahead of a map's consumer.
        farthest: How many are taken ahead at the most.
        at_hand: The same in the beginning, where it is known that they are there.
        takes_columns: Whether items go to workers by columns, and not one by one.
    """

    patience: float = 0.005
    farthest: int = MOST_AHEAD
    at_hand: int = MOST_AHEAD
    takes_columns: bool = False

    @property
    @abstractmethod
    def is_idle(self) -> bool:
        """Whether all segments that it was given, and all items, are done."""

    def takes_items(self, engine: PipelineExecutionEngine) -> bool:
        """Return whether whole items of a map may be handed to the workers."""
        del engine
        return True

    @abstractmethod
    def run_segment(
        self, frame: Frame, segment: Segment, then: Callable[[Given], None], *, alone: bool
    ) -> None:
        """Run a segment; `then` is called in the scheduler's thread with what it gives.

        Args:
            frame: The run that it belongs to.
            segment: What to run.
            then: Takes the values, or the failure.
            alone: Whether there is nothing to run beside it.
        """

    @abstractmethod
    def serve(self, job: MapJob) -> None:
        """See to it that the items that wait in `job` are run, and their outcomes delivered."""

    @property
    def look(self) -> Callable[[], None] | None:
        """What the scheduler's thread is to call now and then, where somebody observes."""
        return None

    @abstractmethod
    def close(self, *, over: bool) -> None:
        """Drop what has not started; what runs on is not waited for.

        Args:
            over: Whether all has been done, so that nothing has to be stopped.
        """


def closed_error() -> HyperNodesError:
    """Return the error for a run whose workers were ended under it."""
    message = "the executor was closed in the middle of a run; run it again"
    return HyperNodesError(message)


class _Registry:
    """The open workers, by the executor that they belong to."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._gates: dict[Hashable, threading.RLock] = {}
        self._open: dict[Hashable, Workers] = {}

    def of(self, executor: Hashable, opened: Callable[[], Workers]) -> Workers:
        """Return the workers of `executor` and its equals; open them where there are none."""
        workers = self._open.get(executor)
        if workers is not None and not workers.is_over:
            return workers
        with self._gate(executor):
            workers = self._open.get(executor)
            if workers is None or workers.is_over:
                if workers is not None:
                    del self._open[executor]
                    workers.retire()
                made = opened()
                _end(self._open.pop(executor, None))  # what callbacks have used meanwhile
                workers = self._open[executor] = made
            return workers

    def close(self, executor: Hashable) -> None:
        """End the workers of `executor` and its equals."""
        with self._gate(executor):
            workers = self._open.pop(executor, None)
        _end(workers)

    def _gate(self, executor: Hashable) -> threading.RLock:
        """Return what is held while workers are opened, which may take its time."""
        with self._lock:
            return self._gates.setdefault(executor, threading.RLock())

    def forget(self) -> None:
        """Forget what only the parent of a forked process has."""
        self._lock = threading.Lock()
        self._gates = {}
        self._open = {}


def _end(workers: Workers | None) -> None:
    if workers is not None:
        workers.close()
        workers.part()


REGISTRY: Final = _Registry()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=REGISTRY.forget)

OCCUPIED: Final[ContextVar[frozenset[Hashable]]] = ContextVar(
    "hypernodes_occupied", default=frozenset()
)
"""The executors whose workers wait for the code that runs now: it must not wait for them."""
