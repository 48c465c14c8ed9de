"""Timeouts for calls that nothing can interrupt: they run in a thread that is left behind."""

from __future__ import annotations

import os
import threading
from collections.abc import Awaitable, Callable
from concurrent import futures
from contextvars import copy_context
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final

from hypernodes._cancel import result_of, wait_for
from hypernodes._lending import lent_as
from hypernodes._loop import Overdue

if TYPE_CHECKING:
    import asyncio

Job = tuple["futures.Future[Any]", Callable[[], Any]]


class _Helper:
    """A daemon thread that makes calls for one other thread, until it is forgotten."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        threading.Thread(
            target=_serve, args=(self._jobs,), name="hypernodes-timeout", daemon=True
        ).start()

    def __del__(self) -> None:
        self._jobs.put(None)

    def submit(self, function: Callable[[], Any]) -> futures.Future[Any]:
        future: futures.Future[Any] = futures.Future()
        self._jobs.put((future, function))
        return future


def _serve(jobs: SimpleQueue[Job | None]) -> None:
    while (job := jobs.get()) is not None:
        future, function = job
        try:
            future.set_result(function())
        except BaseException as error:  # noqa: BLE001 - raised again by the caller
            future.set_exception(error)
        del job, future, function


class _Local(threading.local):
    helper: _Helper | None = None


_local: Final = _Local()


def _forget() -> None:
    """Forget the helper whose thread only the parent of a forked process has."""
    _local.helper = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def call_within(function: Callable[..., Any], timeout: float, args: Any, kwargs: Any) -> Any:
    """Call `function` in a helper thread, in the caller's context.

    Args:
        function: What to call.
        timeout: Seconds to wait.
        args: Its positional arguments.
        kwargs: Its keyword arguments.

    Raises:
        Overdue: It took longer. The call is left behind and may run on.
    """
    # Given back only when it is free again: a timed call inside a timed call has another one.
    helper, _local.helper = _local.helper or _Helper(), None
    context = copy_context()
    call = lent_as(function)
    future = helper.submit(lambda: context.run(call, *args, **kwargs))
    if not wait_for(future, timeout):
        raise Overdue
    _local.helper = helper
    return result_of(future)


async def await_within(awaitable: Awaitable[Any], seconds: float) -> Any:
    """Await `awaitable` on the running loop, in the caller's context.

    Args:
        awaitable: What to await.
        seconds: How long to wait.

    Raises:
        Overdue: It took longer. It has been cancelled; should it not heed that, it is left behind.
    """
    import asyncio  # noqa: PLC0415 - loaded by now: there is a loop

    task = asyncio.ensure_future(_finish(awaitable))
    try:
        done, _ = await asyncio.wait((task,), timeout=seconds)
    except BaseException:
        _leave(task)
        raise
    if not done:
        _leave(task)
        raise Overdue
    return task.result()


async def _finish(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


_left: Final[set[asyncio.Task[Any]]] = set()


def _leave(task: asyncio.Task[Any]) -> None:
    """Cancel `task`, and keep it until it ends, whatever it ends with."""
    task.cancel()
    _left.add(task)
    task.add_done_callback(_let_go)


def _let_go(task: asyncio.Task[Any]) -> None:
    _left.discard(task)
    if not task.cancelled():
        task.exception()  # seen by nobody else: asyncio need not complain
