"""A Dask cluster of our own: workers that begin with none of the user's modules, and in silence.

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
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from distributed import Scheduler, Worker
from distributed.deploy.spec import ProcessInterface, SpecCluster

from hypernodes._engine.processes.server import start_python
from hypernodes._engine.processes.streams import kept_clear
from hypernodes._engine.processes.worker import die_with, prepare
from hypernodes._engine.shipping.settings import import_path
from hypernodes.exceptions import HyperNodesError, InputError, hint

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Mapping

    from tornado.ioloop import IOLoop

GLANCE: Final = 0.1
SHORTEST_LIFE: Final = 0.5
"""Seconds after which a process is started again at the earliest."""
MOST_FAILED_STARTS: Final = 4
HERE: Final = "127.0.0.1"
BORN: Final = b"!"


class Wish(NamedTuple):
    """What a cluster of our own is to be; see `DaskExecutor`."""

    n_workers: int
    threads_per_worker: int = 1
    memory_limit: float | str | None = None
    resources: Mapping[str, float] | None = None
    dashboard_address: str | None = None

    @classmethod
    def of(cls, count: int, given: Mapping[str, Any]) -> Wish:
        """Return what callbacks have asked for.

        Args:
            count: How many workers there are if they do not say.
            given: The fields that they have set.

        Raises:
            InputError: There is no such field.
        """
        for name in given:
            if name not in cls._fields:
                message = f"cluster_kwargs has no {name!r}; {hint(name, cls._fields)}"
                raise InputError(message, name=str(name))
        return cls(**{"n_workers": count, **given})

    @property
    def worker(self) -> dict[str, Any]:
        """The arguments of a worker."""
        return {
            "nthreads": self.threads_per_worker,
            "memory_limit": self.memory_limit or 0,
            "resources": dict(self.resources or {}),
        }


class Nursery:
    """A scheduler in this process, and its workers: processes or threads.

    Args:
        wish: What it is to be.
        loop: Where the scheduler runs, and workers that are threads.
        processes: Whether workers are processes.

    Attributes:
        cluster: The cluster of Dask's.
    """

    def __init__(self, wish: Wish, loop: IOLoop, *, processes: bool) -> None:
        self._births = Births()
        scheduler = {
            "host": HERE if processes else None,
            "port": 0,
            "protocol": "tcp://" if processes else "inproc://",
            "dashboard": wish.dashboard_address is not None,
            "dashboard_address": wish.dashboard_address or f"{HERE}:0",
        }
        if processes:
            own: dict[str, Any] = {"arguments": wish.worker, "births": self._births}
        else:
            own = {**wish.worker, "dashboard": False}
        cls = WorkerProcess if processes else Worker
        self.cluster = SpecCluster(
            workers={n: {"cls": cls, "options": own} for n in range(wish.n_workers)},
            scheduler={"cls": Scheduler, "options": scheduler},
            name="hypernodes",
            loop=loop,
        )

    @property
    def trouble(self) -> HyperNodesError | None:
        """Why there will be no workers; None as far as there will."""
        return self._births.trouble

    def kill(self, name: str) -> None:
        """Kill a worker, unless it is gone; another one takes its place."""
        for worker in self.cluster.workers.values():
            if isinstance(worker, WorkerProcess) and worker.worker_name == name:
                worker.kill()


class Births:
    """Counts worker processes that end before they have joined, one after another."""

    def __init__(self) -> None:
        self._failed = 0
        self.trouble: HyperNodesError | None = None

    def succeeded(self) -> None:
        """Hear that a process had joined before it ended."""
        self._failed = 0

    def failed(self, status: int) -> None:
        """Hear that a process has ended before that.

        Args:
            status: What it ended with.
        """
        self._failed += 1
        if self._failed >= MOST_FAILED_STARTS:
            self.trouble = HyperNodesError(
                f"worker processes end before they begin (exit status {status}): see what they "
                f"wrote to stderr; hypernodes and distributed have to be importable in a new "
                f"interpreter"
            )


class WorkerProcess(ProcessInterface):  # type: ignore[misc] # extras are Any
    """A worker process that is started again whenever it dies.

    Args:
        scheduler: The scheduler's address.
        name: The worker's name.
        arguments: Of the worker.
        births: Told of how it begins.
    """

    def __init__(
        self, scheduler: str, name: int, *, arguments: dict[str, Any], births: Births
    ) -> None:
        super().__init__(scheduler, name)
        self._scheduler = scheduler
        self._name = name
        self._arguments = arguments
        self._births = births
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
            with suppress(asyncio.CancelledError):
                await self._keeper
        await super().close()

    def kill(self) -> None:
        """Kill the process; unless it is closed, another one takes its place."""
        if self._process is not None:
            with suppress(OSError):
                self._process.kill()

    async def _keep(self) -> None:
        while self._births.trouble is None:
            born = monotonic()
            await self._live()
            await asyncio.sleep(max(0.0, SHORTEST_LIFE - (monotonic() - born)))

    async def _live(self) -> None:
        """Start a process, and wait for its end, or end it."""
        self._lives += 1
        with kept_clear():
            ear, mouth = os.pipe()
        try:
            process = self._process = start_python(self._facts(mouth), (mouth,))
        finally:
            os.close(mouth)
        try:
            while process.poll() is None:  # noqa: ASYNC110 - another process sets no event
                await asyncio.sleep(GLANCE)
            has_joined = _has_spoken(ear)
        finally:
            os.close(ear)
            self.kill()
            process.wait()
        self._births.succeeded() if has_joined else self._births.failed(process.returncode)

    def _facts(self, mouth: int) -> dict[str, Any]:
        return {
            "path": import_path(),
            "module": __name__,
            "driver": os.getpid(),
            "scheduler": self._scheduler,
            "arguments": {**self._arguments, "name": self.worker_name},
            "born": mouth,
        }


def _has_spoken(ear: int) -> bool:
    os.set_blocking(ear, False)
    try:
        return os.read(ear, 1) == BORN
    except BlockingIOError:  # a process that was forked meanwhile keeps it open
        return False


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
    arguments = {"dashboard": False, "host": HERE, **facts["arguments"]}
    async with Worker(facts["scheduler"], **arguments) as worker:
        os.write(facts["born"], BORN)
        os.close(facts["born"])
        await worker.finished()
