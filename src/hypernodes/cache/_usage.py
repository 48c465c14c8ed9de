"""How much each shard of a disk cache holds: pairs of numbers in one small file.

Whoever stores or removes an entry corrects one pair in place, so that nobody has to count a million
entries to know that there is room. Two processes may spoil each other's correction, and one that is
killed may not make it: the pairs are an estimate, put right whenever a shard is listed. A third
number, made of the two, tells a pair from rubbish.
"""

from __future__ import annotations

import os
import struct
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from hypernodes.cache._entry import SHARDS
from hypernodes.cache._files import make_private, read_at, write_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Usage"]

_PAIR: Final = struct.Struct("<qqQ")
_FLAGS: Final = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


class Usage:
    """The pairs of one cache.

    Args:
        path: Their file.
        count: Counts the items and bytes of a shard, where its pair is missing or damaged.
    """

    def __init__(self, path: str, count: Callable[[str], tuple[int, int]]) -> None:
        self._path = path
        self._count = count

    def add(self, shard: str, items: int, size: int) -> None:
        """Correct the pair of `shard` by `items` and `size` (bytes); both may be negative."""
        place = SHARDS[shard] * _PAIR.size
        with self._opened() as file:
            known = _unpacked(read_at(file, _PAIR.size, place))
            pair = self._count(shard) if known is None else (known[0] + items, known[1] + size)
            write_at(file, _packed(*pair), place)

    def put(self, shard: str, items: int, size: int) -> None:
        """Set the pair of `shard`."""
        with self._opened() as file:
            write_at(file, _packed(items, size), SHARDS[shard] * _PAIR.size)

    def pairs(self) -> dict[str, tuple[int, int]]:
        """Return the items and bytes of all shards."""
        pairs = {}
        with self._opened() as file:
            content = read_at(file, _PAIR.size * len(SHARDS), 0)
            for shard, number in SHARDS.items():
                place = number * _PAIR.size
                pair = _unpacked(content[place : place + _PAIR.size])
                if pair is None:
                    pair = self._count(shard)
                    write_at(file, _packed(*pair), place)
                pairs[shard] = pair
        return pairs

    def recount(self) -> None:
        """Count all shards anew."""
        with self._opened() as file:
            write_at(file, b"".join(_packed(*self._count(shard)) for shard in SHARDS), 0)

    @contextmanager
    def _opened(self) -> Iterator[int]:
        try:
            file = os.open(self._path, _FLAGS, 0o600)
        except FileNotFoundError:
            make_private(os.path.dirname(self._path))
            file = os.open(self._path, _FLAGS, 0o600)
        try:
            yield file
        finally:
            os.close(file)


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
