"""How much each shard of a disk cache holds: pairs of numbers in one small file.

Whoever stores or removes entries corrects the pairs in place, for some dozens of entries at once,
so that nobody has to count a million entries to know that there is room. Two processes may spoil
each other's corrections, and one that is killed may not make them: the pairs are an estimate, put
right whenever a shard is listed. A third number, made of the two, tells a pair from rubbish.
"""

from __future__ import annotations

import os
import struct
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from hypernodes.cache._entry import SHARDS
from hypernodes.cache._files import read_at, write_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from hypernodes.cache._files import Writer

__all__ = ["Usage", "is_usage"]

_PAIR: Final = struct.Struct("<qqQ")
_TABLE: Final = _PAIR.size * len(SHARDS)

# Corrections are written when there are so many, or when they come to so many bytes.
_MANY: Final = 64
_MUCH: Final = 1 << 20

_FLAGS: Final = os.O_RDWR | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


class Usage:
    """The pairs of one cache; used by one thread at a time.

    Args:
        path: Their file.
        writer: Makes it.
        count: Counts the items and bytes of a shard, where its pair is missing or damaged.
    """

    def __init__(self, path: str, writer: Writer, count: Callable[[str], tuple[int, int]]) -> None:
        self._path = path
        self._writer = writer
        self._count = count
        self._owed: dict[str, tuple[int, int]] = {}
        self._entries = _MANY  # the first one is written at once, and with it the file is there
        self._bytes = 0

    def add(self, shard: str, items: int, size: int) -> None:
        """Correct the pair of `shard` by `items` and `size` (bytes), at last with the next ones.

        Both may be negative.
        """
        known = self._owed.get(shard, (0, 0))
        self._owed[shard] = known[0] + items, known[1] + size
        self._entries += 1
        self._bytes += abs(size)
        if self._entries >= _MANY or self._bytes >= _MUCH:
            self.save()

    def put(self, shard: str, items: int, size: int) -> None:
        """Set the pair of `shard`."""
        self._owed.pop(shard, None)
        with self._opened() as file:
            write_at(file, _packed(items, size), SHARDS[shard] * _PAIR.size)

    def save(self) -> None:
        """Make the corrections that are not made yet."""
        if self._owed:
            self.pairs()

    def pairs(self) -> dict[str, tuple[int, int]]:
        """Return the items and bytes of all shards."""
        owed, self._owed = self._owed, {}
        self._entries = self._bytes = 0
        with self._opened() as file:
            content = read_at(file, _TABLE, 0)
            pairs = {shard: self._pair(shard, content, owed) for shard in SHARDS}
            known = b"".join(_packed(*pair) for pair in pairs.values())
            if known != content:
                write_at(file, known, 0)
        return pairs

    def _pair(
        self, shard: str, content: bytes, owed: Mapping[str, tuple[int, int]]
    ) -> tuple[int, int]:
        known = _unpacked(content[SHARDS[shard] * _PAIR.size :][: _PAIR.size])
        if known is None:
            return self._count(shard)
        items, size = owed.get(shard, (0, 0))
        return known[0] + items, known[1] + size

    def recount(self) -> None:
        """Count all shards anew."""
        self._owed.clear()
        with self._opened() as file:
            write_at(file, b"".join(_packed(*self._count(shard)) for shard in SHARDS), 0)

    @contextmanager
    def _opened(self) -> Iterator[int]:
        try:
            file = os.open(self._path, _FLAGS)
        except FileNotFoundError:
            self._writer.write(self._path, [], time.time_ns(), grows=True)
            file = os.open(self._path, _FLAGS)
        try:
            yield file
        finally:
            os.close(file)


def is_usage(content: bytes) -> bool:
    """Say whether a file that begins like this holds pairs."""
    return _unpacked(content[: _PAIR.size]) is not None


def _packed(items: int, size: int) -> bytes:
    items, size = max(0, items), max(0, size)
    return _PAIR.pack(items, size, _check(items, size))


def _unpacked(content: bytes) -> tuple[int, int] | None:
    if len(content) < _PAIR.size:
        return None
    items, size, check = _PAIR.unpack(content)
    return (items, size) if check == _check(items, size) else None


def _check(items: int, size: int) -> int:
    return (items * 0x9E37_79B9_7F4A_7C15 ^ size ^ 0x6879_7065_726E) & 0xFFFF_FFFF_FFFF_FFFF
