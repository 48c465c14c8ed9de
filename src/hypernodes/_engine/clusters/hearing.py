"""Warnings of caches in a worker of a cluster: these are for the driver, which issues each once."""

from __future__ import annotations

import warnings
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from hypernodes.exceptions import CacheWarning

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable

    from hypernodes._engine.clusters.briefs import Notice

HEARING: Final[ContextVar[deque[Notice] | None]] = ContextVar("hypernodes_hearing", default=None)
"""Where notices for the driver go from the chunk that runs."""


def overhear() -> None:
    """See to it that warnings of caches go to the driver; others are shown as before."""
    show: Any = warnings.showwarning
    if not (isinstance(show, partial) and show.func is _hear):  # else it is so already
        warnings.showwarning = partial(_hear, show)


def _hear(show: Callable[..., None], message: Warning | str, *args: Any, **kwargs: Any) -> None:
    notices = HEARING.get()
    if notices is not None and isinstance(message, CacheWarning):
        notices.append(("warn", message.about, str(message)))
    else:
        show(message, *args, **kwargs)
