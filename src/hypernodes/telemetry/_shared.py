"""What callbacks have in common: gathering facts of all runs, and words for any value."""

from __future__ import annotations

import threading
from typing import Any

from hypernodes.callbacks import Callback


class Gathering(Callback):
    """Gathers facts of several runs, perhaps at the same time; pickles without its lock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._lock = threading.Lock()


def spelled(value: object) -> str:
    """Return the `repr` of any value; of one whose `repr` fails, its type."""
    try:
        return repr(value)
    except Exception:  # noqa: BLE001 - whatever the user's class raises
        return f"<a {type(value).__name__}, whose repr fails>"


def message_of(error: BaseException) -> str:
    """Return what an error says; of one that cannot say it, nothing."""
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - whatever the user's class raises
        return ""
