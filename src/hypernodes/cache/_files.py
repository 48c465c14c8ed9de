"""Files: written whole or not at all, read in as few calls as can be, mapped if they are large."""

from __future__ import annotations

import itertools
import mmap
import os
import re
import shutil
import struct
import sys
import threading
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = [
    "Writer",
    "append",
    "is_local",
    "is_private",
    "make_private",
    "read",
    "read_at",
    "remove",
    "write_at",
]

_PLAIN: Final = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
# A pipe in the place of a file is not waited for.
_READ: Final = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _PLAIN
_WRITE: Final = os.O_WRONLY | os.O_CREAT | os.O_APPEND | _PLAIN

# What one call reads, in bytes: most entries are smaller.
_FIRST: Final = 8192

# Files from this size on, in bytes, are mapped: smaller ones are read faster.
_MAPPED: Final = 1 << 18

# Where a file that is replaced or removed, from wherever, stays what it was to those who have it
# mapped. On network file systems it does not if another host removes it.
_LOCAL_KINDS: Final = frozenset(
    ("bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "overlay", "ramfs", "tmpfs", "xfs", "zfs")
)

# A writer takes a new directory after so many files, and keeps so many for threads still in them.
_TURNOVER: Final = 512
_OWNED: Final = 4

# As in linux/mman.h and linux/fs.h.
_POPULATE_READ: Final = 22
_GET_FLAGS: Final = 0x8008_6601 if struct.calcsize("l") == 8 else 0x8004_6601  # noqa: PLR2004
_SET_FLAGS: Final = 0x4008_6602 if struct.calcsize("l") == 8 else 0x4004_6602  # noqa: PLR2004
_TOP_OF_HIERARCHY: Final = 0x0002_0000

# What writers make: directories, and files and directories in them.
_is_directory: Final = re.compile(r"\d+-[0-9a-f]{12}").fullmatch
_is_draft: Final = re.compile(r"\d+(-again|-directory)?").fullmatch

_open, _close, _first_bytes = os.open, os.close, os.read


def read(
    path: str, *, mapped: bool, look: Callable[[int, bytes], None] | None = None
) -> bytes | memoryview:
    """Return the content of a file.

    Args:
        path: The file.
        mapped: Whether a large file may be mapped, if only this user can write to it. Writing to
            such memory does not reach the file, but writing to the file may reach the memory.
        look: Called with a small file, while it is open, and its content.

    Returns:
        Bytes if it is small, else writable memory.

    Raises:
        OSError: It cannot be read.
    """
    file = _open(path, _READ)
    try:
        content = _first_bytes(file, _FIRST)
        if len(content) >= _FIRST:
            return _whole(file, content, mapped=mapped)
        if look is not None:
            look(file, content)
        return content
    finally:
        _close(file)


def _whole(file: int, first: bytes, *, mapped: bool) -> memoryview:
    facts = os.fstat(file)
    size = facts.st_size
    if mapped and size >= _MAPPED and is_private(facts):
        return memoryview(_mapped_at_once(file, size))
    content = memoryview(bytearray(size))
    end = len(first)
    content[:end] = first
    with open(file, "rb", buffering=0, closefd=False) as opened:
        while end < size and (count := opened.readinto(content[end:])):
            end += count
    return content[:end]


def is_private(facts: os.stat_result) -> bool:
    """Say whether nobody but this user can write to a file or directory."""
    return facts.st_uid == os.geteuid() and not facts.st_mode & 0o022


def _mapped_at_once(file: int, size: int) -> mmap.mmap:
    """Map a file with all its pages: threads that hash it would stand in line for them."""
    content = mmap.mmap(file, size, access=mmap.ACCESS_COPY)
    if sys.platform == "linux":
        with suppress(OSError):  # a kernel before 5.14
            content.madvise(_POPULATE_READ)
    return content


class Writer:
    """Puts files in their places by renaming: readers see all of a file, or the one before.

    What is being written lies in a directory of this process's own, exchanged for a new one now and
    then. Some file systems (ext4) look for a place for a new file close to its directory, and look
    long where many files were removed of late; below a directory that is marked as the top of a
    hierarchy, each new directory goes somewhere else.

    Args:
        room: The directory of those directories, on the same file system as the places.

    Attributes:
        room: As given.
        file_mode: The mode of files.
    """

    def __init__(self, room: str) -> None:
        self.room = room
        self._mode = 0o700
        self.file_mode = 0o600
        self._numbers = itertools.count(1)
        self._directory = ""
        self._owned: deque[str] = deque()
        self._owner = 0
        self._lock = threading.Lock()

    def follow(self, mode: int) -> None:
        """Let those who may use a directory use what is made, as far as the umask lets them.

        Args:
            mode: Of the directory.
        """
        self._mode = mode & 0o2777
        self.file_mode = mode & 0o666

    def write(
        self,
        path: str,
        pieces: Sequence[bytes | memoryview],
        modified: int,
        *,
        grows: bool = False,
    ) -> int:
        """Write a file and return its size in bytes.

        Args:
            path: Its place; its directory is made, private to the user, if it is missing.
            pieces: Its content.
            modified: Its time, in nanoseconds since the epoch.
            grows: Whether all who use the directory write to it later.

        Raises:
            FileNotFoundError: The room was removed; the next try makes a new one.
            OSError: It cannot be written; what was there before still is.
        """
        name, file = self.create()
        try:
            try:
                size = _write_all(file, pieces)
                if grows:
                    os.chmod(name, self.file_mode)
                os.utime(file if os.utime in os.supports_fd else name, ns=(modified, modified))
            finally:
                os.close(file)
            self.move(name, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(name)
            raise
        return size

    def close(self) -> None:
        """Remove the directories for what is being written, where nothing is."""
        while self._owner == os.getpid() and self._owned:
            with suppress(OSError):
                os.rmdir(self._owned.popleft())

    def tidy(self, before: float) -> None:
        """Remove what writers that were killed left behind `before`, in seconds since the epoch."""
        with suppress(FileNotFoundError), os.scandir(self.room) as directories:
            for directory in directories:
                with suppress(OSError):
                    facts = directory.stat(follow_symlinks=False)
                    if _is_directory(directory.name) and facts.st_mtime < before:
                        _remove_drafts(directory.path)

    def create(self) -> tuple[str, int]:
        """Return the name of a new file, and the file, open for adding to its end.

        Raises:
            FileNotFoundError: The room was removed; the next try makes a new one.
            OSError: It cannot be made.
        """
        number = next(self._numbers)
        directory = self._directory
        if number % _TURNOVER == 0 or self._owner != os.getpid():
            directory = self._exchange(directory)
        name = f"{directory}/{number}"
        try:
            return name, os.open(name, _WRITE | os.O_EXCL, self.file_mode)
        except FileNotFoundError:
            self._exchange(directory)
            raise

    def _exchange(self, directory: str) -> str:
        """Take a new directory, unless another thread has already left `directory` for one."""
        with self._lock:
            if self._owner != os.getpid():
                self._owned.clear()  # they are the parent's
            elif self._directory != directory:
                return self._directory
            if not os.path.isdir(self.room):
                self._owner = 0  # nobody's, until there is a room
                self.make_room()
            fresh = f"{self.room}/{os.getpid()}-{os.urandom(6).hex()}"
            os.mkdir(fresh, 0o700)
            self._owned.append(fresh)
            if len(self._owned) > _OWNED:
                with suppress(OSError):
                    os.rmdir(self._owned.popleft())
            self._directory, self._owner = fresh, os.getpid()
            return fresh

    def make_room(self) -> None:
        """Make the room, unless it is there.

        Raises:
            FileNotFoundError: The directory that it lies in is not there.
            OSError: It cannot be made.
        """
        with suppress(FileExistsError):
            os.mkdir(self.room, 0o700)
            os.chmod(self.room, self._mode)
            _mark_as_top(self.room)

    def move(self, name: str, path: str) -> None:
        """Put a file that is written into its place, whatever lies there.

        Raises:
            OSError: It cannot be moved.
        """
        try:
            os.replace(name, path)
        except FileNotFoundError:
            self._make_directory(f"{name}-directory", os.path.dirname(path))
            os.replace(name, path)
        except (IsADirectoryError, PermissionError):
            if not os.path.isdir(path):
                raise
            shutil.rmtree(path)
            os.replace(name, path)

    def _make_directory(self, draft: str, path: str) -> None:
        os.mkdir(draft, 0o700)
        os.chmod(draft, self._mode)
        try:
            os.rename(draft, path)
        except OSError:
            os.rmdir(draft)
            if not os.path.isdir(path):
                raise


def _remove_drafts(directory: str) -> None:
    """Remove a directory of a writer, unless it holds what no writer has made."""
    for name in filter(_is_draft, os.listdir(directory)):
        place = f"{directory}/{name}"
        (os.rmdir if os.path.isdir(place) else os.unlink)(place)
    os.rmdir(directory)


def _mark_as_top(directory: str) -> None:
    """Set the flag `T` of `chattr`, where there is such a thing."""
    if fcntl is None:
        return
    file = os.open(directory, os.O_RDONLY)
    try:
        flags = bytearray(struct.calcsize("l"))
        fcntl.ioctl(file, _GET_FLAGS, flags)
        (known,) = struct.unpack("l", flags)
        fcntl.ioctl(file, _SET_FLAGS, struct.pack("l", known | _TOP_OF_HIERARCHY))
    except OSError:
        pass
    finally:
        os.close(file)


def _write_all(file: int, pieces: Sequence[bytes | memoryview]) -> int:
    size = 0
    for piece in pieces:
        rest = piece
        while rest:
            written = os.write(file, rest)
            size += written
            rest = rest[written:] if written < len(rest) else b""
    return size


def remove(path: str) -> None:
    """Remove a file, or whatever else lies in its place.

    Raises:
        OSError: It cannot be removed, or is not there.
    """
    try:
        os.unlink(path)
    except (IsADirectoryError, PermissionError):
        if not os.path.isdir(path):
            raise
        shutil.rmtree(path)


def append(path: str, content: bytes, mode: int) -> int:
    """Add to the end of a file, in one piece; return its size in bytes.

    Args:
        path: The file; it is made if it is not there.
        content: What to add.
        mode: The mode that a new one gets.

    Raises:
        FileNotFoundError: Its directory is not there.
        OSError: It cannot be written.
    """
    try:
        file = os.open(path, os.O_WRONLY | os.O_APPEND | _PLAIN)
    except FileNotFoundError:
        file = os.open(path, _WRITE, mode)
        with suppress(OSError):  # another user was faster
            os.chmod(path, mode)
    try:
        os.write(file, content)
        return os.fstat(file).st_size
    finally:
        os.close(file)


def read_at(file: int, size: int, place: int) -> bytes:
    """Return up to `size` bytes of an open file from `place` on."""
    os.lseek(file, place, os.SEEK_SET)
    return os.read(file, size)


def write_at(file: int, content: bytes, place: int) -> None:
    """Put `content` into an open file at `place`."""
    os.lseek(file, place, os.SEEK_SET)
    os.write(file, content)


def make_private(path: str) -> None:
    """Make a directory, and those above it, if it is not there; nobody else may enter it."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        os.mkdir(path, 0o700)


def is_local(path: str) -> bool:
    """Say whether `path` lies on a file system of this machine's own, as far as that is known."""
    if sys.platform != "linux":
        return False
    try:
        device = os.stat(path).st_dev
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as mounts:
            kinds = dict(map(_device_and_kind, mounts))
    except OSError:
        return False
    return kinds.get(f"{os.major(device)}:{os.minor(device)}") in _LOCAL_KINDS


def _device_and_kind(mount: str) -> tuple[str, Any]:
    facts, _, rest = mount.partition(" - ")
    return facts.split()[2], rest.split()[0]
