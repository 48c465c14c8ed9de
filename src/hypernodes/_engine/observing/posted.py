"""Telling a witness from another thread: what happens becomes messages for the scheduler's."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from hypernodes._engine.observing.witness import Recorder, Witness, replay

if TYPE_CHECKING:
    from collections.abc import Callable


def posting(witness: Witness, post: Callable[[Callable[[], None]], None]) -> Witness:
    """Return what tells `witness` in the scheduler's thread.

    Args:
        witness: Who is to be told.
        post: Takes what that thread has to call.
    """
    tell = lambda record: post(partial(replay, witness, record))  # noqa: E731 - binds two names
    return Recorder(tell, witness.stage, witness.item_index)
