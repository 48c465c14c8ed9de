"""A cache in an object store or on a shared file system, by way of fsspec."""

from __future__ import annotations

import math
import secrets
import threading
import time
import uuid
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Final

from hypernodes._extras import import_extra
from hypernodes.abc import MISS, Cache, CacheStats, EntryRecord
from hypernodes.cache._entry import (
    APART,
    SHARDS,
    BrokenEntryError,
    EntryFacts,
    Sealer,
    address,
    created,
    is_entry,
)
from hypernodes.cache._files import make_private
from hypernodes.cache._history import by_node, file_name, from_lines, is_note, to_line
from hypernodes.cache._key import (
    SHARED,
    derived,
    is_whole,
    mark_of,
    missing,
    other,
    read_or_make,
    shared_key,
)
from hypernodes.cache._trouble import Trouble
from hypernodes.exceptions import CacheError, MissingDependencyError, SerializationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = ["FsspecCache"]

# Where writing an object shows all of it at once, or nothing. Elsewhere it is renamed into place.
_WHOLE_AT_ONCE: Final = frozenset(
    ("abfs", "abfss", "adl", "az", "gcs", "gs", "memory", "oci", "oss", "s3", "s3a")
)


_LOCAL: Final = frozenset(("file", "local"))


class FsspecCache(Cache):
    """Keeps values where fsspec can write: S3, Google Cloud Storage, Azure, SFTP, a shared disk.

    The entries are those of `DiskCache`, under the same keyed checksum. The key lies beside them
    unless it is given: whoever can write there can then forge entries, so give the key where that
    is not only you. A directory on this machine is made private to the user. What is old is removed
    by the store's own rules; `ttl` makes it a miss.

    Args:
        path: A URL as fsspec knows it (`s3://bucket/prefix`), or a path on this machine.
        ttl: Seconds after which an entry is a miss.
        key: A secret that all users share; else that of `HYPERNODES_CACHE_KEY`.
        storage_options: What the file system takes as arguments, such as `endpoint_url`.

    Raises:
        CacheError: An argument is wrong.
        MissingDependencyError: fsspec, or what it needs for the kind of URL, is not installed.

    Example:
        >>> cache = FsspecCache("memory://example")
        >>> cache.put("ab12", [1, 2])
        >>> cache.get("ab12")
        [1, 2]
    """

    SHARED: ClassVar[bool] = True

    def __init__(
        self,
        path: str,
        ttl: float | None = None,
        *,
        key: str | bytes | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        if ttl is not None and not 0 < ttl < math.inf:
            message = f"ttl has to be a positive number or None (no bound), not {ttl!r}"
            raise CacheError(message, path=str(path))
        shared_key(key)
        self.path: str = str(path)
        self.ttl: float | None = ttl
        self._key = key
        self._options = dict(storage_options or {})
        self._fsspec = _needed(self.path)
        self._lock = threading.Lock()
        self._opened: tuple[Any, str] | None = None
        self._sealer: Sealer | None = None
        self._is_marked = False
        self._trouble = Trouble(self.path)
        self._hits = 0
        self._misses = 0

    def get(self, signature: str) -> Any:
        return self.get_many([signature]).get(signature, MISS)

    def get_many(self, signatures: Iterable[str]) -> dict[str, Any]:
        names = {signature: address(signature) for signature in signatures}
        contents = self._read_many(names.values())
        values = {
            signature: self._unsealed(name, contents[name])
            for signature, name in names.items()
            if name in contents
        }
        found = {signature: value for signature, value in values.items() if value is not MISS}
        with self._lock:
            self._hits += len(found)
            self._misses += len(names) - len(found)
        return found

    def put(self, signature: str, value: Any) -> None:
        refused = self.put_many({signature: value})
        if refused:
            raise refused[signature]

    def put_many(self, values: Mapping[str, Any]) -> dict[str, SerializationError]:
        refused: dict[str, SerializationError] = {}
        contents = {}
        try:
            sealer = self._sealer or self._read_key()
            for signature, value in values.items():
                name = address(signature)
                try:
                    contents[self._place(name)] = b"".join(sealer.seal(name, value, time.time()))
                except SerializationError as error:
                    refused[signature] = error
                    self.delete(signature)  # it is not the last value that was put
            self._mark()
            self._write_many(contents)
        except Exception as error:  # noqa: BLE001 - each file system has errors of its own
            self._tell("cannot be written", error)
        return refused

    def has(self, signature: str) -> bool:
        return signature in self.has_many([signature])

    def has_many(self, signatures: Iterable[str]) -> set[str]:
        names = {signature: address(signature) for signature in signatures}
        if self.ttl is not None:
            since = self._since()
            contents = self._read_many(names.values())
            recent = {name for name, content in contents.items() if created(name, content) >= since}
            return {signature for signature, name in names.items() if name in recent}
        try:
            places = [self._place(name) for name in names.values()]
            there = self._exist(places)
        except Exception as error:  # noqa: BLE001 - as above
            self._tell("cannot be read", error)
            return set()
        return {signature for signature, is_there in zip(names, there, strict=True) if is_there}

    def sound_many(self, signatures: Iterable[str]) -> set[str]:
        names = {address(signature): signature for signature in signatures}
        try:
            sealer = self._known_sealer()
        except CacheError:
            return set()
        contents, since = self._read_many(names), self._since()
        return {names[n] for n, c in contents.items() if _is_sound(sealer, n, c, since)}

    def delete(self, signature: str) -> None:
        try:
            self.remove(address(signature))
        except Exception as error:  # noqa: BLE001 - as above
            self._tell("cannot be written", error)

    def clear(self) -> None:
        try:
            fs, root = self._open()
            places = [self._place(name) for name, _, _ in self.entries()]
            with suppress(FileNotFoundError):
                notes = fs.find(f"{root}/notes")
                places += [place for place in notes if is_note(place.rpartition("/")[2])]
            if places:
                fs.rm(places)
        except Exception as error:  # noqa: BLE001 - as above
            self._tell("cannot be cleared", error)

    def remove(self, name: str) -> None:
        """Remove the entry of that name; of what is absent, nothing."""
        with suppress(FileNotFoundError):
            self._open()[0].rm_file(self._place(name))

    def stats(self) -> CacheStats:
        since = self._since()
        sizes = [entry.size for entry in self.entries() if (entry.made or since) >= since]
        with self._lock:
            return CacheStats(self._hits, self._misses, len(sizes), sum(sizes))

    def note(self, records: Iterable[EntryRecord]) -> None:
        try:
            _, root = self._open()
            places = {f"{root}/notes/{file_name(n)}": new for n, new in by_node(records).items()}
            known = self._contents(list(places))
            lines = {
                place: [*map(to_line, from_lines(known.get(place, b""))), *map(to_line, new)]
                for place, new in places.items()
            }
            self._write_many({p: b"".join(all_[-self.RECORDS_KEPT :]) for p, all_ in lines.items()})
        except Exception as error:  # noqa: BLE001 - as above
            self._tell("cannot be written", error)

    def records(self, node: str) -> list[EntryRecord]:
        try:
            place = f"{self._open()[1]}/notes/{file_name(node)}"
            return from_lines(self._contents([place]).get(place, b""))[::-1]
        except Exception as error:  # noqa: BLE001 - as above
            self._tell("cannot be read", error)
            return []

    def exists(self) -> bool:
        """Say whether there is a cache at the path.

        Raises:
            CacheError: That cannot be told: it cannot be read.
        """
        try:
            return any(True for _ in self._listed()) or self._key_and_mark()[:2] != (None, None)
        except Exception as error:
            raise self._unreadable(error) from error

    def entries(self) -> Iterator[EntryFacts]:
        """Yield what is known of each entry, in no order."""
        try:
            yield from self._listed()
        except Exception as error:  # noqa: BLE001 - as above
            self._tell("cannot be read", error)

    def _listed(self) -> list[EntryFacts]:
        fs, root = self._open()
        fs.invalidate_cache()
        try:
            files = fs.find(root, detail=True)
        except FileNotFoundError:
            return []
        parts = [(*place.rsplit("/", 2)[-2:], facts) for place, facts in files.items()]
        return [
            EntryFacts(shard + rest, facts["size"] or 0, _time_of(facts))
            for shard, rest, facts in parts
            if shard in SHARDS and is_entry(rest)
        ]

    def broken(self) -> Iterator[tuple[str, str]]:
        """Yield the name of each damaged entry, and what is wrong with it; nothing is unpickled.

        Raises:
            CacheError: The key is not known here; nothing is made.
        """
        sealer = self._known_sealer()
        for name, _, _ in self.entries():
            for content in self._read_many([name]).values():
                try:
                    sealer.verify(name, content)
                except BrokenEntryError as error:
                    yield name, str(error)

    def saved_counts(self) -> None:
        """Return nothing: counts stay in their processes."""

    def nodes(self) -> dict[str, str]:
        """Return which node made an entry, by the entry's name, as far as that is remembered."""
        fs, root = self._open()
        with suppress(FileNotFoundError):
            notes = fs.cat(fs.find(f"{root}/notes"), on_error="omit").values()
            known = [record for note in notes for record in from_lines(note)]
            return {address(record.signature): record.node for record in known}
        return {}

    def __repr__(self) -> str:
        return f"FsspecCache({self.path!r}, ttl={self.ttl})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (type(self), self.path, self.ttl, self._key, self._options)

    def _open(self) -> tuple[Any, str]:
        if self._opened is None:
            fs, root = self._fsspec.core.url_to_fs(self.path, **self._options)
            self._opened = fs, root.rstrip("/")
        return self._opened

    def _place(self, name: str) -> str:
        return f"{self._open()[1]}/{name[0]}/{name[1:]}"

    def _since(self) -> float:
        return 0.0 if self.ttl is None else time.time() - self.ttl

    def _contents(self, places: list[str]) -> dict[str, bytes]:
        """Read files at once, without those that are not there."""
        fs, _ = self._open()
        if not places:
            return {}
        found = fs.cat(places, on_error="return")
        contents = {p: found[p] for p in places if not isinstance(found[p], FileNotFoundError)}
        for content in contents.values():
            if isinstance(content, BaseException):
                raise content
        return contents

    def _read_many(self, names: Iterable[str]) -> dict[str, bytes]:
        try:
            places = {self._place(name): name for name in names}
            contents = self._contents(list(places))
            return {places[place]: content for place, content in contents.items()}
        except Exception as error:  # noqa: BLE001 - each file system has errors of its own
            self._tell("cannot be read", error)
            return {}

    def _unsealed(self, name: str, content: bytes) -> Any:
        entry = memoryview(bytearray(content)) if len(content) >= APART else content
        try:
            sealer = self._sealer or self._read_key()
            try:
                return sealer.unseal(name, entry, since=self._since())
            except BrokenEntryError:
                return self._read_key().unseal(name, entry, since=self._since())
        except BrokenEntryError as error:
            self._tell(f"holds a damaged entry, {name}", error)
        except Exception as error:  # noqa: BLE001 - as above
            self._tell("cannot be read", error)
        return MISS

    def _write_many(self, contents: Mapping[str, bytes]) -> None:
        fs, root = self._open()
        if _protocols(fs) & _LOCAL:
            make_private(root)
        if _protocols(fs) & _WHOLE_AT_ONCE:
            fs.pipe(dict(contents))
            return
        for place, content in contents.items():
            self._write_renaming(fs, place, content)

    def _write_renaming(self, fs: Any, place: str, content: bytes) -> None:
        _, root = self._open()
        draft = f"{root}/drafts/{uuid.uuid4().hex}"
        for directory in (draft, place):
            fs.makedirs(directory.rpartition("/")[0], exist_ok=True)
        try:
            fs.pipe_file(draft, content)
            fs.mv(draft, place)
        except BaseException:
            with suppress(Exception):
                fs.rm_file(draft)
            raise

    def _exist(self, places: list[str]) -> list[bool]:
        fs, _ = self._open()
        if not fs.async_impl:
            return [fs.exists(place) for place in places]
        asyn = self._fsspec.asyn
        checks = [fs._exists(place) for place in places]  # noqa: SLF001 - fsspec's way to ask at once
        answers = asyn.sync(fs.loop, asyn._run_coros_in_chunks, checks)  # noqa: SLF001 - as above
        return [bool(answer) for answer in answers]

    def _read_key(self) -> Sealer:
        """Read the key, or make one; a damaged one is replaced."""
        key = shared_key(self._key)
        with self._lock:
            self._sealer = Sealer(self._kept_secret() if key is None else derived(key))
            return self._sealer

    def _kept_secret(self) -> bytes:
        fs, root = self._open()
        if _protocols(fs) & _LOCAL and not fs.exists(f"{root}/{SHARED}"):
            return read_or_make(f"{root}/key")
        return derived(self._kept_key())

    def _key_and_mark(self) -> tuple[bytes | None, bytes | None, str]:
        """Return the content of the key and of the mark of a shared one; and the key's place."""
        root = self._open()[1]
        place, mark = f"{root}/key", f"{root}/{SHARED}"
        found = self._contents([place, mark])
        return found.get(place), found.get(mark), place

    def _mark(self) -> None:
        """Let others know, once, that the key is shared, unless the store has one of its own."""
        key = shared_key(self._key)
        if key is None or self._is_marked:
            return
        found, mark, _ = self._key_and_mark()
        if found is None and mark is None:
            self._write_many({f"{self._open()[1]}/{SHARED}": mark_of(derived(key))})
        self._is_marked = True

    def _known_sealer(self) -> Sealer:
        """Return what verifies entries; nothing is made.

        Raises:
            CacheError: The key is not known here, or the store cannot be read.
        """
        key = shared_key(self._key)
        try:
            found, mark, _ = self._key_and_mark()
        except Exception as error:
            raise self._unreadable(error) from error
        if key is not None and mark in (None, mark_of(derived(key))):
            return Sealer(derived(key))
        if key is None and found is not None and is_whole(found):
            return Sealer(derived(found))
        trouble = missing(self.path) if key is None else other(self.path)
        raise CacheError(str(trouble), path=self.path)

    def _kept_key(self) -> bytes:
        """Return the content of the key that lies in the store; a missing or damaged one is made.

        Raises:
            NoKeyError: The key is shared, and not known here.
        """
        found, mark, place = self._key_and_mark()
        if found is None and mark is not None:
            raise missing(self.path)
        if found is None or not is_whole(found):
            self._write_many({place: secrets.token_hex(32).encode()})
            found = self._contents([place])[place]  # of two who write at once, the last one wins
        return found

    def _unreadable(self, error: Exception) -> CacheError:
        return CacheError(f"the cache at {self.path} cannot be read: {error!r}", path=self.path)

    def _tell(self, what: str, error: Exception) -> None:
        self._trouble.tell(f"the cache at {self.path} {what}: {error!r}")


def _is_sound(sealer: Sealer, name: str, content: bytes, since: float) -> bool:
    try:
        sealer.verify(name, memoryview(content) if len(content) >= APART else content)
    except BrokenEntryError:
        return False
    return created(name, content) >= since


def _needed(path: str) -> Any:
    """Import fsspec, and see that it can deal with `path`."""
    fsspec = import_extra("fsspec", extra="fsspec", user="a cache of kind 'fsspec'")
    import_extra("fsspec.asyn", extra="fsspec", user="a cache of kind 'fsspec'")
    protocol, _ = fsspec.core.split_protocol(path)
    try:
        fsspec.get_filesystem_class(protocol or "file")
    except ImportError as error:
        message = f"the cache at {path} needs a package besides hypernodes[fsspec]: {error}"
        raise MissingDependencyError(message, extra="fsspec") from error
    except ValueError as error:
        raise CacheError(f"the path of a cache is wrong: {error}", path=path) from error
    return fsspec


def _time_of(facts: Mapping[str, Any]) -> float | None:
    """Return when a file was made, in seconds; each file system says it in its own way."""
    for name in ("mtime", "LastModified", "last_modified", "updated", "created"):
        found = facts.get(name)
        if isinstance(found, datetime):
            return found.timestamp()
        if isinstance(found, int | float):
            return float(found)
    return None


def _protocols(fs: Any) -> set[str]:
    return {fs.protocol} if isinstance(fs.protocol, str) else set(fs.protocol)


def _rebuilt(kind: Any, path: str, ttl: Any, key: Any, options: Any) -> FsspecCache:
    made: FsspecCache = kind(path, ttl, key=key, storage_options=options)
    return made
