"""The process that starts workers: clean, with one thread, and gone when its driver is.

It forks workers from itself (`forkserver`: the library is imported once) or starts an interpreter
for each (`spawn`). Workers are its children, so that they die with it; it dies when the driver's
end of its socket closes, or the driver is its parent no more, and then removes the driver's files.
"""

from __future__ import annotations

import gc
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from hypernodes._engine.processes.streams import inherited

GLANCE: Final = 0.5
SHRUGGED: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
BOOT: Final = (
    "import json, sys; facts = json.loads(sys.argv.pop()); sys.path[:] = facts['path']; "
    "from importlib import import_module; import_module(facts['module']).main(facts)"
)
WORKER: Final = "hypernodes._engine.processes.worker"


def start_python(facts: dict[str, Any], descriptors: tuple[int, ...]) -> subprocess.Popen[bytes]:
    """Start an interpreter that runs `main(facts)` of a module of ours, and never `__main__`.

    It has all standard streams, also where this process has closed some: else what it opens would
    come to lie where users print.

    Args:
        facts: What it is told: `path`, `module`, and what that module wants to know.
        descriptors: What it inherits besides the standard streams for output, and clear of them.
    """
    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # noqa: SLF001 - as multiprocessing does
    return subprocess.Popen(  # noqa: S603 - our own code
        [sys.executable, *flags, "-c", BOOT, json.dumps(facts)],
        stdin=subprocess.DEVNULL,
        stdout=inherited(1),
        stderr=inherited(2),
        pass_fds=descriptors,
        cwd=_directory(),
    )


def _directory() -> str | None:
    """Return where to start: None for here, the root where the working directory is gone."""
    try:
        Path.cwd()
    except OSError:
        return os.sep
    return None


def main(facts: dict[str, Any]) -> None:
    """Serve until the driver is gone."""
    for number in SHRUGGED:  # sent to a whole group; it has to tidy up after its driver
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # children leave no zombies
    connection = socket.socket(fileno=facts["socket"])
    connection.set_inheritable(False)
    start = _fork if facts["method"] == "forkserver" else _spawn
    if start is _fork:
        import_module(WORKER).prepare()
        gc.collect()
        gc.freeze()
    while os.getppid() == facts["driver"]:
        readable, _, _ = select.select([connection], [], [], GLANCE)
        if not readable:
            continue
        descriptors = _receive(connection)
        if descriptors is None:
            break
        start(facts, connection, descriptors)
        for fd in descriptors:
            os.close(fd)
    for folder in facts["folders"]:
        shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)


def _receive(connection: socket.socket) -> list[int] | None:
    """Return the descriptors for a new worker, or None when the driver has gone."""
    try:
        request, descriptors, _, _ = socket.recv_fds(connection, 1, 2)
    except OSError:
        return None
    return descriptors if request else None


def _fork(facts: dict[str, Any], connection: socket.socket, descriptors: list[int]) -> None:
    server = os.getpid()
    if os.fork():
        return
    status = 1
    try:
        connection.close()
        told = {**facts, "socket": descriptors[0], "board": descriptors[1], "server": server}
        import_module(WORKER).main(told)
        status = 0
    finally:
        os._exit(status)


def _spawn(facts: dict[str, Any], connection: socket.socket, descriptors: list[int]) -> None:
    del connection
    told = {
        **facts,
        "module": WORKER,
        "socket": descriptors[0],
        "board": descriptors[1],
        "server": os.getpid(),
    }
    child = start_python(told, tuple(descriptors))
    child.returncode = 0  # nobody waits for it: the system does
