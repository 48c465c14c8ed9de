"""Values on their way to another process: pickles, and files for what is big.

Plain pickle is several times faster than cloudpickle and will do for most values; cloudpickle takes
functions, and what lives in `__main__` or in a notebook. Buffers of a mebibyte and more are kept
apart from the pickle: where, is said by a `Packer`.
"""

from __future__ import annotations

import mmap
import os
import pickle
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import cloudpickle

from hypernodes import _apart, _handles
from hypernodes._dispatch.needs import shipping
from hypernodes._engine.shipping.depth import call_deeply

if TYPE_CHECKING:
    from hypernodes._handles import Handle

LARGE: Final = 1 << 20
BESIDE: Final = 5
"""The protocol of pickle from which on buffers may travel beside it."""
MOST_MAPPED: Final = 50
"""Buffers of one parcel, beyond which they are read, where each mapping keeps a descriptor."""
_MAPS_KEEP_DESCRIPTORS: Final = sys.version_info < (3, 13)


Loads = Callable[..., Any]


class Stored(NamedTuple):
    """A file that holds a buffer."""

    path: str
    size: int


class Blob:
    """A big buffer that travels beside the pickle that it is part of, uncopied.

    Args:
        raw: The buffer; what belongs to others, or cannot be changed, is copied.
    """

    def __init__(self, raw: Any) -> None:
        self.raw = raw if isinstance(raw, bytearray) else bytearray(raw)

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        # Some engines pickle what passes through them by an older protocol.
        if protocol < BESIDE:
            return Blob, (bytes(self.raw),)
        return Blob, (pickle.PickleBuffer(self.raw),)

    @property
    def size(self) -> int:
        """How many bytes it has."""
        return memoryview(self.raw).nbytes


class Parcel(NamedTuple):
    """A pickled value; what is big lies in files, or beside it.

    Attributes:
        data: The pickle.
        buffers: The big buffers that it refers to, in order.
        handles: What it refers to that its engine has to move by itself.
    """

    data: bytes | Stored
    buffers: tuple[Stored | Blob, ...] = ()
    handles: tuple[Any, ...] = ()

    @property
    def size(self) -> int:
        """How many bytes it takes."""
        size = self.data.size if isinstance(self.data, Stored) else len(self.data)
        return size + sum(stored.size for stored in self.buffers)

    @property
    def files(self) -> tuple[str, ...]:
        """Where its big parts lie."""
        own = (self.data.path,) if isinstance(self.data, Stored) else ()
        return (*own, *(b.path for b in self.buffers if isinstance(b, Stored)))


class Packer(ABC):
    """Makes parcels; says where what is big is kept.

    Attributes:
        carries: The handles that the engine moves, which travel beside pickles; others cannot.
    """

    carries: Handle | None = None

    def pack(self, value: Any) -> Parcel:
        """Return `value`, ready to travel.

        Raises:
            TypeError: It holds a handle that would lead nowhere.
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
        kept: list[Stored | Blob] = []
        handles: tuple[Any, ...] = ()

        def keep(buffer: pickle.PickleBuffer) -> bool:
            raw = buffer.raw()
            if raw.nbytes < LARGE:
                return True
            kept.append(self._store(raw))
            return False

        try:
            with shipping():
                data = dumps(value, protocol=5, buffer_callback=keep)
                if _handles.may_be_in(data):
                    data, handles = self._apart(value, data, kept, keep)
            _check_will_do(data, plain=plain)
            body = data if len(data) < LARGE else self._store_data(data)
        except BaseException as error:
            unlink(Parcel(b"", tuple(kept)).files)
            if plain and isinstance(error, Exception):
                raise _NeedsCloudpickle from error
            raise
        return Parcel(body, tuple(kept), handles)

    def _apart(
        self, value: Any, data: bytes, kept: list[Stored | Blob], keep: Callable[..., bool]
    ) -> tuple[bytes, tuple[Any, ...]]:
        """Return a pickle without the handles in it, and these; `data` where there are none."""
        if self.carries is None:
            _apart.check(value)
            return data, ()
        unlink(Parcel(b"", tuple(kept)).files)
        kept.clear()
        return _apart.dumps_apart(value, self.carries, keep)

    def _store_data(self, data: bytes) -> bytes | Stored:
        """Return a big pickle, or where it lies."""
        return data

    @abstractmethod
    def _store(self, raw: memoryview) -> Stored | Blob:
        """Keep a big buffer."""


class Hold(Packer):
    """Keeps what is big in the parcel itself, for engines that have their own way to move it.

    Args:
        carries: The handles that the engine moves.
    """

    def __init__(self, carries: Handle | None = None) -> None:
        self.carries = carries

    def _store(self, raw: memoryview) -> Blob:
        return Blob(raw)


class _NeedsCloudpickle(Exception):  # noqa: N818 - a signal, never seen outside
    """Plain pickle will not do."""


def _check_will_do(data: bytes, *, plain: bool) -> None:
    """Refuse a plain pickle that names what workers cannot find by its name."""
    if plain and (b"__main__" in data or cloudpickle.list_registry_pickle_by_value()):
        raise _NeedsCloudpickle


def unlink(paths: Any) -> None:
    """Remove files, if they are there."""
    for path in paths:
        try:
            Path(path).unlink()
        except OSError:
            continue


def unpack(parcel: Parcel, *, keep: bool = False, loads: Loads = _handles.loads) -> Any:
    """Return the value of a parcel.

    Args:
        parcel: What has arrived.
        keep: Whether what is big is shared with others who read it, copied on write where that can
            be; else it is read and removed, or copied.
        loads: Reads the pickle.
    """
    few = len(parcel.buffers) <= MOST_MAPPED
    take = _mapped if (keep and few) or not _MAPS_KEEP_DESCRIPTORS else _read
    blob = (lambda found: found.raw) if keep else (lambda found: bytearray(found.raw))
    try:
        data = take(parcel.data) if isinstance(parcel.data, Stored) else parcel.data
        buffers = [take(b) if isinstance(b, Stored) else blob(b) for b in parcel.buffers]
    finally:
        if not keep:
            unlink(parcel.files)
    return loads(data, buffers=buffers, handles=parcel.handles)


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
