"""How often entries are found: counted in memory, added to a file of the cache now and then.

A hit costs one append to a list. Every some thousand hits, and at the end of the process, what has
come up is added to a file, in records of 20 bytes: the first 16 letters of a name, and a number. A
process that is killed takes its last counts with it; nothing but statistics hangs on them.
"""

from __future__ import annotations

import os
import re
import struct
import threading
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hypernodes.cache._files import append

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from hypernodes.cache._files import Writer

__all__ = ["Counts", "SavedCounts", "are_counts", "saved_counts"]

_RECORD: Final = struct.Struct("<16sI")
_MISSES: Final = b"misses".ljust(16, b"\0")
_OTHERS: Final = b"others".ljust(16, b"\0")

# When so many came up, they are saved.
_PENDING: Final = 4096

# When the file is larger, in bytes, it is summed up; so many names keep a number of their own.
_LARGEST: Final = 1 << 20
_KEPT: Final = 10_000

_LARGEST_NUMBER: Final = 0xFFFF_FFFF

_is_name: Final = re.compile(rb"[0-9a-f]{16}|misses\0{10}|others\0{10}").fullmatch


class Counts:
    """What one cache object finds and does not find.

    Args:
        path: The file that is added to.
        writer: Makes the files of the cache.
    """

    def __init__(self, path: str, writer: Writer) -> None:
        self._path = path
        self._writer = writer
        self._pending: list[str] = []
        self._lock = threading.Lock()
        self._unsaved: Counter[str] = Counter()
        self._hits = 0
        self._misses = 0

    def looked_up(self, name: str) -> None:
        """Count a value that was found, by its name, or one that was not, by no name."""
        pending = self._pending
        pending.append(name)
        if len(pending) >= _PENDING:
            self.save()

    def looked_up_many(self, names: Iterable[str]) -> None:
        """Count as `looked_up`."""
        self._pending += names
        if len(self._pending) >= _PENDING:
            self.save()

    def totals(self) -> tuple[int, int]:
        """Return the hits and misses of this object."""
        with self._lock:
            self._drain()
            return self._hits, self._misses

    def recent(self) -> list[str]:
        """Return what was found since the counts were saved, and save them."""
        return [name for name in self.save() if name]

    def save(self) -> Counter[str]:
        """Add what has come up to the file, if there is a cache; return it, by name."""
        with self._lock:
            self._drain()
            unsaved, self._unsaved = self._unsaved, Counter()
        records: Counter[bytes] = Counter()
        for name, number in unsaved.items():
            records[name[:16].encode() or _MISSES] += number
        if records and os.path.isdir(self._writer.room):
            with suppress(OSError):
                if append(self._path, _packed(records), self._writer.file_mode) > _LARGEST:
                    _sum_up(self._path, self._writer.file_mode)
        return unsaved

    def _drain(self) -> None:
        batch = self._pending[:]
        del self._pending[: len(batch)]  # what was appended meanwhile stays
        self._unsaved.update(batch)
        misses = batch.count("")
        self._misses += misses
        self._hits += len(batch) - misses


class SavedCounts:
    """What all processes have counted.

    Attributes:
        hits: Values found.
        misses: Values looked for in vain.
    """

    def __init__(self, records: Counter[bytes]) -> None:
        self._records = records
        self.misses: int = records[_MISSES]
        self.hits: int = records.total() - self.misses

    def of(self, name: str) -> int:
        """Return how often the entry of that name was found."""
        return self._records[name[:16].encode()]


def saved_counts(path: str) -> SavedCounts:
    """Read the counts in a file, and in those that are being summed up."""
    file = Path(path)
    files = [file, *file.parent.glob(f"{file.name}-*")]
    return SavedCounts(sum((_read(each) for each in files), Counter()))


def are_counts(content: bytes) -> bool:
    """Say whether a file that begins like this holds counts."""
    return len(content) >= _RECORD.size and bool(_is_name(content[:16]))


def _packed(records: Mapping[bytes, int]) -> bytes:
    return b"".join(
        _RECORD.pack(name, min(number, _LARGEST_NUMBER))
        for name, number in records.items()
        if number
    )


def _read(path: Path) -> Counter[bytes]:
    counts: Counter[bytes] = Counter()
    with suppress(OSError):
        content = path.read_bytes()
        whole = len(content) - len(content) % _RECORD.size
        for name, number in _RECORD.iter_unpack(content[:whole]):
            if _is_name(name):
                counts[name] += number
    return counts


def _sum_up(path: str, mode: int) -> None:
    """Replace the records by their sums; what is rare is summed up under one name."""
    aside = f"{path}-{os.urandom(8).hex()}"
    os.rename(path, aside)
    counts = _read(Path(aside))
    kept = dict(counts.most_common(_KEPT)) | {_MISSES: counts[_MISSES]}
    kept[_OTHERS] = kept.get(_OTHERS, 0) + counts.total() - sum(kept.values())
    append(path, _packed(kept), mode)  # others may have begun a new file meanwhile
    os.unlink(aside)
