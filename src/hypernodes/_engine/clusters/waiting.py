"""Says in the log what a run waits for, where that takes longer than usual."""

from __future__ import annotations

import logging
from time import monotonic
from typing import Final

_logger: Final = logging.getLogger("hypernodes.clusters")


class Waiting:
    """Tells of a wait that lasts; again when it has lasted twice as long.

    Args:
        late: How many seconds are nothing to tell of.
        words: What is waited for, and where to look.
    """

    def __init__(self, late: float, words: str) -> None:
        self._late = late
        self._words = words
        self._began: float | None = None
        self._due = late

    def goes_on(self) -> None:
        """Take note that there still is nothing."""
        now = monotonic()
        if self._began is None:
            self._began, self._due = now, self._late
        elif now - self._began >= self._due:
            self._due *= 2
            _logger.warning("%s (%.0f s by now)", self._words, now - self._began)

    def is_over(self) -> None:
        """Take note that nothing is waited for."""
        self._began = None
