"""How much each shard of a disk cache holds: pairs of numbers in one small file.

Whoever stores or removes an entry corrects one pair in place, so that nobody has to count a million
entries to know that there is room. Two processes may spoil each other's correction, and one that is
killed may not make it: the pairs are an estimate, put right whenever a shard is listed.
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, Final

from hypernodes.cache._entry import SHARDS
from hypernodes.cache._files import make_private

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Usage"]

_PAIR: Final = struct.Struct("<qq")
_ALL: Final = struct.Struct(f"<{2 * len(SHARDS)}q")
_FLAGS: Final = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


class Usage:
    """The pairs of one cache.

    Args:
        path: Their file.
        count: Counts the items and bytes of a shard, where the file is missing or damaged.
    """

    def __init__(self, path: str, count: Callable[[str], tuple[int, int]]) -> None:
        self._path = path
        self._count = count

    def add(self, shard: str, items: int, size: int) -> None:
        """Correct the pair of `shard` by `items` and `size` (bytes); both may be negative."""
        place = SHARDS[shard] * _PAIR.size
        file = self._open()
        try:
            pair = os.pread(file, _PAIR.size, place)
            if len(pair) == _PAIR.size:
                known = _PAIR.unpack(pair)
                os.pwrite(file, _PAIR.pack(known[0] + items, known[1] + size), place)
            else:
                self._count_all(file)
        finally:
            os.close(file)

    def put(self, shard: str, items: int, size: int) -> None:
        """Set the pair of `shard`."""
        file = self._open()
        try:
            os.pwrite(file, _PAIR.pack(items, size), SHARDS[shard] * _PAIR.size)
        finally:
            os.close(file)

    def pairs(self) -> dict[str, tuple[int, int]]:
        """Return the items and bytes of all shards, none of them negative."""
        file = self._open()
        try:
            content = os.pread(file, _ALL.size, 0)
            if len(content) < _ALL.size:
                content = self._count_all(file)
        finally:
            os.close(file)
        numbers = [max(0, number) for number in _ALL.unpack(content)]
        return dict(zip(SHARDS, zip(numbers[::2], numbers[1::2], strict=True), strict=True))

    def recount(self) -> None:
        """Count all shards anew."""
        file = self._open()
        try:
            self._count_all(file)
        finally:
            os.close(file)

    def _open(self) -> int:
        try:
            return os.open(self._path, _FLAGS, 0o600)
        except FileNotFoundError:
            make_private(os.path.dirname(self._path))
            return os.open(self._path, _FLAGS, 0o600)

    def _count_all(self, file: int) -> bytes:
        content = b"".join(_PAIR.pack(*self._count(shard)) for shard in SHARDS)
        os.pwrite(file, content, 0)
        return content
