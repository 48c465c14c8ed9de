"""What executors open to run work on, and the one place where it is kept.

Equal executors share their workers. They are opened on first use and end with `close`, or with the
interpreter.
"""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

from hypernodes.exceptions import HyperNodesError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from concurrent import futures


class Workers(ABC):
    """Something that runs work beside the thread that submits it."""

    @property
    @abstractmethod
    def size(self) -> int:
        """How many pieces of work can run at once."""

    @abstractmethod
    def submit(self, work: Callable[..., Any], *args: Any) -> futures.Future[Any]:
        """Start `work(*args)` as soon as there is room."""

    @abstractmethod
    def close(self) -> None:
        """Drop what has not started and wait for what has."""


def closed_error() -> HyperNodesError:
    """Return the error for a run whose workers were ended under it."""
    message = "the executor was closed in the middle of a run; run it again"
    return HyperNodesError(message)


class _Registry:
    """The open workers, by the executor that they belong to."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[Hashable, Workers] = {}

    def of(self, executor: Hashable, opened: Callable[[], Workers]) -> Workers:
        """Return the workers of `executor` and its equals; open them where there are none."""
        workers = self._open.get(executor)
        if workers is not None:
            return workers
        with self._lock:
            if executor not in self._open:
                self._open[executor] = opened()
            return self._open[executor]

    def close(self, executor: Hashable) -> None:
        """End the workers of `executor` and its equals."""
        with self._lock:
            workers = self._open.pop(executor, None)
        if workers is not None:
            workers.close()

    def forget(self) -> None:
        """Forget what only the parent of a forked process has."""
        self._lock = threading.Lock()
        self._open = {}


REGISTRY: Final = _Registry()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=REGISTRY.forget)

OCCUPIED: Final[ContextVar[frozenset[Hashable]]] = ContextVar(
    "hypernodes_occupied", default=frozenset()
)
"""The executors whose workers wait for the code that runs now: it must not wait for them."""
