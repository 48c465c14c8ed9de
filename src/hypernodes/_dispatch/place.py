"""Where code runs: the thread, the process and the machine that events name."""

from __future__ import annotations

import os
import platform
import threading
from functools import lru_cache
from typing import NamedTuple


class Worker(NamedTuple):
    """Where an event happened.

    Attributes:
        thread: The name of the thread.
        process: The id of the process.
        host: The name of the machine.
    """

    thread: str
    process: int
    host: str


def current_worker() -> Worker:
    """Return where the current code runs, as one object for all records that name it.

    They travel together, and pickle writes one object once: who it was costs a chunk of records
    what it costs one.
    """
    return _worker_called(threading.current_thread().name)


@lru_cache(maxsize=1024)
def _worker_called(thread: str) -> Worker:
    return Worker(thread, os.getpid(), platform.node())


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_worker_called.cache_clear)
