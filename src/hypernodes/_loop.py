"""Coroutines from synchronous code: one event loop in a background thread, never one per call.

Code on that loop may itself call `run` and so need a loop while its own is blocked: each loop has,
lazily, another one behind it. Context variables say which one to take, so that workers of a run
that blocks a loop take the one behind it, too.
"""

from __future__ import annotations

import os
import sys
import threading
from concurrent import futures
from contextlib import suppress
from contextvars import Context, ContextVar, copy_context
from typing import TYPE_CHECKING, Any, Final

from hypernodes._cancel import result_of, wait_for

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Coroutine

GRACE: Final = 0.1
"""Seconds that who cancels something waits for it to tidy up; what takes longer goes on alone."""


class Overdue(Exception):  # noqa: N818 - a signal to the caller, which raises NodeTimeoutError
    """An attempt took longer than its timeout; it has been given up."""


class BackgroundLoop:
    """An event loop that runs in a daemon thread of its own.

    Args:
        place: Where it is kept.

    Attributes:
        loop: The event loop.
        place: Where it is kept.
        behind: Where the loop is kept that serves code which blocks this one.
    """

    def __init__(self, place: Place) -> None:
        import asyncio  # noqa: PLC0415 - 30 ms that only asynchronous nodes should pay

        self.loop: asyncio.AbstractEventLoop = asyncio.new_event_loop()
        self.place: Place = place
        self.behind: Place = Place()
        self.thread: threading.Thread = _LoopThread(self)
        self.thread.start()

    def begin(self, coroutine: Coroutine[Any, Any, Any]) -> futures.Future[Any]:
        """Start `coroutine` in the caller's context."""
        import asyncio  # noqa: PLC0415

        context = self.context(copy_context())
        return context.run(asyncio.run_coroutine_threadsafe, coroutine, self.loop)

    def context(self, outer: Context) -> Context:
        """Return a copy of `outer` for code on this loop."""
        context = outer.copy()
        context.run(PLACE.set, self.behind)
        return context

    def run(self, coroutine: Coroutine[Any, Any, Any], timeout: float | None = None) -> Any:
        """Run `coroutine` in the caller's context and wait for it.

        Args:
            coroutine: What to run.
            timeout: How long to wait, in seconds.

        Raises:
            Overdue: It took longer; it has been cancelled, and is not waited for.
        """
        future = self.begin(coroutine)
        try:
            done = wait_for(future, timeout)
        except BaseException:
            future.cancel()
            self.finish(_moment())
            raise
        if not done:
            future.cancel()
            self._make_way()
            raise Overdue
        return _result(future)

    def _make_way(self) -> None:
        """Let later coroutines have another loop, should this one be blocked."""
        answer = self.begin(_nothing())
        if not futures.wait((answer,), GRACE).done:
            self.place.leave(self)

    def finish(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run `coroutine`, which tidies up, and wait for a moment; it cannot be told to stop."""
        future = self.begin(coroutine)
        if not sys.is_finalizing():  # this thread may be the last
            futures.wait((future,), 2 * GRACE)


async def _nothing() -> None:
    """Show that the loop goes round."""


async def _moment() -> None:
    """Let those who have been cancelled tidy up."""
    import asyncio  # noqa: PLC0415

    await asyncio.sleep(GRACE / 10)


def _result(future: futures.Future[Any]) -> Any:
    try:
        return result_of(future)
    except futures.CancelledError:
        import asyncio  # noqa: PLC0415

        raise asyncio.CancelledError from None  # the coroutine's own


class _LoopThread(threading.Thread):
    def __init__(self, owner: BackgroundLoop) -> None:
        super().__init__(name="hypernodes-loop", daemon=True)
        self.owner = owner

    def run(self) -> None:
        while True:
            try:
                self.owner.loop.run_forever()
            except BaseException:  # noqa: BLE001, S112 - SystemExit: its future has it
                continue


class Place:
    """Where one background loop is kept; it is opened when it is first asked for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: BackgroundLoop | None = None

    def get(self) -> BackgroundLoop:
        """Return the loop."""
        if self._loop is not None:
            return self._loop
        with self._lock:
            if self._loop is None:
                self._loop = BackgroundLoop(self)
            return self._loop

    def leave(self, loop: BackgroundLoop) -> None:
        """Have another loop opened when the next one is asked for."""
        with self._lock:
            if self._loop is loop:
                self._loop = None

    def forget(self) -> None:
        """Forget what only the parent of a forked process has."""
        self._lock = threading.Lock()
        self._loop = None


SHARED: Final = Place()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=SHARED.forget)

PLACE: Final[ContextVar[Place]] = ContextVar("hypernodes_loop_place", default=SHARED)
"""Where the loop is kept that current code may block upon: none that waits for this code."""


def background() -> BackgroundLoop:
    """Return the loop for coroutines that current code waits for."""
    loop = PLACE.get().get()
    here = home()
    while here is not None and loop is here:
        loop = loop.behind.get()
    return loop


def home() -> BackgroundLoop | None:
    """Return the background loop whose thread this is."""
    thread = threading.current_thread()
    return thread.owner if isinstance(thread, _LoopThread) else None


def run_coroutine(coroutine: Coroutine[Any, Any, Any], timeout: float | None = None) -> Any:
    """Run `coroutine` on a background loop; see `BackgroundLoop.run`."""
    return background().run(coroutine, timeout)


async def settled(waiting: asyncio.Future[Any], ended: asyncio.Event) -> Any:
    """Await `waiting`; if this is cancelled, give what it waits for a moment to tidy up.

    Args:
        waiting: What is awaited; it is cancelled with the task that awaits it.
        ended: Set when what it waits for is over.
    """
    import asyncio  # noqa: PLC0415

    try:
        return await waiting
    except asyncio.CancelledError:
        with suppress(TimeoutError):
            await asyncio.wait_for(ended.wait(), GRACE)
        raise


async def await_on(host: BackgroundLoop, coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Await `coroutine` on `host`, from whatever loop this is; cancelling goes through."""
    import asyncio  # noqa: PLC0415

    if home() is host:
        return await coroutine
    ended = asyncio.Event()
    future = host.begin(_telling(coroutine, asyncio.get_running_loop(), ended))
    return await settled(asyncio.wrap_future(future), ended)


async def _telling(
    coroutine: Coroutine[Any, Any, Any], loop: asyncio.AbstractEventLoop, ended: asyncio.Event
) -> Any:
    try:
        return await coroutine
    finally:
        with suppress(RuntimeError):  # the other loop is closed: nobody is left to be told
            loop.call_soon_threadsafe(ended.set)
