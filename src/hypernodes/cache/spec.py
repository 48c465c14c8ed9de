"""What describes a cache, and one cache for all that describe it alike."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import (
    BeforeValidator,
    Field,
    InstanceOf,
    PlainSerializer,
    PrivateAttr,
    model_validator,
)

from hypernodes._described import Described, Options
from hypernodes.abc import Cache
from hypernodes.cache.disk import DiskCache
from hypernodes.cache.fsspec import FsspecCache
from hypernodes.cache.memory import MemoryCache
from hypernodes.exceptions import CacheError, hint

__all__ = ["CacheSpec", "Options", "shared_cache"]

ENTRY_POINTS: Final = "hypernodes.caches"

# What the options of any kind may hold, and what is not for the cache itself.
_SALT: Final = "salt"

_KINDS: Final[dict[str, tuple[type[Cache], frozenset[str]]]] = {
    "memory": (MemoryCache, frozenset({"max_items", "max_bytes"})),
    "disk": (DiskCache, frozenset({"max_bytes", "ttl", "key"})),
    "fsspec": (FsspecCache, frozenset({"ttl", "key", "storage_options"})),
}


def _as_text(path: object) -> object:
    return str(path) if hasattr(path, "__fspath__") else path


def _is_absolute(path: str) -> bool:
    return "://" in path or path.startswith("~") or Path(path).is_absolute()


class CacheSpec(Described):
    """Describes a cache: data that can be compared, pickled and kept in a file.

    Attributes:
        kind: `"memory"`, `"disk"`, `"fsspec"`, or the name of an entry point in the group
            `hypernodes.caches`: something that makes a `Cache` when it is called with `path`, if
            there is one, and the options.
        path: Where the cache lies: a directory, or a URL for fsspec. A relative path counts from
            the directory in which the spec was made.
        options: The other arguments of the cache. Besides, `"salt"`: a text that becomes part of
            all signatures; another one, and nothing that was stored before is found.

    Raises:
        pydantic.ValidationError: There is no such kind, or it takes no such option, or it needs a
            path (a `ValueError`).

    Example:
        >>> spec = CacheSpec(kind="memory", options={"max_items": 100})
        >>> spec.create()
        MemoryCache(max_items=100, max_bytes=None)
    """

    kind: Annotated[str, Field(min_length=1)]
    path: Annotated[str | None, BeforeValidator(_as_text)] = None
    options: Annotated[
        InstanceOf[Options],
        BeforeValidator(lambda given: Options(given) if isinstance(given, Mapping) else given),
        PlainSerializer(Options.plain),
    ] = Options({})

    # Two specs with one relative path, made in different directories, are not the same.
    _base: str = PrivateAttr("")

    @model_validator(mode="after")
    def _knows_its_base(self) -> CacheSpec:
        if self.path is not None and not _is_absolute(self.path):
            self._base = str(Path.cwd())
        return self

    @model_validator(mode="after")
    def _fits(self) -> CacheSpec:
        if not isinstance(self.salt, str):
            raise ValueError(f"the salt of a cache has to be a text, not {self.salt!r}")
        if self.kind not in _KINDS:
            _entry_point(self.kind)
            return self
        _, known = _KINDS[self.kind]
        for name in self.options.keys() - known - {_SALT}:
            raise ValueError(f"a {self.kind} cache has no option {name!r}; {hint(name, known)}")
        if (self.path is None) != (self.kind == "memory"):
            needs = "has no path" if self.path else "needs a path: where its entries lie"
            raise ValueError(f"a {self.kind} cache {needs}")
        return self

    @property
    def salt(self) -> str:
        """The text that is part of all signatures."""
        salt: str = self.options.get(_SALT, "")
        return salt

    def create(self) -> Cache:
        """Make the cache; `shared_cache` makes it once for all equal specs.

        Raises:
            CacheError: The options are wrong, or what the entry point made is no cache.
            MissingDependencyError: The kind needs an extra that is not installed.
        """
        given = {} if self.path is None else {"path": self._place(self.path)}
        options = self.options.plain()
        options.pop(_SALT, None)
        return _made(self._maker(), f"the cache kind {self.kind!r}", given | options)

    def _place(self, path: str) -> str:
        return str(Path(self._base, path)) if self._base and self.kind in _KINDS else path

    def __str__(self) -> str:
        return repr(self)

    def _maker(self) -> Callable[..., Any]:
        if self.kind in _KINDS:
            return _KINDS[self.kind][0]
        try:
            return _entry_point(self.kind).load()  # type: ignore[no-any-return]
        except ValueError as error:
            raise CacheError(str(error)) from error
        except (ImportError, AttributeError) as error:
            message = f"the cache kind {self.kind!r} is installed but cannot be loaded: {error}"
            raise CacheError(message) from error


def shared_cache(source: Cache | CacheSpec | Callable[[], Cache]) -> Cache:
    """Return the cache that `source` is or describes: one in a process for all equal sources.

    Args:
        source: A cache; a spec, which counts by value; or a function without arguments that makes a
            cache, which counts by identity and is called once.

    Raises:
        CacheError: The source does not make a cache.
        MissingDependencyError: It needs an extra that is not installed.
    """
    if isinstance(source, Cache):
        return source
    key = source if isinstance(source, CacheSpec) else _Factory(source)
    found = _shared.get(key)
    if found is not None:
        return found
    with _lock:
        if key not in _shared:
            _shared[key] = source.create() if isinstance(source, CacheSpec) else _called(source)
        return _shared[key]


class _Factory:
    """A function that makes a cache, equal only to itself, whatever it thinks of equality."""

    def __init__(self, call: Callable[[], Cache]) -> None:
        self.call = call

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Factory) and self.call is other.call

    def __hash__(self) -> int:
        return id(self.call)


_shared: dict[CacheSpec | _Factory, Cache] = {}
_lock = threading.RLock()  # a factory may ask for another cache


def _called(factory: Callable[[], Any]) -> Cache:
    return _made(factory, f"the cache factory {factory!r}", {})


def _made(maker: Callable[..., Any], what: str, arguments: dict[str, Any]) -> Cache:
    try:
        cache = maker(**arguments)
    except TypeError as error:
        raise CacheError(f"{what} does not take what it is given: {error}") from error
    if not isinstance(cache, Cache):
        raise CacheError(f"{what} makes a {type(cache).__qualname__}, which is no Cache")
    return cache


def _entry_point(kind: str) -> EntryPoint:
    found = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
    if kind not in found:
        raise ValueError(f"unknown cache {kind!r}; {hint(kind, [*_KINDS, *found])}")
    return found[kind]
