"""Keeping a disk cache small: what is least used or too old goes, some at a time.

A sweep lists a few shards, 256 entries or more, and removes the least recently used eighth of them;
names are evenly spread, so that what is old there is old among all. So an entry stored costs the
listing of some eight others, however many there are. Entries that share a file go together. What
readers have open or mapped stays readable: removing a file takes its name only.
"""

from __future__ import annotations

import itertools
import os
import random
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from hypernodes.cache._entry import SHARDS, is_entry, names_in
from hypernodes.cache._files import read
from hypernodes.cache._usage import Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hypernodes.cache._files import Writer

__all__ = ["Sweep", "listed", "share"]

# A sweep looks at so many entries or more, and removes one in so many of them.
_SAMPLE: Final = 256
_SHARE: Final = 8

# After so many entries stored, what others have stored meanwhile is read.
_TRUSTED: Final = 64

# Without need for room, a shard is looked through after so many entries stored, or after so many
# times as many as it holds, if these are more.
_ROUND: Final = 256
_EFFORT: Final = 2

# A writer that takes longer, in seconds, was killed.
_LONGEST_WRITE: Final = 3600.0


class Listed(NamedTuple):
    """An entry as the file system knows it.

    Attributes:
        used: When it was stored or found last, in nanoseconds since the epoch.
        made: When it was stored, in nanoseconds since the epoch.
        size: In bytes; of a file that entries share, its part.
        path: Its place.
        file: The number of its file.
        sharers: How many names that has.
    """

    used: int
    made: int
    size: int
    path: str
    file: int
    sharers: int


def share(facts: os.stat_result) -> int:
    """Return the size of an entry, in bytes; of a file that entries share, its part."""
    return facts.st_size // max(1, facts.st_nlink)


def listed(shard: str) -> Iterator[Listed]:
    """Yield the entries in a directory, or none if it is not there.

    Raises:
        OSError: It cannot be read.
    """
    try:
        files = os.scandir(shard)
    except FileNotFoundError:
        return
    shared: dict[int, os.stat_result] = {}
    with files:
        for file in files:
            if not is_entry(file.name):
                continue
            with suppress(FileNotFoundError):
                number = file.inode()
                facts = shared.get(number) or file.stat(follow_symlinks=False)
                sharers, made = facts.st_nlink, facts.st_mtime_ns
                if sharers > 1:
                    shared[number] = facts
                used = max(facts.st_atime_ns, made)
                yield Listed(used, made, share(facts), file.path, number, sharers)


class Sweep:
    """What keeps one cache within its bounds.

    Args:
        root: The directory of the cache.
        writer: Whose leftovers are removed.
        max_bytes: The most that entries may take, or None.
        ttl: Seconds that an entry lives, or None.
        touch: Brings the times of use up to date, as of a moment before that it is given.
    """

    def __init__(
        self,
        root: str,
        writer: Writer,
        *,
        max_bytes: int | None,
        ttl: float | None,
        touch: Callable[[int], None],
    ) -> None:
        self._root = root
        self._writer = writer
        self._max_bytes = max_bytes
        self._ttl = ttl
        self._touch = touch
        self._usage = Usage(f"{root}/usage", writer, self._count)
        self._lock = threading.Lock()
        self._total = 0
        self._trust = 0
        self._rest = random.randrange(_ROUND)  # noqa: S311 - so that short runs take turns
        start = random.randrange(len(SHARDS))  # noqa: S311 - as above
        self._turns = itertools.islice(itertools.cycle(SHARDS), start, None)

    def stored(self, name: str, size: int, now: int) -> None:
        """Take note of an entry that was just stored, and make room if it is needed.

        Args:
            name: Of the entry.
            size: In bytes.
            now: When it was made, in nanoseconds since the epoch.

        Raises:
            OSError: The directory cannot be read or written.
        """
        shard = name[0]
        with self._lock:
            self._usage.add(shard, 1, size)
            self._rest -= 1
            if self._rest < 0:
                self._look_through(next(self._turns))
            if self._max_bytes is not None:
                self._reckon(size)
                if self._total > self._max_bytes:
                    self._make_room(self._max_bytes, now)

    def removed(self, name: str, size: int) -> None:
        """Take note of an entry that was removed."""
        with self._lock:
            self._usage.add(name[0], -1, -size)
            self._total -= size

    def recount(self) -> None:
        """Count everything anew."""
        with self._lock:
            self._usage.recount()
            self._trust = 0

    def save(self) -> None:
        """Let others know how much was stored and removed, if there is a cache."""
        with self._lock, suppress(OSError):
            if os.path.isdir(self._root):
                self._usage.save()

    def _reckon(self, size: int) -> None:
        self._trust -= 1
        if self._trust > 0:
            self._total += size
        else:
            self._total = self._known()
            self._trust = _TRUSTED

    def _known(self) -> int:
        return sum(size for _, size in self._usage.pairs().values())

    def _count(self, shard: str) -> tuple[int, int]:
        sizes = [entry.size for entry in listed(f"{self._root}/{shard}")]
        return len(sizes), sum(sizes)

    def _list(self, shard: str) -> list[Listed]:
        """List a shard without what is too old, which is removed, and put its pair right."""
        entries = list(listed(f"{self._root}/{shard}"))
        if self._ttl is not None:
            oldest = (time.time() - self._ttl) * 1e9
            for entry in entries:
                if entry.made < oldest:
                    _unlink(entry.path)
            entries = [entry for entry in entries if entry.made >= oldest]
        self._usage.put(shard, len(entries), sum(entry.size for entry in entries))
        return entries

    def _look_through(self, shard: str) -> None:
        self._rest = max(_ROUND, _EFFORT * len(self._list(shard)))
        self._trust = 0
        self._writer.tidy(time.time() - _LONGEST_WRITE)

    def _make_room(self, most: int, now: int) -> None:
        self._touch(now)
        before = self._known()
        sample = self._sample()
        self._total = self._known()
        if (
            abs(before - self._total) > most // _SHARE
        ):  # the pairs were far off, all of them perhaps
            self._usage.recount()
            self._total = self._known()
        while self._total > most and sample:
            self._evict(sample, most)
            sample = self._sample() if self._total > most else []

    def _sample(self) -> list[Listed]:
        """List shards in turn, until there are enough entries or all shards were seen."""
        pairs = self._usage.pairs()
        found: list[Listed] = []
        for shard in itertools.islice(self._turns, len(SHARDS)):
            if pairs[shard][0]:
                found += self._list(shard)
            if len(found) >= _SAMPLE:
                break
        return sorted(found)

    def _evict(self, sample: list[Listed], most: int) -> None:
        least = len(sample) // _SHARE
        removed: set[str] = set()
        gone: dict[str, tuple[int, int]] = {}
        for entry in sample:
            if self._total <= most and len(removed) >= least:
                break
            if entry.path in removed:
                continue
            for path in self._sharers(entry):
                removed.add(path)
                self._total -= entry.size
                if _unlink(path):
                    shard = os.path.basename(os.path.dirname(path))
                    items, size = gone.get(shard, (0, 0))
                    gone[shard] = items - 1, size - entry.size
        for shard, (items, size) in gone.items():
            self._usage.add(shard, items, size)

    def _sharers(self, entry: Listed) -> list[str]:
        """Return the places of all in the file of an entry: it takes room until the last goes."""
        paths = [entry.path]
        if entry.sharers > 1:
            with suppress(OSError):
                content = bytes(read(entry.path, mapped=False))
                paths += [f"{self._root}/{name[0]}/{name[1:]}" for name in names_in(content)]
        return [p for p in dict.fromkeys(paths) if p == entry.path or _is_file(p, entry.file)]


def _is_file(path: str, number: int) -> bool:
    try:
        return os.stat(path).st_ino == number
    except OSError:
        return False


def _unlink(path: str) -> bool:
    """Remove a file that others may be removing too; say whether it was this call that did."""
    try:
        os.unlink(path)
    except OSError:
        return False
    return True
