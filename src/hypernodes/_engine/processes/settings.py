"""What a worker takes over from its driver besides its work: where it is, and what it warns of."""

from __future__ import annotations

import os
import re
import sys
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from hypernodes._engine.processes.launch import import_path


class Settings(NamedTuple):
    """What holds in the driver when a run begins."""

    path: list[str]
    directory: str
    environment: dict[str, str]
    filters: list[tuple[Any, ...]]


def current() -> Settings:
    """Return the settings of this process."""
    filters = [
        (action, _pattern(message), category, _pattern(module), line)
        for action, message, category, module, line in warnings.filters
    ]
    return Settings(import_path(), str(Path.cwd()), dict(os.environ), filters)


def _pattern(value: str | re.Pattern[str] | None) -> str:
    if value is None:
        return ""
    return value.pattern if isinstance(value, re.Pattern) else rf"{re.escape(value)}\Z"


def apply(settings: Settings) -> None:
    """Take over settings."""
    sys.path[:] = settings.path
    if settings.environment != dict(os.environ):
        os.environ.clear()
        os.environ.update(settings.environment)
    with suppress(OSError):  # it is gone: whoever needs it will say so
        os.chdir(settings.directory)
    warnings.resetwarnings()
    for action, message, category, module, line in reversed(settings.filters):
        warnings.filterwarnings(action, message, category, module, line)
