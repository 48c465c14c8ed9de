"""Ending a run from outside: who waits for something inside it is woken and told to stop.

A run that was started from asynchronous code lives in a thread of its own. When the task that
awaits it is cancelled, that thread may wait for workers, for a coroutine or for the next attempt;
each of these waits goes through here. Context variables take the order along to all that the run
starts.
"""

from __future__ import annotations

import math
import threading
import time
from concurrent import futures
from contextlib import contextmanager, nullcontext, suppress
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

GLANCE: Final = 0.5
"""Seconds after which every wait looks up: Ctrl-C just before it begins would not end it."""


class Abandoned(BaseException):
    """Whoever awaited the run has been cancelled; it ends, and nobody gets its result."""


class Cancellation:
    """The order to stop, for one run, and for what goes on inside it.

    A new one belongs to the run that the current code belongs to, and ends with it.

    Args:
        between_steps: Whether to look for the order between two steps that do not wait.

    Attributes:
        between_steps: The same; also true where it is so for the run around.
    """

    def __init__(self, *, between_steps: bool = False) -> None:
        self._outer = CANCELLATION.get()
        self._lock = threading.Lock()
        self._wakers: dict[object, Callable[[], object]] = {}
        self._asked = False
        self.between_steps: bool = between_steps or is_watched()

    def ask(self) -> None:
        """Give the order, once and for all."""
        with self._lock:
            self._asked = True
            wakers = list(self._wakers.values())
        for wake in wakers:
            wake()

    def check(self) -> None:
        """Raise `Abandoned` if the order has been given."""
        if self._asked:
            raise Abandoned
        if self._outer is not None:
            self._outer.check()

    @contextmanager
    def waking(self, wake: Callable[[], object]) -> Iterator[None]:
        """Have `wake` called when the order is given, also if it has been given before."""
        key = object()
        with self._outer.waking(wake) if self._outer else nullcontext():
            with self._lock:
                self._wakers[key] = wake
                asked = self._asked
            if asked:
                wake()
            try:
                yield
            finally:
                with self._lock:
                    del self._wakers[key]


CANCELLATION: Final[ContextVar[Cancellation | None]] = ContextVar(
    "hypernodes_cancellation", default=None
)
"""What can end the run that the current code belongs to; None where nothing can."""


def is_watched() -> bool:
    """Return whether the order to stop has to be looked for between steps."""
    cancellation = CANCELLATION.get()
    return cancellation is not None and cancellation.between_steps


@contextmanager
def waking(wake: Callable[[], object]) -> Iterator[None]:
    """Have `wake` called when the current run shall end."""
    cancellation = CANCELLATION.get()
    if cancellation is None:
        yield
        return
    with cancellation.waking(wake):
        yield


def check() -> None:
    """Raise `Abandoned` if the current run shall end."""
    cancellation = CANCELLATION.get()
    if cancellation is not None:
        cancellation.check()


def wait_for(future: futures.Future[Any], timeout: float | None = None) -> bool:
    """Wait until `future` is done; return whether it is.

    Args:
        future: What to wait for.
        timeout: For how long, in seconds.

    Raises:
        Abandoned: The current run shall end.
    """
    cancellation = CANCELLATION.get()
    if cancellation is None:
        _wait_for_one((future,), timeout)
        return future.done()
    woken: futures.Future[None] = futures.Future()
    with cancellation.waking(partial(_wake, woken)):
        _wait_for_one((future, woken), timeout)
    cancellation.check()
    return future.done()


def _wait_for_one(awaited: tuple[futures.Future[Any], ...], timeout: float | None) -> None:
    end = math.inf if timeout is None else time.monotonic() + timeout
    left = end - time.monotonic()
    while left > 0 and not any(future.done() for future in awaited):
        futures.wait(awaited, min(left, GLANCE), futures.FIRST_COMPLETED)
        left = end - time.monotonic()


def result_of(future: futures.Future[Any]) -> Any:
    """Return what `future` holds, or raise it, also where the exception is falsy."""
    error = future.exception()
    if error is not None:
        raise error
    return future.result()


def _wake(sleeper: futures.Future[None]) -> None:
    with suppress(futures.InvalidStateError):  # several may wake it
        sleeper.set_result(None)


async def pause(seconds: float) -> None:
    """Sleep in this thread, unless the current run shall end; a coroutine that never suspends."""
    if CANCELLATION.get() is None:
        time.sleep(seconds)  # noqa: ASYNC251 - there is no loop to block
    else:
        wait_for(futures.Future(), seconds)
