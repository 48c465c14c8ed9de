"""What a worker takes over from its driver besides its work: where it is, and what it warns of."""

from __future__ import annotations

import os
import pickle
import re
import sys
import warnings
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import cloudpickle

if TYPE_CHECKING:
    from collections.abc import Mapping

_own: Final[dict[str, str]] = {}


class Settings(NamedTuple):
    """What holds in the driver when a run begins.

    Attributes:
        path: Where modules are found.
        directory: The working directory, or None where it is gone.
        environment: The environment variables.
        filters: Pickles of the filters of warnings: a worker need not know every category.
    """

    path: list[str]
    directory: Path | None
    environment: dict[str, str]
    filters: list[bytes]


def current() -> Settings:
    """Return the settings of this process."""
    filters = [
        _pickled((action, _pattern(message), category, _pattern(module), line))
        for action, message, category, module, line in warnings.filters
    ]
    return Settings(import_path(), working_directory(), dict(os.environ), filters)


def _pickled(warning_filter: tuple[Any, ...]) -> bytes:
    data = pickle.dumps(warning_filter)
    if b"__main__" in data:
        data = cloudpickle.dumps(warning_filter)
    return data


def _pattern(value: str | re.Pattern[str] | None) -> str:
    if value is None:
        return ""
    return value.pattern if isinstance(value, re.Pattern) else rf"{re.escape(value)}\Z"


def apply(settings: Settings) -> None:
    """Take over settings, also where code here has changed them since they were the same."""
    sys.path[:] = settings.path
    environment = settings.environment | _own
    if environment != dict(os.environ):
        os.environ.clear()
        os.environ.update(environment)
    if settings.directory is not None:
        with suppress(OSError):  # it is gone: whoever needs it will say so
            os.chdir(settings.directory)
    warnings.resetwarnings()
    for data in reversed(settings.filters):
        with suppress(Exception):  # of a category that is not to be had here
            warnings.filterwarnings(*pickle.loads(data))  # noqa: S301 - from our own driver


def look_there_last(settings: Settings) -> None:
    """Find modules also where the driver does, if that is here as well: after all that is ours."""
    places = (place for place in settings.path if place not in sys.path)
    sys.path.extend(filter(os.path.exists, places))  # a Path raises where it may not look


def keep_variables(own: Mapping[str, str]) -> None:
    """Let this process keep environment variables, whatever its driver has."""
    _own.update(own)


def import_path() -> list[str]:
    """Return `sys.path` in a form that holds in any working directory."""
    here = working_directory()
    return [*sys.path] if here is None else [str(here / entry) for entry in sys.path]


def working_directory() -> Path | None:
    """Return the working directory, or None where it is gone."""
    try:
        return Path.cwd()
    except OSError:
        return None
