"""Telling a witness from another thread: what happens becomes messages for the scheduler's."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from hypernodes._engine.observing.witness import Record, Recorder, Witness, replay

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypernodes.callbacks import Scene


class _Posted(Recorder):
    """A recorder in the process of its witness, who knows the run."""

    def __init__(self, witness: Witness, tell: Callable[[Record], None]) -> None:
        super().__init__(tell, item_index=witness.item_index)
        self._witness = witness

    def scene(self, index: int) -> Scene:
        return self._witness.scene(index)


def posting(witness: Witness, post: Callable[[Callable[[], None]], None]) -> Witness:
    """Return what tells `witness` in the scheduler's thread.

    Args:
        witness: Who is to be told.
        post: Takes what that thread has to call.
    """
    return _Posted(witness, lambda record: post(partial(replay, witness, record)))
