"""Values that nodes change in place: what is made of them then is not what their keys say.

A node may change what it is given, and others that take the same object see that, as in any Python
program. But what they make of it belongs to no key. So before a step runs, what it takes is held
against what it was at first, and where steps run beside one another, afterwards too. What cannot
change is not looked at, and where everything is found, nothing is.
"""

from __future__ import annotations

import threading
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from hypernodes.cache._values import has_changed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hypernodes._engine.caching.shelf import Shelf
    from hypernodes._engine.plan import Slot

_SHARE: Final = 20
_MOST_SUSPECTS: Final = 4096


class Guard:
    """Looks after the values that all items of a map share, or all nodes of a run.

    They may be big, and the items many. So looking at them takes a twentieth of the time, and what
    was kept since the last look is removed if they have changed since.

    Args:
        values: The values, by slot: those that can change.
        marks: What tells whether they have.

    Attributes:
        changed: The slots whose values have changed.
    """

    __slots__ = ("_due", "_lock", "_marks", "_suspects", "_values", "changed")

    def __init__(self, values: Mapping[Slot, Any], marks: Mapping[Slot, str | None]) -> None:
        self.changed: frozenset[Slot] = frozenset()
        self._values = values
        self._marks = marks
        self._due: float | None = None
        self._suspects: list[tuple[Shelf, str]] = []
        self._lock = threading.Lock()

    def before_call(self) -> None:
        """Look if it is time to: nothing has changed before the first call."""
        if not self._marks:
            return
        if self._due is None:
            self._due = 0.0
        elif perf_counter() >= self._due or len(self._suspects) >= _MOST_SUSPECTS:
            self._look()

    def note(self, shelf: Shelf, made: str) -> None:
        """Remember what was kept since the last look.

        Args:
            shelf: Where.
            made: Its signature.
        """
        if self._marks:
            with self._lock:
                self._suspects.append((shelf, made))

    def finish(self) -> None:
        """Look for the last time, if something was kept since."""
        if self._suspects:
            self._look()

    def _look(self) -> None:
        with self._lock:
            started = perf_counter()
            marks = self._marks.items()
            self.changed |= {slot for slot, m in marks if has_changed(self._values[slot], m)}
            ended = perf_counter()
            self._due = ended + _SHARE * (ended - started)
            suspects, self._suspects = self._suspects, []
        if self.changed:
            for shelf, made in suspects:
                shelf.remove(made)
