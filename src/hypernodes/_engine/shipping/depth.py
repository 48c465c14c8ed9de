"""Calls that go deeper than Python allows by default: pipelines nested hundreds of levels deep."""

from __future__ import annotations

import sys
import threading
from concurrent import futures
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

DEEPEST: Final = 50_000
STACK: Final = 1 << 28
Result = TypeVar("Result")
_lock: Final = threading.Lock()


def call_deeply(call: Callable[[], Result]) -> Result:
    """Return what `call` returns, in a thread with a stack for `DEEPEST` calls inside calls."""
    future: futures.Future[Result] = futures.Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:  # noqa: BLE001 - raised again by the caller
            future.set_exception(error)

    with _lock:
        limit, size = sys.getrecursionlimit(), threading.stack_size(STACK)
        sys.setrecursionlimit(max(limit, DEEPEST))
        try:
            thread = threading.Thread(target=run, name="hypernodes-depth", daemon=True)
            thread.start()
            threading.stack_size(size)
            thread.join()
        finally:
            threading.stack_size(size)
            sys.setrecursionlimit(limit)
    return future.result()
