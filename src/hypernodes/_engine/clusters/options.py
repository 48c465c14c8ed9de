"""Options of hooks that mean the same for every kind of cluster."""

from __future__ import annotations

from hypernodes.exceptions import InputError


def check_timeout(given: object) -> None:
    """Refuse what is no time to wait.

    Args:
        given: The option `timeout`.

    Raises:
        InputError: It is no number of seconds.
    """
    if isinstance(given, bool) or not isinstance(given, int | float) or not given > 0:
        message = f"option 'timeout' has to be a number of seconds, more than 0, not {given!r}"
        raise InputError(message, name="timeout")
