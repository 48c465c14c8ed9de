"""Who watches over the attempts at a node; a worker process has its driver do it."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from hypernodes.config import RetryPolicy

Call = Callable[..., Any]


class Watch:
    """Watches over the attempts at one node; this one leaves all to the process itself.

    Attributes:
        kills: Whether late calls are ended from outside, so that they may run in this very thread.
    """

    kills: bool = False

    def whole(self, call: Call) -> Call:
        """Return `call`, which makes all attempts, watched."""
        return call

    def attempt(self, call: Call) -> Call:
        """Return `call`, which makes one attempt, watched."""
        return call

    def made(self) -> int:
        """Return how many attempts were made before, by workers that are gone."""
        return 0


UNWATCHED: Final = Watch()
NewWatch = Callable[[tuple[str, ...], "float | None", "RetryPolicy | None", bool], Watch]


def _unwatched(
    _path: tuple[str, ...],
    _timeout: float | None,
    _policy: RetryPolicy | None,
    _coroutine: bool,  # noqa: FBT001 - the contract of NEW_WATCH
) -> Watch:
    return UNWATCHED


NEW_WATCH: Final[ContextVar[NewWatch]] = ContextVar("hypernodes_new_watch", default=_unwatched)
"""Makes the watch on a node, given its path, timeout, retries, and whether it is a coroutine."""
