"""What callbacks have in common that gather facts of all runs they observe."""

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
