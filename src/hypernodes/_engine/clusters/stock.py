"""Which plans a worker has, as far as its driver knows, and which of them are over."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection

KNOWN: Final = 32
"""Plans that are relied upon to be there: half of those that a worker keeps."""
HEAVY: Final = 1 << 20
"""Bytes of plans that are over from which on a worker is told at once."""
LINGER: Final = 0.2
"""Seconds after which it is told of others, if nothing has been sent to it that tells."""


class Stock:
    """The plans of a worker.

    Attributes:
        due: When it is to be told which are over; None while there are none. Its next chunk tells
            it, too.
    """

    def __init__(self) -> None:
        self._sent: dict[int, int] = {}
        self._known: OrderedDict[int, None] = OrderedDict()
        self._over: dict[int, int] = {}
        self.due: float | None = None

    def __contains__(self, token: int) -> bool:
        """Whether a plan has arrived."""
        return token in self._known

    def send(self, token: int, size: int) -> None:
        """Take note that a plan is on its way, with so many bytes."""
        self._sent[token] = size

    def arrive(self, token: int) -> None:
        """Take note that a plan has arrived."""
        if token not in self._sent:
            return  # it is over
        self._known[token] = None
        self._known.move_to_end(token)
        if len(self._known) > KNOWN:
            self._known.popitem(last=False)

    def lack(self, token: int) -> None:
        """Take note that a plan is not there."""
        self._known.pop(token, None)

    def end(self, tokens: Collection[int]) -> None:
        """Take note that plans are over."""
        for token in tokens:
            self._known.pop(token, None)
        self._have_told({token: self._sent.pop(token) for token in tokens if token in self._sent})

    def tell_again(self, tokens: Collection[int]) -> None:
        """Take note that the worker may not have heard that plans are over."""
        self._have_told(dict.fromkeys(tokens, 0))

    def _have_told(self, over: dict[int, int]) -> None:
        self._over.update(over)
        if over:
            is_heavy = sum(self._over.values()) > HEAVY
            due = time.monotonic() + (0.0 if is_heavy else LINGER)
            self.due = due if self.due is None else min(self.due, due)

    def over(self) -> tuple[int, ...]:
        """Take those that the worker has not been told to be over."""
        found, self.due = tuple(self._over), None
        self._over.clear()
        return found
