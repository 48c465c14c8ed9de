"""The driver's side of the server: one for each pool, started when the first worker is needed."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Final

from hypernodes._engine.processes.board import make_board, map_board
from hypernodes._engine.processes.server import start_python
from hypernodes._engine.processes.streams import kept_clear
from hypernodes._engine.shipping.settings import import_path

if TYPE_CHECKING:
    from hypernodes._engine.processes.depot import Depot

METHODS: Final = ("spawn", "forkserver")
PATIENCE: Final = 1.0


def default_method() -> str:
    """Return the faster method of those that are safe on this system."""
    forks = hasattr(os, "fork") and sys.platform != "darwin"
    return "forkserver" if forks else "spawn"


class Server:
    """Starts workers.

    Args:
        method: One of `METHODS`.
        depot: Whose folders it removes when the driver is gone.
    """

    def __init__(self, method: str, depot: Depot) -> None:
        with kept_clear():
            self._socket, theirs = socket.socketpair()
        with theirs:
            facts = {
                "path": import_path(),
                "module": "hypernodes._engine.processes.server",
                "method": method,
                "driver": os.getpid(),
                "socket": theirs.fileno(),
                "folders": [depot.folder, depot.spare],
            }
            self._process = start_python(facts, (theirs.fileno(),))

    def start_worker(self) -> tuple[socket.socket, memoryview]:
        """Ask for a worker; return the socket that leads to it, and its board.

        Raises:
            OSError: The server is gone.
        """
        with kept_clear():
            ours, theirs = socket.socketpair()
            board = make_board()
            with theirs:
                try:
                    socket.send_fds(self._socket, [b"w"], [theirs.fileno(), board])
                except OSError:
                    ours.close()
                    os.close(board)
                    raise
            ours.setblocking(False)  # noqa: FBT003 - the standard library's own
            return ours, map_board(board)

    @property
    def is_gone(self) -> bool:
        """Whether its process has ended."""
        return self._process.poll() is not None

    def close(self) -> None:
        """End the server and what workers it has left."""
        self._socket.close()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def abandon(self) -> None:
        """Close what a forked child of the driver has inherited."""
        self._socket.close()
        self._process.returncode = 0
