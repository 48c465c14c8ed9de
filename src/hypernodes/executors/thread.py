"""Threads: for work that waits or leaves Python; the default."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from hypernodes._engine.local import ThreadWorkers
from hypernodes.executors.pooled import PooledExecutor


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

    def open_workers(self) -> ThreadWorkers:
        return ThreadWorkers(self.max_workers)
