"""Which pieces of a chunk have been claimed: a few numbers that more than one can see.

Whoever runs pieces claims one by writing `CURSOR`, and reads `LIMIT` after that; who takes back
what has not started writes `LIMIT` first and reads `CURSOR` after that. So nothing runs twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

CURSOR: Final = 0  # the number of the next item; written by the worker
LIMIT: Final = 1  # items from this number on are refused; written by who takes back
VOID: Final = 7  # the number after that of a piece whose run is over; written by who ends it
NO_LIMIT: Final = 2**62


class Claims(NamedTuple):
    """Where pieces are claimed, the number of the first, and what to do before each."""

    cells: memoryview | list[int]
    base: int
    begin: Callable[[], None] | None
