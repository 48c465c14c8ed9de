"""Calls that block, for asynchronous code: in a thread of their own that can be told to stop."""

from __future__ import annotations

import threading
from contextlib import suppress
from contextvars import copy_context
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

from hypernodes._cancel import CANCELLATION, Cancellation
from hypernodes._loop import PLACE, home, settled

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

Result = TypeVar("Result")


class Aside:
    """A thread that makes calls for coroutines, one after another.

    Cancelling the task that awaits a call ends what the call does, and the thread with it.
    """

    def __init__(self) -> None:
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._cancellation = Cancellation(between_steps=True)
        threading.Thread(
            target=_serve, args=(self._jobs,), name="hypernodes-aside", daemon=True
        ).start()

    async def call(self, function: Callable[..., Result], *args: Any) -> Result:
        """Return what `function(*args)` returns in the thread, in the caller's context."""
        import asyncio  # noqa: PLC0415 - only asynchronous code comes here

        loop = asyncio.get_running_loop()
        found: asyncio.Future[_Found] = loop.create_future()
        ended = asyncio.Event()
        context = copy_context()
        context.run(CANCELLATION.set, self._cancellation)
        here = home()
        if here is not None:  # awaiting does not block our own loop
            context.run(PLACE.set, here.place)

        def job() -> None:
            result = context.run(_attempt, function, args)
            with suppress(RuntimeError):  # the loop is closed: nobody is left to be told
                loop.call_soon_threadsafe(_tell, found, ended, result)

        found.add_done_callback(self._stop_if_cancelled)
        self._jobs.put(job)
        del job
        error, value = await settled(found, ended)
        if error is None:
            return value  # type: ignore[no-any-return]
        try:
            raise error
        finally:
            del error  # it holds this frame through its traceback

    def _stop_if_cancelled(self, found: asyncio.Future[_Found]) -> None:
        if found.cancelled():
            self.stop()

    def later(self, function: Callable[[], None]) -> None:
        """Have `function`, which never raises, called when the calls before it are over."""
        self._jobs.put(function)

    def stop(self) -> None:
        """End what the thread is at, as far as it can be ended."""
        self._cancellation.ask()

    def end(self) -> None:
        """Let the thread end when the calls are over."""
        self._jobs.put(None)


_Found = tuple[BaseException | None, Any]


def _attempt(function: Callable[..., Any], args: tuple[Any, ...]) -> _Found:
    try:
        return None, function(*args)
    except BaseException as error:  # noqa: BLE001 - raised again by whoever awaits it
        return error, None


def _tell(found: asyncio.Future[_Found], ended: asyncio.Event, result: _Found) -> None:
    ended.set()
    if not found.done():
        found.set_result(result)


def _serve(jobs: SimpleQueue[Callable[[], None] | None]) -> None:
    while (job := jobs.get()) is not None:
        job()
        del job


async def in_thread(function: Callable[..., Result], *args: Any) -> Result:
    """Return what `function(*args)` returns in a thread of its own, in the caller's context."""
    aside = Aside()
    try:
        return await aside.call(function, *args)
    finally:
        aside.end()
