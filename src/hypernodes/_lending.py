"""What a worker does with its place while it waits for other work: it lends it to another thread.

Code in a worker may wait for the workers of another executor, whose code may wait for those of the
first. As in a fork/join pool with managed blocking (D. Lea, `ForkJoinPool.managedBlock`), whoever
waits lets another thread work meanwhile, so that all places can never be taken by those who wait.
"""

from __future__ import annotations

import os
import threading
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Result = TypeVar("Result")
_NOTHING: Final[AbstractContextManager[None]] = nullcontext()
_this_thread: Final[Any] = threading.local()


if hasattr(os, "register_at_fork"):  # a child has no pool, whichever thread forked it
    os.register_at_fork(after_in_child=lambda: vars(_this_thread).clear())


def lend_by(lend: Callable[[], AbstractContextManager[None]]) -> None:
    """Have the current thread, a worker, lend its place by `lend` whenever it waits."""
    _this_thread.lend = lend


def lent_as(call: Callable[..., Result]) -> Callable[..., Result]:
    """Return `call` for a thread that makes it for the current one, which waits for it.

    Args:
        call: What lends the place of the current thread, if it is a worker, whenever it waits.
    """
    lend = getattr(_this_thread, "lend", None)
    if lend is None:
        return call

    def called(*args: Any, **kwargs: Any) -> Result:
        before = getattr(_this_thread, "lend", None)
        _this_thread.lend = lend
        try:
            return call(*args, **kwargs)
        finally:
            _this_thread.lend = before

    return called


def place_lent() -> AbstractContextManager[None]:
    """Return the block in which the current thread waits; nothing, where it is no worker."""
    lend = getattr(_this_thread, "lend", None)
    return _NOTHING if lend is None else lend()
