"""Telling a witness from another thread: what happens becomes messages for the scheduler's."""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import TYPE_CHECKING

from hypernodes._engine.observing.witness import Record, Recorder, Witness, replay

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypernodes.callbacks import Scene


class _Posted(Recorder):
    """A recorder in the process of its witness, who knows the run.

    One message for all that has happened before it is read.

    Args:
        find: Returns who is to be told.
        item_index: See `Witness`.
        post: Takes what the scheduler's thread has to call.
    """

    def __init__(
        self,
        find: Callable[[], Witness],
        item_index: int | None,
        post: Callable[[Callable[[], None]], None],
    ) -> None:
        super().__init__(self._keep, item_index=item_index)
        self._find = find
        self._witness: Witness | None = None
        self._post = post
        self._records: deque[Record] = deque()
        self._is_posted = False

    def scene(self, index: int) -> Scene:
        return self._found().scene(index)

    def _found(self) -> Witness:
        if self._witness is None:  # the same for all who ask at the same time
            self._witness = self._find()
        return self._witness

    def _keep(self, record: Record) -> None:
        self._records.append(record)
        if not self._is_posted:
            self._is_posted = True
            self._post(self._hand_over)

    def _hand_over(self) -> None:
        self._is_posted = False  # first: what is kept from now on has a message of its own
        witness = self._found()
        while self._records:
            replay(witness, self._records.popleft())


def posting_item(
    enter: Callable[[int], Witness], index: int, post: Callable[[Callable[[], None]], None]
) -> Witness:
    """Return what tells of an item in the scheduler's thread.

    Args:
        enter: Returns who is to be told; asked in that thread, since here it might have to wait.
        index: The item's index.
        post: Takes what that thread has to call.
    """
    return _Posted(partial(enter, index), index, post)


def posting(witness: Witness, post: Callable[[Callable[[], None]], None]) -> Witness:
    """Return what tells `witness` in the scheduler's thread.

    Args:
        witness: Who is to be told.
        post: Takes what that thread has to call.
    """
    return _Posted(lambda: witness, witness.item_index, post)
