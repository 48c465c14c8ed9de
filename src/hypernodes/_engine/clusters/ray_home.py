"""The Ray that a program is connected to: its own, or one that we have brought up.

There is one in a program. One that we have started, or have led the program to, is shared by all
executors that are open, and left by the last of them.
"""

from __future__ import annotations

import os
import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import ray

from hypernodes._engine.clusters.ray_watch import connection
from hypernodes._engine.clusters.reach import listens, problem_at
from hypernodes.exceptions import HyperNodesError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
"""What a client of HTTP/2 begins with, and its settings: none (RFC 9113, 3.4 and 6.5)."""
SETTINGS: Final = b"\x04"
"""The kind of frame that a server begins with."""
GREETS_IN: Final = 10.0
"""Seconds within which whoever is there has to begin."""

_lock: Final = threading.Lock()
_current: list[Home] = []
_abandoned: list[threading.Thread] = []
"""Threads that still start a Ray which nobody waits for, and end it then."""


def enter(address: str | None, brought_up: Callable[[], Home]) -> Home | None:
    """Make sure that the program is connected to Ray.

    Args:
        address: The one that it has to be, if that matters.
        brought_up: Brings one up.

    Returns:
        The Ray that we have brought up, with one guest more; None where it is the program's own.

    Raises:
        HyperNodesError: The program is connected to another one, or there is none at the address.
    """
    with _lock:
        while _abandoned:
            _abandoned[0].join()
            del _abandoned[0]
        _current[:] = [home for home in _current if home.is_up]
        if ray.is_initialized():
            _check_same(address)
        else:
            _current.append(brought_up())
        for home in _current:
            home.guests += 1
            return home
        return None


class Home:
    """A Ray that we have brought up.

    Its processes end with the thread that has started them, so there is one that does nothing else.

    Args:
        address: Where it is; None for one of our own.
        options: For `ray.init`.

    Attributes:
        is_own: Whether we have started it.
        guests: How many executors use it.
        environment: The environment variables that its processes have got.
    """

    def __init__(self, address: str | None, options: dict[str, Any]) -> None:
        self.is_own = address is None
        self.guests = 0
        self.environment = dict(os.environ)
        self._connection = ""
        self._address = address
        self._options = options
        self._error: BaseException | None = None
        self._up, self._leaving = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._keep, name="hypernodes-ray", daemon=True)
        self._thread.start()
        try:
            self._up.wait()
        except BaseException:  # Ctrl-C: it is left as soon as it is there
            self._leaving.set()
            _abandoned.append(self._thread)
            raise
        if self._error is not None:
            raise self._error

    @property
    def is_up(self) -> bool:
        """Whether the program is connected to it still; the user may have ended it."""
        return connection() == self._connection

    def leave(self) -> None:
        """End it, or the connection to it, after the last of its guests."""
        with _lock:
            self.guests -= 1
            if not self.guests:
                self._leaving.set()
                self._thread.join()

    def _keep(self) -> None:
        try:
            self._init()
            self._connection = connection()
        except BaseException as error:  # noqa: BLE001 - raised by who waits
            self._error = error
            return
        finally:
            self._up.set()
        self._leaving.wait()
        if self.is_up:
            ray.shutdown()

    def _init(self) -> None:
        if self._address is not None:
            _check_address(self._address)
        try:
            ray.init(self._address or "local", **self._options)
        except ConnectionError as error:
            raise _unreachable(self._address, str(error)) from error


def ground_of_ray(address: str | None) -> Hashable | None:
    """Return what the Ray is called that the program is connected to; None where it is not the one.

    Args:
        address: The one that it has to be, if that matters.
    """
    if not ray.is_initialized():
        return None
    there = ray.get_runtime_context().gcs_address
    return ("ray", there) if _is_same(address, there) else None


def _is_same(address: str | None, there: str) -> bool:
    return address in {None, "auto"} or _resolved(address) == _resolved(there)


def _check_same(address: str | None) -> None:
    """Refuse an address that is not that of the Ray which the program is connected to."""
    there = ray.get_runtime_context().gcs_address
    if not _is_same(address, there):
        raise HyperNodesError(
            f"the program is connected to the Ray at {there!r}, and so cannot use that at "
            f"{address!r}: close the executors that use the first, or call ray.shutdown()"
        )


def _resolved(address: str | None) -> tuple[str, str]:
    host, _, port = (address or "").rpartition(":")
    with suppress(OSError):
        host = socket.gethostbyname(host)
    return (ray.util.get_node_ip_address() if host.startswith("127.") else host), port


def _check_address(address: str) -> None:
    """Refuse the address of nobody, or of others, at once: Ray itself takes a minute or more."""
    host, _, port = address.rpartition(":")
    if not (host and port.isdigit()):
        return
    where = host.strip("[]"), int(port)
    problem = problem_at(*where)
    if problem is not None:
        raise HyperNodesError(f"no Ray can be reached at {address!r}: {problem}")
    if not listens(where):
        raise _unreachable(address, "nobody answers there")
    if not (os.environ.get("RAY_USE_TLS") or _greets(where)):
        raise _unreachable(address, "who listens there is no Ray: is it another's port?")


def _greets(where: tuple[str, int]) -> bool:
    """Whether who listens speaks HTTP/2, as Ray does, and so begins with its settings."""
    try:
        with socket.create_connection(where, GREETS_IN) as there:
            there.sendall(PREFACE)
            with there.makefile("rb") as heard:
                return heard.read(4)[3:] == SETTINGS
    except OSError:
        return False


def _unreachable(address: str | None, reason: str) -> HyperNodesError:
    return HyperNodesError(
        f"there is no Ray to be reached at {address!r} ({reason}); see whether it is up, and "
        f"whether it wants a token: then set RAY_AUTH_MODE=token before Ray is imported, and have "
        f"its token in RAY_AUTH_TOKEN or ~/.ray/auth_token"
    )
