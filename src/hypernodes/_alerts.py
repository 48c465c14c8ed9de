"""Warnings that point at the user's own line."""

from __future__ import annotations

import sys
import warnings
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["warn_user"]

_PACKAGE: Final = __name__.partition(".")[0]


def warn_user(warning: Warning) -> None:
    """Issue a warning, from where this package was called.

    Args:
        warning: The warning.
    """
    level, frame = 1, sys._getframe()  # noqa: SLF001 - `skip_file_prefixes` is for Python 3.12
    while frame.f_back is not None and _is_ours(frame):
        level, frame = level + 1, frame.f_back
    warnings.warn(warning, stacklevel=level)


def _is_ours(frame: FrameType) -> bool:
    name = str(frame.f_globals.get("__name__", ""))
    return name.partition(".")[0] == _PACKAGE
