"""Files that small entries share: what is stored in quick succession.

Making a file takes longer than all else that storing a small value takes. So in a burst, entries
are added to the end of one file, and each gets a hard link to it as its name. What is added is
there before its name is, so a reader finds all of an entry or nothing, as with a file of its own;
and whoever is killed leaves what has a name. A file is never changed but by adding to it, by the
process that made it and for some milliseconds only.

That others see at once what was added to an open file holds on file systems of the machine itself.
"""

from __future__ import annotations

import errno
import os
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from hypernodes.cache._entry import NO_MORE, entries_in, holds
from hypernodes.cache._files import read

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hypernodes.cache._files import Writer

__all__ = ["LARGEST", "PackReader", "Packs"]

LARGEST: Final = 4096
"""The most that a shared file holds, in bytes; one call reads it."""

# Entries share their times and go together: so they take no larger part of a bounded cache, and are
# no further apart, in nanoseconds.
_PART: Final = 1024
_SPAN: Final = 10_000_000

# So many entries in a row, each so soon after the one before, in nanoseconds, make a burst.
_BURST: Final = 16
_SOON: Final = 20_000_000


class _Pack(NamedTuple):
    """A shared file that is open: its name among the drafts, and when it was made."""

    name: str
    file: int
    made: int
    owner: int


class Packs:
    """Writes entries: in a burst into files that they share, else each into one of its own.

    Args:
        writer: Makes the files.
        bound: The most that all entries may take, in bytes, or None.

    Attributes:
        enabled: Whether entries may share files.
    """

    def __init__(self, writer: Writer, bound: int | None) -> None:
        self.enabled = False
        self._writer = writer
        self._most = LARGEST if bound is None else min(LARGEST, bound // _PART)
        self._lock = threading.Lock()
        self._pack: _Pack | None = None
        self._size = 0
        self._row = 0
        self._last = 0

    def write(self, path: str, pieces: Sequence[bytes | memoryview], now: int) -> int:
        """Write an entry and return its size in bytes.

        Args:
            path: Its place; see `Writer.write`.
            pieces: Its content.
            now: The time, in nanoseconds since the epoch.

        Raises:
            FileNotFoundError: The room of the writer was removed; the next try makes a new one.
            OSError: It cannot be written; what was there before still is.
        """
        if self.enabled and len(pieces) == 1 and len(pieces[0]) <= self._most:
            with self._lock:
                if self._is_burst(now) and self._is_added(path, pieces[0], now):
                    return len(pieces[0])
        return self._writer.write(path, pieces, now)

    def close(self) -> None:
        """Add no more to the file that is open."""
        with self._lock:
            self._close()

    def _is_burst(self, now: int) -> bool:
        gap, self._last = now - self._last, now
        self._row = self._row + 1 if 0 <= gap < _SOON else 0
        if self._row < _BURST:
            self._close()
        return self._row >= _BURST

    def _is_added(self, path: str, entry: bytes | memoryview, now: int) -> bool:
        try:
            self._link(self._added(entry, now), path)
        except FileNotFoundError:  # somebody removed the drafts
            self._close()
            return False
        except OSError:  # no room, or no hard links here
            self._close()
            self.enabled = False
            return False
        return True

    def _added(self, entry: bytes | memoryview, now: int) -> str:
        """Add an entry to the open file, or to a new one; return its name."""
        pack = self._pack
        if pack is None or not self._takes(pack, len(entry), now):
            self._close()
            pack = self._pack = _Pack(*self._writer.create(), now, os.getpid())
            self._size = 0
        if os.write(pack.file, entry) < len(entry):
            os.ftruncate(pack.file, self._size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), pack.name)
        self._size += len(entry)
        return pack.name

    def _takes(self, pack: _Pack, size: int, now: int) -> bool:
        is_fresh = 0 <= now - pack.made < _SPAN and pack.owner == os.getpid()
        return is_fresh and self._size + size <= self._most

    def _link(self, name: str, path: str) -> None:
        try:
            os.link(name, path)
        except (FileExistsError, FileNotFoundError):
            spare = f"{name}-again"
            os.link(name, spare)
            try:
                self._writer.move(spare, path)
            finally:
                with suppress(FileNotFoundError):  # it stays where both are one file
                    os.unlink(spare)

    def _close(self) -> None:
        pack, self._pack = self._pack, None
        if pack is None:
            return
        if pack.owner == os.getpid():
            with suppress(OSError):
                os.unlink(pack.name)
                facts = os.fstat(pack.file)
                os.write(pack.file, NO_MORE)
                os.utime(pack.file, ns=(facts.st_atime_ns, facts.st_mtime_ns))
        os.close(pack.file)


class PackReader:
    """Reads entries, one after the other; those that share a file at once.

    What was stored together is often looked for together. A file that has as many names as entries,
    when it is read, is what all of these names lead to.
    """

    def __init__(self) -> None:
        self._content = b""

    def read(self, path: str, name: str, *, mapped: bool) -> bytes | memoryview:
        """Return the content of the file with the entry of that name; see `read` of files."""
        if self._content and holds(self._content, name):
            return self._content
        return read(path, mapped=mapped, look=self._keep)

    def _keep(self, file: int, content: bytes) -> None:
        if content.endswith(NO_MORE) and os.fstat(file).st_nlink == entries_in(content):
            self._content = content
