"""A worker's account of attempts at the calls of nodes, those of workers that are gone included."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

Key = tuple[tuple[str, ...], int]
"""A call of a node within an item: the node's path, and which call of it."""


class Account:
    """What has been attempted for the item that runs.

    Attributes:
        ordinal: Which call of the node it is that is under way.
        before: How many attempts at it were made elsewhere before.
        attempts: How many were made in all.
    """

    def __init__(self) -> None:
        self._calls: Counter[tuple[str, ...]] = Counter()
        self._spent: Mapping[Key, int] = {}
        self.ordinal = 0
        self.before = 0
        self.attempts = 0

    def open(self, spent: Mapping[Key, int]) -> None:
        """Begin an item for which attempts have been `spent` by workers that are gone."""
        self._calls.clear()
        self._spent = spent

    def enter(self, path: tuple[str, ...]) -> None:
        """Begin the attempts at a node."""
        self.ordinal = self._calls[path]
        self._calls[path] += 1
        self.before = self.attempts = self._spent.get((path, self.ordinal), 0)
