"""Dask workers of our own: processes that begin with none of the user's modules.

`LocalCluster` starts workers by `multiprocessing`, which runs the user's script again in each of
them; so scripts would need `if __name__ == "__main__"`. These need nothing.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from contextlib import suppress
from importlib import import_module
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from distributed import Scheduler, Worker
from distributed.deploy.spec import ProcessInterface, SpecCluster

from hypernodes._engine.processes.server import start_python
from hypernodes._engine.processes.worker import die_with, prepare
from hypernodes._engine.shipping.settings import import_path

if TYPE_CHECKING:
    import subprocess

GLANCE: Final = 0.1
SHORTEST_LIFE: Final = 0.5
"""Seconds after which a process is started again at the earliest."""


def open_cluster(count: int) -> SpecCluster:
    """Start a scheduler in this process and workers of one thread each.

    Args:
        count: How many workers.
    """
    options = {"host": "127.0.0.1", "port": 0, "dashboard": False, "dashboard_address": ":0"}
    workers = {n: {"cls": WorkerProcess, "options": {}} for n in range(count)}
    return SpecCluster(
        workers=workers,
        scheduler={"cls": Scheduler, "options": options},
        name="hypernodes",
        silence_logs=logging.CRITICAL + 1,
    )


def kill_worker(cluster: SpecCluster, name: str) -> None:
    """Kill a worker, unless it is gone; another one takes its place."""
    for worker in cluster.workers.values():
        if worker.worker_name == name:
            worker.kill()


class WorkerProcess(ProcessInterface):  # type: ignore[misc] # extras are Any
    """A worker process that is started again whenever it dies.

    Args:
        scheduler: The scheduler's address.
        name: The worker's name.
    """

    def __init__(self, scheduler: str, name: int) -> None:
        super().__init__(scheduler, name)
        self._scheduler = scheduler
        self._name = name
        self._lives = 0
        self._keeper: asyncio.Task[None] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def worker_name(self) -> str:
        """What the worker is called in the cluster: another name in each of its lives.

        So nobody takes a new one for the old one, and Dask does not close what is kept here when a
        worker that it knows by the name of its process stays away.
        """
        return f"{self._name}-{self._lives}"

    async def start(self) -> None:
        """Start the process; it joins by itself."""
        self._keeper = asyncio.create_task(self._keep())
        await super().start()

    async def close(self) -> None:
        """End the process."""
        if self._keeper is not None:
            self._keeper.cancel()
        self.kill()
        if self._process is not None:
            self._process.wait()
        await super().close()

    def kill(self) -> None:
        """Kill the process; unless it is closed, another one takes its place."""
        if self._process is not None:
            with suppress(OSError):
                self._process.kill()

    async def _keep(self) -> None:
        while True:
            born = monotonic()
            self._lives += 1
            self._process = start_python(self._facts(), ())
            while self._process.poll() is None:  # noqa: ASYNC110 - another process sets no event
                await asyncio.sleep(GLANCE)
            await asyncio.sleep(max(0.0, SHORTEST_LIFE - (monotonic() - born)))

    def _facts(self) -> dict[str, Any]:
        return {
            "path": import_path(),
            "module": __name__,
            "driver": os.getpid(),
            "scheduler": self._scheduler,
            "name": self.worker_name,
        }


def main(facts: dict[str, Any]) -> None:
    """Work until the driver is gone."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    # A handler instead of SIG_IGN: what users start from here does not inherit it.
    signal.signal(signal.SIGINT, lambda *_: None)
    die_with(facts["driver"])
    prepare()
    import_module("hypernodes._engine.clusters.worker")
    logging.getLogger("distributed").setLevel(logging.CRITICAL + 1)
    asyncio.run(_serve(facts))


async def _serve(facts: dict[str, Any]) -> None:
    options = {"nthreads": 1, "dashboard": False, "memory_limit": 0, "name": facts["name"]}
    async with Worker(facts["scheduler"], host="127.0.0.1", **options) as worker:
        await worker.finished()
