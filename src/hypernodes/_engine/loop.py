"""Coroutines from synchronous code: one event loop in a background thread, never one per call.

Code on that loop may itself call `run` and so need a loop while its own is blocked: each loop has,
lazily, another one behind it.
"""

from __future__ import annotations

import os
import threading
from concurrent import futures
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Coroutine


class BackgroundLoop:
    """An event loop that runs in a daemon thread of its own."""

    def __init__(self) -> None:
        import asyncio  # noqa: PLC0415 - 30 ms that only asynchronous nodes should pay

        self._loop: asyncio.AbstractEventLoop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="hypernodes-loop", daemon=True)
        self._behind = _Lazy()
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, Any], timeout: float | None = None) -> Any:
        """Run `coroutine` in the caller's context and wait for it.

        Args:
            coroutine: What to run.
            timeout: How long to wait, in seconds.

        Raises:
            TimeoutError: It took longer; it has been cancelled. Told from the coroutine's own by
                the coroutine not being done.
        """
        import asyncio  # noqa: PLC0415

        if threading.current_thread() is self._thread:
            return self._behind.get().run(coroutine, timeout)
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            done, _ = futures.wait((future,), bounded(timeout))
        except BaseException:
            future.cancel()
            raise
        if not done:
            future.cancel()
            raise Overdue
        return future.result()

    def _serve(self) -> None:
        while True:
            try:
                self._loop.run_forever()
            except BaseException:  # noqa: BLE001, S112 - SystemExit in a coroutine: its future has it
                continue


class Overdue(Exception):  # noqa: N818 - a signal to the caller, which raises NodeTimeoutError
    """An attempt took longer than its timeout; it has been given up."""


def bounded(timeout: float | None) -> float | None:
    """Return `timeout` (seconds), or the longest that the platform can wait."""
    return None if timeout is None else min(timeout, threading.TIMEOUT_MAX)


class _Lazy:
    """One background loop, opened when it is first asked for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: BackgroundLoop | None = None

    def get(self) -> BackgroundLoop:
        with self._lock:
            if self._loop is None:
                self._loop = BackgroundLoop()
            return self._loop

    def forget(self) -> None:
        self._lock = threading.Lock()
        self._loop = None


_shared: Final = _Lazy()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_shared.forget)


def run_coroutine(coroutine: Coroutine[Any, Any, Any], timeout: float | None = None) -> Any:
    """Run `coroutine` on the shared background loop; see `BackgroundLoop.run`."""
    return _shared.get().run(coroutine, timeout)
