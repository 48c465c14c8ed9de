"""Processes: for work that keeps Python busy, and for nodes that may crash or get stuck."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, field_validator

from hypernodes._engine.cores import usable_cores
from hypernodes._engine.local import ThreadWorkers
from hypernodes._engine.workers import OCCUPIED
from hypernodes.abc import Backend
from hypernodes.executors.shipped import ShippedExecutor

if TYPE_CHECKING:
    from hypernodes._engine.workers import Workers

Count = Annotated[int, Field(ge=1, strict=True)]


class ProcessPoolExecutor(ShippedExecutor):
    """Runs nodes, and the items of a map, in processes of their own.

    Functions travel by value where they have to (lambdas, closures, notebooks, `__main__`), so no
    `if __name__ == "__main__"` is needed. A worker that dies or gets stuck is replaced and costs
    only what it was running.

    Attributes:
        max_workers: How many processes there are at the most; None for as many as this process has
            cores to use.
        start_method: `"forkserver"`, `"spawn"`, or None for the faster one that works here.
        chunksize: How many items travel together; None for what takes long enough to hide the way.
        max_tasks_per_child: After how many items and nodes a worker is replaced; None for never.

    Example:
        >>> ProcessPoolExecutor(max_workers=2).max_workers
        2
    """

    max_workers: Count | None = None
    start_method: Literal["spawn", "forkserver"] | None = None
    chunksize: Count | None = None
    max_tasks_per_child: Count | None = None

    @field_validator("start_method", mode="before")
    @classmethod
    def _refuse_fork(cls, value: object) -> object:
        if value == "fork":
            raise ValueError(
                "'fork' copies a process with its locks but without the threads that would release "
                "them, and hangs sooner or later; use 'forkserver', which is as fast, or 'spawn'"
            )
        return value

    def open_workers(self) -> Workers:
        if _may_not_have_children():
            return ThreadWorkers(self.max_workers or usable_cores())
        from hypernodes._engine.processes.launch import default_method  # noqa: PLC0415
        from hypernodes._engine.processes.pool import Pool  # noqa: PLC0415 - only users of it pay

        return Pool(
            self.max_workers or usable_cores(),
            self.start_method or default_method(),
            chunksize=self.chunksize,
            max_tasks=self.max_tasks_per_child,
        )


def _may_not_have_children() -> bool:
    """Return whether this is a daemon that serves a cluster: its own children would be left."""
    multiprocessing = sys.modules.get("multiprocessing.process")
    is_daemon = multiprocessing is not None and multiprocessing.current_process().daemon
    return is_daemon and any(isinstance(each, Backend) for each in OCCUPIED.get())
