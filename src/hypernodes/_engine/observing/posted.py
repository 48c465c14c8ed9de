"""Telling a witness from another thread: what happens becomes messages for the scheduler's."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from hypernodes._engine.observing.witness import Record, Recorder, Witness, replay

if TYPE_CHECKING:
    from collections.abc import Callable


class _Posted(Recorder):
    """A recorder in the process of its witness: one message for all that waits to be read.

    Args:
        witness: Who is to be told.
        post: Takes what the scheduler's thread has to call.
    """

    def __init__(self, witness: Witness, post: Callable[[Callable[[], None]], None]) -> None:
        super().__init__(self._keep, witness.stage, witness.item_index)
        self._witness = witness
        self._post = post
        self._records: deque[Record] = deque()
        self._is_posted = False

    def _keep(self, record: Record) -> None:
        self._records.append(record)
        if not self._is_posted:
            self._is_posted = True
            self._post(self._hand_over)

    def _hand_over(self) -> None:
        self._is_posted = False  # first: what is kept from now on has a message of its own
        while self._records:
            replay(self._witness, self._records.popleft())


def posting(witness: Witness, post: Callable[[Callable[[], None]], None]) -> Witness:
    """Return what tells `witness` in the scheduler's thread.

    Args:
        witness: Who is to be told.
        post: Takes what that thread has to call.
    """
    return _Posted(witness, post)
