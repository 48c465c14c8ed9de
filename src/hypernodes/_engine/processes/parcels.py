"""Values on their way to another process: pickles, and files for what is big.

Plain pickle is several times faster than cloudpickle and will do for most values; cloudpickle takes
functions, and what lives in `__main__` or in a notebook. Buffers of a mebibyte and more go through
files in memory (`/dev/shm`), which the receiver maps, copy on write.
"""

from __future__ import annotations

import abc
import enum
import io
import itertools
import mmap
import os
import pickle
import shutil
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import cloudpickle

from hypernodes._dispatch.needs import shipping
from hypernodes._engine.processes.depth import call_deeply

LARGE: Final = 1 << 20
MOST_MAPPED: Final = 50
"""Buffers of one parcel, beyond which they are read, where each mapping keeps a descriptor."""
_MAPS_KEEP_DESCRIPTORS: Final = sys.version_info < (3, 13)


_IN_NEW_CLASSES: Final = frozenset(vars(abc.ABCMeta("New", (), {"__slots__": ()}))) | {
    "__dict__",
    "__weakref__",
    "__slotnames__",
    "__orig_bases__",
}
Loads = Callable[..., Any]


class Stored(NamedTuple):
    """A file that holds a buffer."""

    path: str
    size: int


class Parcel(NamedTuple):
    """A pickled value; what is big lies in files.

    Attributes:
        data: The pickle.
        buffers: The big buffers that it refers to, in order.
    """

    data: bytes | Stored
    buffers: tuple[Stored, ...] = ()

    @property
    def size(self) -> int:
        """How many bytes it takes."""
        size = self.data.size if isinstance(self.data, Stored) else len(self.data)
        return size + sum(stored.size for stored in self.buffers)

    @property
    def files(self) -> tuple[str, ...]:
        """Where its big parts lie."""
        own = (self.data.path,) if isinstance(self.data, Stored) else ()
        return (*own, *(stored.path for stored in self.buffers))


class Depot:
    """The folder of a pool's files.

    Args:
        folder: In memory, if possible.
        spare: Where files go when the first is full; made when needed.
    """

    def __init__(self, folder: str, spare: str) -> None:
        self.folder = folder
        self.spare = spare
        self._numbers = itertools.count()

    @classmethod
    def opened(cls) -> Depot:
        """Make the folder."""
        shared = "/dev/shm"  # noqa: S108 - inside it, a folder of our own that nobody else may read
        base = shared if os.access(shared, os.W_OK | os.X_OK) else None
        folder = tempfile.mkdtemp(prefix=f"hypernodes-{os.getpid()}-", dir=base)
        spare = str(Path(tempfile.gettempdir()) / f"{Path(folder).name}-spare")
        return cls(folder, spare)

    def pack(self, value: Any) -> Parcel:
        """Return `value`, ready to travel.

        Raises:
            Exception: It cannot; whatever its pickling raised.
        """
        try:
            return self._packed(pickle.dumps, value, plain=True)
        except _NeedsCloudpickle:
            return self._packed(cloudpickle.dumps, value, plain=False)

    def pack_code(self, value: Any) -> Parcel:
        """Return `value`, which holds functions, ready to travel."""
        pack = partial(self._packed, cloudpickle.dumps, value, plain=False)
        try:
            return pack()
        except (RecursionError, pickle.PicklingError) as error:
            if not isinstance(error.__cause__ or error, RecursionError):
                raise
        return call_deeply(pack)

    def _packed(self, dumps: Any, value: Any, *, plain: bool) -> Parcel:
        stored: list[Stored] = []

        def keep(buffer: pickle.PickleBuffer) -> bool:
            raw = buffer.raw()
            if raw.nbytes < LARGE:
                return True
            stored.append(self._store(raw))
            return False

        try:
            with shipping():
                data = dumps(value, protocol=5, buffer_callback=keep)
            _check_will_do(data, plain=plain)
            kept = data if len(data) < LARGE else self._store(memoryview(data))
        except BaseException as error:
            unlink(buffer.path for buffer in stored)
            if plain and isinstance(error, Exception):
                raise _NeedsCloudpickle from error
            raise
        return Parcel(kept, tuple(stored))

    def _store(self, raw: memoryview) -> Stored:
        try:
            return self._write(self.folder, raw)
        except OSError:
            Path(self.spare).mkdir(mode=0o700, exist_ok=True)
            return self._write(self.spare, raw)

    def _write(self, folder: str, raw: memoryview) -> Stored:
        path = f"{folder}/{os.getpid()}-{next(self._numbers)}"
        fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        try:
            rest = raw
            while rest.nbytes:
                rest = rest[os.write(fd, rest) :]
        except BaseException:
            unlink((path,))
            raise
        finally:
            os.close(fd)
        return Stored(path, raw.nbytes)

    def discard(self, pid: int | None, last: int) -> None:
        """Remove what a process that is gone has written, but not sent.

        Args:
            pid: The process.
            last: The number of the last file that it has sent.
        """
        for folder in (self.folder, self.spare):
            files = map(str, Path(folder).glob(f"{pid}-*"))
            unlink(path for path in files if number_of(path) > last)

    def close(self) -> None:
        """Remove the files."""
        remove(self.folder, self.spare)


def number_of(path: str) -> int:
    """Return the number of a file among those of its writer."""
    return int(path.rpartition("-")[2])


class _NeedsCloudpickle(Exception):  # noqa: N818 - a signal, never seen outside
    """Plain pickle will not do."""


def _check_will_do(data: bytes, *, plain: bool) -> None:
    """Refuse a plain pickle that names what workers cannot find by its name."""
    if plain and (b"__main__" in data or cloudpickle.list_registry_pickle_by_value()):
        raise _NeedsCloudpickle


def remove(*folders: str) -> None:
    """Remove folders and what is in them."""
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def unlink(paths: Any) -> None:
    """Remove files, if they are there."""
    for path in paths:
        try:
            Path(path).unlink()
        except OSError:
            continue


def unpack(parcel: Parcel, *, keep: bool = False, loads: Loads = pickle.loads) -> Any:
    """Return the value of a parcel.

    Args:
        parcel: What has arrived.
        keep: Whether its files are mapped, as others read them too; else each is read and removed.
        loads: Reads the pickle.
    """
    few = len(parcel.buffers) <= MOST_MAPPED
    take = _mapped if (keep and few) or not _MAPS_KEEP_DESCRIPTORS else _read
    try:
        data = take(parcel.data) if isinstance(parcel.data, Stored) else parcel.data
        buffers = [take(stored) for stored in parcel.buffers]
    finally:
        if not keep:
            unlink(parcel.files)
    return loads(data, buffers=buffers)


def loads_at_home(data: Any, *, buffers: Any = ()) -> Any:
    """Read a pickle from a worker; classes that this process has already stay as they are here.

    A class of `__main__` or of a notebook travels by value, and where it comes home cloudpickle
    would set its attributes anew.
    """
    if data.find(b"_class_setstate") < 0:
        return pickle.loads(data, buffers=buffers)  # noqa: S301 - from our own processes
    return _HomeUnpickler(io.BytesIO(data), buffers=buffers).load()


class _HomeUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        found = super().find_class(module, name)
        return partial(_set_up_once, found) if name == "_class_setstate" else found


def _set_up_once(
    set_up: Callable[[type, Any], type], kind: type, state: tuple[dict[str, Any], Any]
) -> type:
    names = state[0].keys() - _IN_NEW_CLASSES
    there = names & vars(kind).keys()
    # A new class has nothing of its own yet; a new enumeration has all but what users wrote.
    is_known = names == there if issubclass(kind, enum.Enum) else there
    return kind if is_known else set_up(kind, state)


def check_readable(parcel: Parcel) -> None:
    """Read what holds more than plain values, to see that its receiver will be able to.

    Raises:
        Exception: It cannot be read; whatever that raised.
    """
    if isinstance(parcel.data, bytes) and b"\x93" in parcel.data:
        unpack(parcel, keep=True)


def _mapped(stored: Stored) -> mmap.mmap:
    fd = os.open(stored.path, os.O_RDONLY | os.O_CLOEXEC)
    options = {} if _MAPS_KEEP_DESCRIPTORS else {"trackfd": False}
    try:
        return mmap.mmap(fd, stored.size, access=mmap.ACCESS_COPY, **options)
    finally:
        os.close(fd)


def _read(stored: Stored) -> bytearray:
    """Read a file: before Python 3.13 every mapping keeps a descriptor, and those are few."""
    content = bytearray(stored.size)
    with Path(stored.path).open("rb", buffering=0) as file:
        view = memoryview(content)
        while view.nbytes and (count := file.readinto(view)):
            view = view[count:]
    return content
