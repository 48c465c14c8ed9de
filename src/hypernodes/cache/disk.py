"""A cache in a directory, shared by any number of threads, processes and hosts."""

from __future__ import annotations

import math
import os
import threading
import time
import weakref
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final

from hypernodes.abc import MISS, Cache, CacheStats, EntryRecord
from hypernodes.cache._counts import Counts, SavedCounts, saved_counts
from hypernodes.cache._entry import SHARDS, BrokenEntryError, EntryFacts, Sealer, address, created
from hypernodes.cache._files import Writer, is_local, is_private, make_private, read, remove
from hypernodes.cache._ground import DRAFTS, claim, is_claimed
from hypernodes.cache._history import History
from hypernodes.cache._key import known_secret, secret_in, shared_key
from hypernodes.cache._packs import PackReader, Packs
from hypernodes.cache._sweep import Sweep, listed, share
from hypernodes.cache._trouble import Trouble
from hypernodes.exceptions import CacheError, SerializationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    ReadNext = Callable[..., bytes | memoryview]

__all__ = ["DiskCache"]

_NANOSECONDS: Final = 1_000_000_000


class DiskCache(Cache):
    """Keeps values in files below a directory that is private to the user.

    Entries are written aside and then named, so readers see a whole entry or none; small ones that
    are stored in quick succession share files.
    Each carries a keyed checksum over its name and its content, which is verified before anything
    is unpickled: what was damaged, moved or made by somebody without the key is a miss. Large
    arrays lie beside the pickle and are mapped into memory, as private copies, where the directory
    is on a file system of this machine and only this user can write to it.

    Nothing is opened before it is used. Trouble with the directory is a `CacheWarning`. One that
    holds something else under the names that a cache needs is not used.

    Args:
        path: The directory; made, with mode 0700, if it is not there.
        max_bytes: The most that entries may take; what was not used for longest goes first.
        ttl: Seconds after which an entry is a miss.
        key: A secret that all users of the directory share; else that of the environment variable
            `HYPERNODES_CACHE_KEY`, else one that is kept in the directory, with mode 0600.

    Raises:
        CacheError: An argument is wrong.

    Example:
        >>> import tempfile
        >>> cache = DiskCache(tempfile.mkdtemp(), max_bytes=1_000_000)
        >>> cache.put("ab12", [1, 2])
        >>> cache.get("ab12")
        [1, 2]
    """

    SHARED: ClassVar[bool] = True

    def __init__(
        self,
        path: str | os.PathLike[str],
        max_bytes: int | None = None,
        ttl: float | None = None,
        *,
        key: str | bytes | None = None,
    ) -> None:
        _check_positive("max_bytes", max_bytes, path)
        _check_positive("ttl", ttl, path)
        shared_key(key)
        self.path: str = os.path.abspath(os.path.expanduser(os.fspath(path)))
        self.max_bytes: int | None = max_bytes
        self.ttl: float | None = ttl
        self._key = key
        self._lock = threading.Lock()
        self._sealer: Sealer | None = None
        self._mapped = False
        self._trouble = Trouble(self.path)
        self._writer = Writer(f"{self.path}/{DRAFTS}")
        self._packs = Packs(self._writer, max_bytes)
        self._counts = Counts(f"{self.path}/counts", self._writer)
        self._history = History(f"{self.path}/notes", self._writer)
        touch = partial(_touch, self._counts, self.path)
        self._sweep = Sweep(self.path, self._writer, max_bytes=max_bytes, ttl=ttl, touch=touch)
        weakref.finalize(self, _finish, self._counts, self._sweep, self._packs, self._writer)

    def get(self, signature: str) -> Any:
        name = address(signature)
        value = self._load(name)
        self._counts.looked_up("" if value is MISS else name)
        return value

    def get_many(self, signatures: Iterable[str]) -> dict[str, Any]:
        names = {signature: address(signature) for signature in signatures}
        load, read_next = self._load, PackReader().read
        found = {
            signature: value
            for signature, name in names.items()
            if (value := load(name, read_next)) is not MISS
        }
        self._counts.looked_up_many(names[sig] if sig in found else "" for sig in names)
        return found

    def put(self, signature: str, value: Any) -> None:
        name = address(signature)
        try:
            try:
                self._store(self._sealer or self._open(), name, value)
            except FileNotFoundError:  # somebody removed the directory, and with it the key
                self._store(self._open(), name, value)
        except OSError as error:
            self._forget(name)
            self._tell("cannot be written", error)
        except SerializationError:
            self._forget(name)
            raise

    def has(self, signature: str) -> bool:
        name = address(signature)
        try:
            if self.ttl is None:
                os.stat(f"{self.path}/{name[0]}/{name[1:]}")
                return True
            return created(name, read(self._place(name), mapped=True)) >= self._since()
        except OSError:
            return False

    def sound_many(self, signatures: Iterable[str]) -> set[str]:
        return {signature for signature in signatures if self._is_sound(address(signature))}

    def _is_sound(self, name: str) -> bool:
        try:
            content = read(self._place(name), mapped=self._mapped)
            if created(name, content) < self._since():
                return False
            if self._sealer is None or not _is_whole(self._sealer, name, content):
                Sealer(known_secret(self.path, self._key)).verify(name, content)
        except (BrokenEntryError, OSError):
            return False
        return True

    def delete(self, signature: str) -> None:
        self.remove(address(signature))

    def clear(self) -> None:
        try:
            if not os.path.isdir(self.path):
                return
            self._claim()
            for shard in SHARDS:
                _remove_all(f"{self.path}/{shard}")
            self._history.clear()
            self._sweep.recount()
        except OSError as error:
            self._tell("cannot be cleared", error)

    def stats(self) -> CacheStats:
        hits, misses = self._counts.totals()
        since = self._since()
        sizes = [entry.size for entry in self.entries() if (entry.made or 0) >= since]
        return CacheStats(hits, misses, len(sizes), sum(sizes))

    def note(self, records: Iterable[EntryRecord]) -> None:
        try:
            try:
                if self._sealer is None:
                    self._open()
                self._history.note(records)
            except FileNotFoundError:  # as above
                self._open()
                self._history.note(records)
        except OSError as error:
            self._tell("cannot be written", error)

    def records(self, node: str) -> list[EntryRecord]:
        return self._history.records(node)

    def exists(self) -> bool:
        """Say whether there is a cache at the path."""
        return is_claimed(self.path)

    def entries(self) -> Iterator[EntryFacts]:
        """Yield what is known of each entry, in no order."""
        self._packs.close()  # an open file has a name more than it has entries
        try:
            for shard in SHARDS:
                for entry in listed(f"{self.path}/{shard}"):
                    name = shard + os.path.basename(entry.path)
                    yield EntryFacts(name, entry.size, entry.made / _NANOSECONDS)
        except OSError as error:
            self._tell("cannot be read", error)

    def remove(self, name: str) -> None:
        """Remove the entry of that name; of what is absent, nothing."""
        try:
            self._remove(name)
        except FileNotFoundError:
            pass
        except OSError as error:
            self._tell("cannot be written", error)

    def _remove(self, name: str) -> None:
        place = self._place(name)
        facts = os.stat(place)
        remove(place)
        self._sweep.removed(name, share(facts))

    def broken(self) -> Iterator[tuple[str, str]]:
        """Yield the name of each damaged entry, and what is wrong with it; nothing is unpickled.

        Raises:
            CacheError: The key is not known here; nothing is made.
        """
        try:
            sealer = Sealer(known_secret(self.path, self._key))
        except OSError as error:
            raise CacheError(str(error), path=self.path) from error
        for name, _, _ in self.entries():
            try:
                sealer.verify(name, read(self._place(name), mapped=self._mapped))
            except FileNotFoundError:
                continue
            except (BrokenEntryError, OSError) as error:
                yield name, str(error)

    def saved_counts(self) -> SavedCounts:
        """Return what all processes have found, as far as they have saved it."""
        self._counts.save()
        return saved_counts(f"{self.path}/counts")

    def nodes(self) -> dict[str, str]:
        """Return which node made an entry, by the entry's name, as far as that is remembered."""
        return {address(record.signature): record.node for record in self._history.every()}

    def __repr__(self) -> str:
        return f"DiskCache({self.path!r}, max_bytes={self.max_bytes}, ttl={self.ttl})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (type(self), self.path, self.max_bytes, self.ttl, self._key)

    def _store(self, sealer: Sealer, name: str, value: Any) -> None:
        now = time.time_ns()
        pieces = sealer.seal(name, value, now / _NANOSECONDS)
        if self.max_bytes is None or sum(map(len, pieces)) <= self.max_bytes:
            size = self._packs.write(self._place(name), pieces, now)
            self._sweep.stored(name, size, now)
        else:
            self._forget(name)

    def _forget(self, name: str) -> None:
        """Remove what could not be replaced: it is not the last value that was put."""
        if self._sealer is not None:  # else nobody was let in
            with suppress(OSError):
                self._remove(name)

    def _place(self, name: str) -> str:
        return _place(self.path, name)

    def _since(self) -> float:
        return 0.0 if self.ttl is None else time.time() - self.ttl

    def _load(self, name: str, read_next: ReadNext | None = None) -> Any:
        try:
            sealer = self._sealer or self._opened_for_reading()
            place, mapped = f"{self.path}/{name[0]}/{name[1:]}", self._mapped
            if read_next is None:
                entry = read(place, mapped=mapped)
            else:
                entry = read_next(place, name, mapped=mapped)
        except FileNotFoundError:
            return MISS
        except OSError as error:
            self._tell("cannot be read", error)
            return MISS
        since = 0.0 if self.ttl is None else self._since()
        try:
            return sealer.unseal(name, entry, since=since)
        except BrokenEntryError as error:
            return self._load_again(name, entry, since, error)

    def _load_again(
        self, name: str, entry: bytes | memoryview, since: float, error: BrokenEntryError
    ) -> Any:
        """Try the key that is in force now; another process may have replaced a damaged one."""
        with suppress(BrokenEntryError, OSError):
            return self._open().unseal(name, entry, since=since)
        self._tell(f"holds a damaged entry, {name}", error)
        return MISS

    def _opened_for_reading(self) -> Sealer:
        if not os.path.isdir(self.path):  # nothing is made where there is nothing to be read
            raise FileNotFoundError(self.path)
        return self._open()

    def _open(self) -> Sealer:
        """Read the key, or make one; know where the directory lies."""
        with self._lock:
            self._claim()
            self._sealer = Sealer(secret_in(self.path, self._key, self._writer.file_mode))
            self._packs.enabled = is_local(self.path)
            self._mapped = self._packs.enabled and is_private(os.stat(self.path))
            return self._sealer

    def _claim(self) -> None:
        """Make the directory, if it is not there; what all its users share follows its mode."""
        make_private(self.path)
        if shared_key(self._key) is not None:
            self._writer.follow(os.stat(self.path).st_mode)
        claim(self.path, self._writer)

    def _tell(self, what: str, error: Exception) -> None:
        self._trouble.tell(f"the cache at {self.path} {what}: {error}")


def _is_whole(sealer: Sealer, name: str, content: bytes | memoryview) -> bool:
    try:
        sealer.verify(name, content)
    except BrokenEntryError:
        return False
    return True


def _place(root: str, name: str) -> str:
    return f"{root}/{name[0]}/{name[1:]}"


def _touch(counts: Counts, root: str, before: int) -> None:
    """Mark what was found lately as used right `before`, in nanoseconds since the epoch."""
    for name in counts.recent():
        with suppress(OSError):
            place = _place(root, name)
            os.utime(place, ns=(before - 1, os.stat(place).st_mtime_ns))


def _finish(counts: Counts, sweep: Sweep, packs: Packs, writer: Writer) -> None:
    counts.save()
    sweep.save()
    packs.close()
    writer.close()


def _rebuilt(kind: Any, path: str, max_bytes: Any, ttl: Any, key: Any) -> DiskCache:
    made: DiskCache = kind(path, max_bytes, ttl, key=key)
    return made


def _check_positive(name: str, value: object, path: object) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if value is not None and not (number and 0 < value < math.inf):  # type: ignore[operator]
        message = f"{name} has to be a positive number or None (no bound), not {value!r}"
        raise CacheError(message, path=str(path))


def _remove_all(room: str) -> None:
    for entry in listed(room):
        with suppress(FileNotFoundError):
            remove(entry.path)
