"""A Dask cluster of separate processes, as tests start, find and end it."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time

START = "import sys; from distributed.cli.dask_{role} import main; main(sys.argv[1:])"
LIMIT = 60


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class DaskCluster:
    """A scheduler and workers, each a process of its own.

    Args:
        folder: Where they keep what they have to keep, and their logs.
        count: How many workers.
        options: For each worker's command line.
        tls: Options that make them use TLS.
    """

    def __init__(self, folder, count=2, *, options=(), tls=()):
        self.folder = folder
        self.options = tuple(options)
        self.tls = tuple(tls)
        self.port = free_port()
        self.address = f"{'tls' if tls else 'tcp'}://127.0.0.1:{self.port}"
        self.scheduler = None
        self.workers = []
        self.start_scheduler()
        for _ in range(count):
            self.start_worker()

    def start_scheduler(self):
        place = ("--host", self.address.partition("//")[0] + "//127.0.0.1")
        self.scheduler = self._start(
            "scheduler", *place, "--port", str(self.port), "--no-dashboard", *self.tls
        )
        end = time.monotonic() + LIMIT
        while time.monotonic() < end:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return
            time.sleep(0.02)
        raise TimeoutError(f"no scheduler at {self.address}")

    def start_worker(self):
        options = ("--nthreads", "1", "--no-dashboard", "--local-directory", str(self.folder))
        worker = self._start("worker", self.address, *options, *self.options, *self.tls)
        self.workers.append(worker)
        return worker

    def kill_scheduler(self):
        self.scheduler.kill()
        self.scheduler.wait()

    def close(self):
        for process in (*self.workers, self.scheduler):
            with contextlib.suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.close()

    def _start(self, role, *arguments):
        log = (self.folder / f"{role}.log").open("ab")
        with log:
            return subprocess.Popen(
                [sys.executable, "-c", START.format(role=role), *arguments],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
