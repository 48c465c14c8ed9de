"""Warnings about caches: one for each cache and run, however often it fails."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from hypernodes.exceptions import CacheWarning

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["TOLD_IN_RUN", "Trouble", "warn_once_each"]


class Trouble:
    """What one cache has to complain about: said once in a run, or once in all outside of runs."""

    def __init__(self) -> None:
        self._told: set[int] = set()

    def tell(self, message: str) -> None:
        """Issue a `CacheWarning`, unless this cache has already issued one."""
        run = TOLD_IN_RUN.get()
        told = self._told if run is None else run
        if id(self) not in told:
            told.add(id(self))
            warnings.warn(message, CacheWarning, stacklevel=2)


@contextmanager
def warn_once_each() -> Iterator[None]:
    """Let each cache issue one warning inside this block, and in the threads it starts.

    A block inside another one changes nothing.
    """
    if TOLD_IN_RUN.get() is not None:
        yield
        return
    token = TOLD_IN_RUN.set(set())
    try:
        yield
    finally:
        TOLD_IN_RUN.reset(token)


TOLD_IN_RUN: ContextVar[set[int] | None] = ContextVar("hypernodes_caches_that_warned", default=None)
"""The caches that have issued a warning in the current run; None outside of runs."""
