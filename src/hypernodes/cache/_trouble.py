"""Warnings about caches: one for each cache and run, however often it fails."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from hypernodes._alerts import warn_user
from hypernodes.exceptions import CacheWarning

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

__all__ = ["TOLD_IN_RUN", "Told", "Trouble", "warn_about", "warn_once_each"]


class Told:
    """What has been told already; thread-safe."""

    def __init__(self) -> None:
        self._told: dict[Hashable, object] = {}

    def is_new(self, about: Hashable) -> bool:
        """Tell whether nothing was told of this before; from now on, it was.

        Args:
            about: What is to be told of.
        """
        mine = object()
        return self._told.setdefault(about, mine) is mine


class Trouble:
    """What one cache has to complain about: said once in a run, or once in all outside of runs.

    Args:
        place: Where the cache is; those at the same place share a warning.
    """

    def __init__(self, place: str) -> None:
        self._about = ("place", place)
        self._told = Told()

    def tell(self, message: str) -> None:
        """Issue a `CacheWarning`, unless this cache has already issued one."""
        told = TOLD_IN_RUN.get() or self._told
        if told.is_new(self._about):
            warn_about(self._about, message)


def warn_about(about: Hashable, message: str) -> None:
    """Issue a `CacheWarning` that knows what it is about, from where this package was called.

    Args:
        about: What is the same, in every process, for warnings of which one will do.
        message: The warning.
    """
    warning = CacheWarning(message)
    warning.about = about
    warn_user(warning)


@contextmanager
def warn_once_each() -> Iterator[None]:
    """Let each cache issue one warning inside this block, and in the threads it starts.

    A block inside another one changes nothing.
    """
    if TOLD_IN_RUN.get() is not None:
        yield
        return
    token = TOLD_IN_RUN.set(Told())
    try:
        yield
    finally:
        TOLD_IN_RUN.reset(token)


TOLD_IN_RUN: ContextVar[Told | None] = ContextVar("hypernodes_caches_that_warned", default=None)
"""What has been told in the current run; None outside of runs."""
