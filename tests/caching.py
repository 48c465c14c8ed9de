"""What the tests of runs with a cache share."""

import contextlib
import os
from pathlib import Path

from hypernodes import (
    AsyncExecutor,
    CompositeExecutor,
    DiskCache,
    MemoryCache,
    ProcessPoolExecutor,
    SequentialExecutor,
    ThreadPoolExecutor,
)

EXECUTORS = {
    "sequential": SequentialExecutor(),
    "thread": ThreadPoolExecutor(max_workers=2),
    "async": AsyncExecutor(max_concurrency=2),
    "process": ProcessPoolExecutor(max_workers=2),
    "composite": CompositeExecutor(
        map_executor=ThreadPoolExecutor(max_workers=2),
        node_executor=AsyncExecutor(max_concurrency=2),
    ),
    "composite-process": CompositeExecutor(
        map_executor=ProcessPoolExecutor(max_workers=2),
        node_executor=ThreadPoolExecutor(max_workers=2),
    ),
    "composite-in-order": CompositeExecutor(
        map_executor=ThreadPoolExecutor(max_workers=2), node_executor=SequentialExecutor()
    ),
}


class Tally:
    """Counts calls across processes, without being part of what functions hash to."""

    def __init__(self, path):
        self._path = os.fspath(path)

    def __cache_key__(self):
        return "tally"

    def add(self, name):
        descriptor = os.open(self._path, os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o600)
        try:
            os.write(descriptor, f"{name}\n".encode())
        finally:
            os.close(descriptor)

    def take(self):
        """Return what was counted since the last time, sorted."""
        lines = []
        with contextlib.suppress(FileNotFoundError):
            lines = Path(self._path).read_text(encoding="utf-8").splitlines()
            Path(self._path).unlink()
        return sorted(lines)


class LoggingCache(MemoryCache):
    """Tells which signatures were asked for, found and stored."""

    def __init__(self):
        super().__init__()
        self.asked, self.found, self.stored = [], [], []

    def get(self, signature):
        self.asked.append(signature)
        value = super().get(signature)
        if signature in self._kept:
            self.found.append(signature)
        return value

    def put(self, signature, value):
        super().put(signature, value)
        self.stored.append(signature)

    def __reduce__(self):
        return LoggingCache, ()


class BrokenCache(MemoryCache):
    """Raises whatever it is asked."""

    def get(self, signature):
        raise OSError("unreadable")

    def put(self, signature, value):
        raise OSError("unwritable")

    def __reduce__(self):
        return BrokenCache, ()


def cache_of(kind, folder):
    return MemoryCache() if kind == "memory" else DiskCache(folder / "cache")
