"""The directory of a disk cache: what tells it from others, and what in it a cache has made."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from hypernodes.cache._counts import are_counts
from hypernodes.cache._entry import SHARDS, is_entry
from hypernodes.cache._history import is_note
from hypernodes.cache._key import is_whole
from hypernodes.cache._usage import is_usage

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypernodes.cache._files import Writer

__all__ = ["DRAFTS", "ForeignDirectoryError", "claim", "is_claimed"]

DRAFTS: Final = "hypernodes-drafts"
"""Where files are written: no directory but that of a cache has such a one."""

# More than a file of such a name has that a cache has made, in bytes.
_PLENTY: Final = 4096


class ForeignDirectoryError(OSError):
    """A directory that holds what no cache has made, under names that a cache needs."""


def is_claimed(path: str) -> bool:
    """Say whether a directory is that of a cache."""
    return os.path.isdir(f"{path}/{DRAFTS}")


def claim(path: str, writer: Writer) -> None:
    """Make a directory that of a cache, unless it is one.

    Args:
        path: The directory.
        writer: Whose room is the mark.

    Raises:
        ForeignDirectoryError: It holds what no cache has made.
        OSError: It cannot be made, or not be looked at.
    """
    if is_claimed(path):
        return
    foreign = _foreign(path)
    if foreign is not None and not is_claimed(path):
        raise ForeignDirectoryError(
            f"it holds {foreign!r}, which no cache has made: use another directory, or move it away"
        )
    with suppress(OSError):  # what cannot be written to may be read
        writer.make_room()


def _foreign(path: str) -> str | None:
    for name in (*SHARDS, "notes", "key", "counts", "usage"):
        place = f"{path}/{name}"
        if os.path.exists(place) and not _looks_right(name, place):
            return name
    return None


def _looks_right(name: str, place: str) -> bool:
    if name in SHARDS:
        return _holds_only(place, is_entry)
    if name == "notes":
        return _holds_only(place, is_note)
    if os.path.isdir(place):
        return not os.listdir(place)
    if not os.path.isfile(place):
        return False
    with open(place, "rb") as file:
        content = file.read(_PLENTY)
    return not content or _FILES[name](content)


def _holds_only(place: str, is_own: Callable[[str], object]) -> bool:
    if not os.path.isdir(place):
        return False
    with os.scandir(place) as files:
        return all(is_own(file.name) for file in files)


_FILES: Final[dict[str, Callable[[bytes], bool]]] = {
    "key": is_whole,
    "counts": are_counts,
    "usage": is_usage,
}
