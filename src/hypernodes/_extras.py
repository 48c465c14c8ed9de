"""Optional dependencies: imported where they are used, with the line that installs them."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from hypernodes.exceptions import MissingDependencyError

__all__ = ["import_extra"]


def import_extra(module: str, *, extra: str, user: str) -> Any:
    """Import what an extra brings.

    Args:
        module: The module to import.
        extra: The extra of hypernodes that brings it.
        user: What needs it, as a user calls it.

    Returns:
        The module.

    Raises:
        MissingDependencyError: It is not installed.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        missing = error.name or module
        if missing.partition(".")[0] != module.partition(".")[0]:
            raise
        line = f'pip install "hypernodes[{extra}]"'
        message = f"{user} needs {missing}, which is not installed: {line}"
        raise MissingDependencyError(message, extra=extra) from error
