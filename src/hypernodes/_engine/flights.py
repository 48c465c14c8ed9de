"""Single flight: of several who miss the same at the same time, one computes and the others wait.

Only the call of a function is a flight, never what waits for its turn. Nothing can deadlock: who
leads a flight never waits for another one, and before it waits for workers, which might all wait
for it, it lets go of its passengers. They then try themselves.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from concurrent import futures
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Hashable
    from contextvars import Token

# Landings that are remembered.
_MOST: Final = 4096


class Flight:
    """One computation under way.

    Args:
        flights: All of this process.
        key: What is computed.

    Attributes:
        landing: Its end, once there is somebody who waits for it.
    """

    __slots__ = ("_flights", "_token", "key", "landing")

    def __init__(self, flights: Flights, key: Hashable) -> None:
        self.key = key
        self.landing: futures.Future[None] | None = None
        self._flights = flights
        self._token: Token[tuple[Flight, ...]] | None = None

    def depart(self, *, alone: bool) -> None:
        """Take note that the code that runs now is this flight, until `land`.

        Args:
            alone: Whether it may wait for workers, because none of them waits for it.
        """
        if not alone:
            self._token = _led.set((*_led.get(), self))

    def land(self) -> None:
        """End, whatever came of it."""
        if self._token is not None:
            _led.reset(self._token)
        self._flights.close(self, landed=True)

    def release(self) -> None:
        """Let nobody wait any longer."""
        self._flights.close(self, landed=False)


class Flights:
    """What is under way in this process, and what has landed lately; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[Hashable, Flight] = {}
        self._landed: OrderedDict[Hashable, int] = OrderedDict()
        self._count = 0

    def forget(self) -> None:
        """Forget what only the parent of a forked process has under way."""
        self._lock = threading.Lock()
        self._open = {}

    def now(self) -> int:
        """Return a mark, to ask `has_landed` about."""
        return self._count

    def start(self, key: Hashable) -> tuple[Flight, futures.Future[None] | None]:
        """Return a new flight; or one that is under way, and its end to wait for.

        Args:
            key: What is to be computed.
        """
        flight = Flight(self, key)
        with self._lock:
            other = self._open.setdefault(key, flight)
            if other is flight or _led.get():  # nobody can wait for one inside of another
                return flight, None
            if other.landing is None:
                other.landing = futures.Future()
            return other, other.landing

    def has_landed(self, key: Hashable, since: int) -> bool:
        """Return whether a flight may have landed since a mark."""
        return self._landed.get(key, 0) > since or self._count - since > _MOST

    def close(self, flight: Flight, *, landed: bool) -> None:
        """Let the next one start, and those who wait go on."""
        with self._lock:
            if self._open.get(flight.key) is flight:
                del self._open[flight.key]
            if landed:
                self._remember(flight.key)
        if flight.landing is not None and not flight.landing.done():
            flight.landing.set_result(None)

    def _remember(self, key: Hashable) -> None:
        self._count += 1
        self._landed[key] = self._count
        self._landed.move_to_end(key)
        if len(self._landed) > _MOST:
            self._landed.popitem(last=False)


def release_flights() -> None:
    """Let nobody wait for the code that runs now: it is about to wait for workers."""
    for flight in _led.get():
        flight.release()


FLIGHTS: Final = Flights()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=FLIGHTS.forget)

_led: Final[ContextVar[tuple[Flight, ...]]] = ContextVar("hypernodes_flights", default=())
