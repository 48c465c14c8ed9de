"""Standard streams that somebody has closed: what we open must not lie where users print."""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def inherited(number: int) -> int | None:
    """Return what a child gets for a standard stream: None for ours, if it can be handed down."""
    try:
        is_handed_down = os.get_inheritable(number)
    except OSError:
        is_handed_down = False
    return None if is_handed_down else subprocess.DEVNULL


@contextmanager
def kept_clear() -> Iterator[None]:
    """Have nothing that is opened meanwhile come to lie in the place of a standard stream."""
    taken = [os.open(os.devnull, os.O_RDWR)]
    while taken[-1] < 3:  # noqa: PLR2004 - input, output, errors
        taken.append(os.open(os.devnull, os.O_RDWR))
    try:
        yield
    finally:
        for descriptor in taken:
            os.close(descriptor)
