"""Single flight: of several who miss the same at the same time, one computes and the others wait.

Only the call of a function is a flight, never what waits for its turn. Nothing can deadlock: who
leads a flight never waits for another one, and before it waits for workers, which might all wait
for it, it lets go of its passengers. They then try themselves.
"""

from __future__ import annotations

import threading
from concurrent import futures
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

_REMEMBERED: Final = 4096


class Flight:
    """One computation under way.

    Args:
        flights: All of this process.
        key: What is computed.
    """

    def __init__(self, flights: Flights, key: Hashable) -> None:
        self.landing: futures.Future[None] = futures.Future()
        self._flights = flights
        self._key = key

    @contextmanager
    def led(self, *, alone: bool) -> Iterator[None]:
        """Have the flight end with a block, whatever comes of it.

        Args:
            alone: Whether the block may wait for workers: none of them waits for it.
        """
        token = None if alone else _led.set((*_led.get(), self))
        try:
            yield
        finally:
            if token is not None:
                _led.reset(token)
            self._flights.land(self._key)
            self.release()

    def release(self) -> None:
        """Let nobody wait any longer."""
        self._flights.close(self._key, self)
        if not self.landing.done():
            self.landing.set_result(None)


class Flights:
    """What is under way in this process, and what has landed lately; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[Hashable, Flight] = {}
        self._landed: dict[Hashable, int] = {}
        self._count = 0

    def now(self) -> int:
        """Return a mark, to ask `has_landed` about."""
        return self._count

    def start(self, key: Hashable) -> tuple[Flight, bool]:
        """Return a new flight and True, or the one to wait for and False.

        Args:
            key: What is to be computed.
        """
        flight = Flight(self, key)
        with self._lock:
            other = self._open.setdefault(key, flight)
        if other is flight or _led.get():  # inside of another flight: nobody can wait for this one
            return flight, True
        return other, False

    def has_landed(self, key: Hashable, since: int) -> bool:
        """Return whether a flight may have landed since a mark."""
        return self._landed.get(key, 0) > since or self._count - since > _REMEMBERED

    def land(self, key: Hashable) -> None:
        """Take note that a flight has ended."""
        with self._lock:
            self._count += 1
            self._landed.pop(key, None)
            self._landed[key] = self._count
            if len(self._landed) > _REMEMBERED:
                del self._landed[next(iter(self._landed))]

    def close(self, key: Hashable, flight: Flight) -> None:
        """Let the next one start."""
        with self._lock:
            if self._open.get(key) is flight:
                del self._open[key]


def release_flights() -> None:
    """Let nobody wait for the code that runs now: it is about to wait for workers."""
    for flight in _led.get():
        flight.release()


FLIGHTS: Final = Flights()
_led: Final[ContextVar[tuple[Flight, ...]]] = ContextVar("hypernodes_flights", default=())
