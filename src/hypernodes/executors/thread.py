"""Threads: for work that waits or leaves Python; the default."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from hypernodes._engine.local import LocalWorkers
from hypernodes._engine.threads import DaemonThreads
from hypernodes._engine.workers import closed_error
from hypernodes.executors.pooled import PooledExecutor

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent import futures


class ThreadPoolExecutor(PooledExecutor):
    """Runs independent nodes, and the items of a map, on threads of this process.

    Threads overlap what waits (files, networks, sleeping) and what releases Python's lock (numpy
    and the like). A plan with nothing to overlap runs in the caller's thread, at the speed of
    `SequentialExecutor`.

    Attributes:
        max_workers: How many threads there are at the most.

    Example:
        >>> ThreadPoolExecutor(max_workers=8)
        ThreadPoolExecutor(max_workers=8)
    """

    max_workers: Annotated[int, Field(ge=1, strict=True)] = 4

    def open_workers(self) -> LocalWorkers:
        return _Threads(self.max_workers)


class _Threads(LocalWorkers):
    def __init__(self, size: int) -> None:
        super().__init__()
        self._size = size
        self._pool = DaemonThreads(size, "hypernodes-thread")

    @property
    def size(self) -> int:
        return self._size

    def submit(self, work: Callable[..., Any], *args: Any) -> futures.Future[Any]:
        try:
            return self._pool.submit(work, *args)
        except RuntimeError as error:
            raise closed_error() from error

    def replace(self, future: futures.Future[Any]) -> None:
        self._pool.replace(future)

    def close(self) -> None:
        super().close()
        self._pool.shutdown(wait=True, cancel_futures=True)
