"""A few numbers that a worker and its driver both see, also while the worker cannot answer.

The worker claims an item by writing `CURSOR` and reads `LIMIT` after that; the driver takes back
what has not started by writing `LIMIT`, and reads `CURSOR` some milliseconds later, when every
write that came before a reading of the old limit is visible. What lies at or above the cursor then
will never be started; the one item below it was started or refused: the worker's answer tells.

Reading is claimed in the same way, by `READING`: what the driver has taken back is never read, and
of a worker that dies while it reads it is known what that was.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from pathlib import Path
from typing import Final

CELLS: Final = 9
SIZE: Final = 8 * CELLS

# `CURSOR`, `LIMIT` and `VOID` are 0, 1 and 7: see `claims`
SERIAL: Final = 2  # odd while what follows is being written
WATCH: Final = 3  # the number of the watch on the node that runs; 0 for none
ORDINAL: Final = 4  # which call of that node it is, within the item
ATTEMPT: Final = 5  # which attempt, from 1
DEADLINE: Final = 6  # of that attempt, in nanoseconds of the monotonic clock; 0 for none
READING: Final = 8  # the number after that of a chunk's first piece, or -token of a plan, or 0

SETTLED: Final = 0.002
"""Seconds after which a write is visible to other processes, amply."""


def make_board() -> int:
    """Return the descriptor of a new board."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("hypernodes-board", os.MFD_CLOEXEC)
    else:
        fd, path = tempfile.mkstemp(prefix="hypernodes-board-")
        Path(path).unlink()
    os.ftruncate(fd, SIZE)
    return fd


def map_board(fd: int) -> memoryview:
    """Return the cells of a board, and close its descriptor."""
    cells = memoryview(mmap.mmap(fd, SIZE)).cast("q")
    os.close(fd)
    return cells


def unmap_board(cells: memoryview) -> None:
    """Let go of a board, and of the descriptor that its mapping keeps."""
    board = cells.obj
    cells.release()
    if isinstance(board, mmap.mmap):
        board.close()


def read_watch(cells: memoryview) -> tuple[int, int, int, int]:
    """Return watch, ordinal, attempt and deadline; all 0 while they are being written."""
    before = cells[SERIAL]
    seen = cells[WATCH], cells[ORDINAL], cells[ATTEMPT], cells[DEADLINE]
    if before % 2 or cells[SERIAL] != before:
        return 0, 0, 0, 0
    return seen


def write_watch(
    cells: memoryview, watch: int, ordinal: int = 0, attempt: int = 0, deadline: int = 0
) -> None:
    """Say which attempt runs, or with a watch of 0 that none does."""
    cells[SERIAL] += 1
    cells[WATCH] = watch
    cells[ORDINAL] = ordinal
    cells[ATTEMPT] = attempt
    cells[DEADLINE] = deadline
    cells[SERIAL] += 1
