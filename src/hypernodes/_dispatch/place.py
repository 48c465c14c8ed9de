"""Where code runs: the thread, the process and the machine that events name."""

from __future__ import annotations

import os
import platform
import threading
from typing import Final, NamedTuple


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


_local: Final = threading.local()


def current_worker() -> Worker:
    """Return where the current code runs, the same object as long as that stays true.

    Records that name it travel together, and pickle writes one object once: who it was costs a
    chunk of records what it costs one.
    """
    here = threading.current_thread().name, os.getpid()
    known: Worker | None = getattr(_local, "worker", None)
    if known is None or known[:2] != here:
        known = _local.worker = Worker(*here, platform.node())
    return known
