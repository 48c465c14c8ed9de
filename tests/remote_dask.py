"""A Dask cluster in processes of its own, for tests that reach it by its address."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent import futures
from contextlib import contextmanager, suppress
from pathlib import Path

LIMIT = 120
HERE = str(Path(__file__).parent)
PATH = os.pathsep.join(filter(None, [HERE, os.environ.get("PYTHONPATH")]))


def wait_until(condition, seconds=LIMIT):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it does not come about"
        time.sleep(0.02)


@contextmanager
def somebody_else(words):
    """Listen at a port, and say `words` to whoever comes; gives the address."""
    with socket.create_server(("127.0.0.1", 0)) as server, futures.ThreadPoolExecutor(1) as thread:

        def answer():
            with suppress(OSError):  # until it is closed
                while True:
                    there, _ = server.accept()
                    with there, suppress(OSError):  # who only knocks is gone
                        there.sendall(words)
                        while there.recv(1 << 16):
                            pass

        thread.submit(answer)
        try:
            yield f"127.0.0.1:{server.getsockname()[1]}"
        finally:
            server.shutdown(socket.SHUT_RDWR)


def is_alive(pid):
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


class RemoteDask:
    """A scheduler and workers, ended one by one or all together.

    Args:
        folder: Where they keep what they write.
        options: For all of them, such as those for TLS.
        protocol: How they talk.
    """

    def __init__(self, folder, *, options=(), protocol="tcp", port=0):
        self.folder = Path(folder)
        self.protocol = protocol
        self.options = list(options)
        self.workers = {}
        self.scheduler, self.address = None, None
        self.start(port)

    def start(self, port=0):
        """Start a scheduler, at the port where the last one was unless it is said otherwise."""
        if self.address is not None and not port:
            port = int(self.address.rpartition(":")[2])
        file = self.folder / f"scheduler-{time.monotonic_ns()}.json"
        self.scheduler = self._run(
            "dask_scheduler",
            *("--host", f"{self.protocol}://127.0.0.1", "--port", str(port)),
            *("--no-dashboard", "--dashboard-address", "127.0.0.1:0"),
            *("--idle-timeout", "7200", "--scheduler-file", file),
        )
        wait_until(lambda: file.exists() and file.read_text(encoding="utf-8").endswith("}"))
        self.address = json.loads(file.read_text(encoding="utf-8"))["address"]

    def add(self, name, *options, env=(), python=(), nanny=False):
        """Start a worker; it joins by itself."""
        self.workers[name] = self._run(
            "dask_worker",
            *(self.address, "--host", "127.0.0.1", "--name", name),
            *("--nanny" if nanny else "--no-nanny", "--no-dashboard"),
            *("--death-timeout", "60", "--local-directory", self.folder, *options),
            env=env,
            python=python,
        )
        return self.workers[name].pid

    def await_workers(self, count):
        """Wait until so many workers have joined."""
        from distributed import Client

        with Client(self.address, set_as_default=False) as client:
            client.wait_for_workers(count, timeout=LIMIT)

    def freeze(self):
        """Stop the scheduler where it is, as a network does that is cut."""
        self.scheduler.send_signal(signal.SIGSTOP)

    def thaw(self):
        """Let the scheduler go on."""
        self.scheduler.send_signal(signal.SIGCONT)

    def end_scheduler(self):
        """Kill the scheduler."""
        _end(self.scheduler)

    def end_worker(self, name):
        """Kill a worker."""
        _end(self.workers.pop(name))

    def end(self):
        """Kill all that is left."""
        for process in (*self.workers.values(), self.scheduler):
            _end(process)

    def log(self):
        """Return what they have written."""
        return (self.folder / "log").read_text(encoding="utf-8")

    def _run(self, module, *arguments, env=(), python=()):
        command = [sys.executable, *python, "-m", f"distributed.cli.{module}", *arguments]
        with (self.folder / "log").open("a", encoding="utf-8") as log:
            return subprocess.Popen(
                [*map(str, command), *self.options],
                env=os.environ | {"PYTHONPATH": PATH} | dict(env),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )


def _end(process):
    process.kill()
    process.wait()
