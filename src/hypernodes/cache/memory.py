"""A cache in the memory of this process."""

from __future__ import annotations

import copy
import pickle
import sys
import threading
from collections import OrderedDict
from importlib import import_module
from typing import Any, Final, NamedTuple

from hypernodes._handles import may_be_in
from hypernodes.abc import MISS, Cache, CacheStats
from hypernodes.exceptions import CacheError, SerializationError

__all__ = ["MemoryCache"]

# Of these, and of tuples of them, nothing can be changed: they need no copy.
_ATOMS: Final = frozenset(
    (type(None), bool, int, float, complex, str, bytes, range, type(...), type(NotImplemented))
)

# What an entry takes besides its value, in bytes: its signature and its place in the table.
_OVERHEAD: Final = 300

_loads: Final = pickle.loads


class _Kept(NamedTuple):
    """A value at rest: `value` itself, or what `load` makes a new copy from; its size in bytes."""

    load: Any
    value: Any
    size: int


class MemoryCache(Cache):
    """Keeps values in this process, the most recently used ones.

    What cannot be changed (numbers, texts, tuples of them) is kept as it is; everything else as a
    pickle, of which each `get` makes a new value. What cannot be pickled is refused.

    Args:
        max_items: The most entries that are kept, or None.
        max_bytes: The most bytes that they take, or None; live objects are estimated.

    Raises:
        CacheError: An argument is wrong.

    Example:
        >>> cache = MemoryCache(max_items=2)
        >>> for signature in ("a1", "b2", "c3"):
        ...     cache.put(signature, signature.upper())
        >>> cache.get("a1"), cache.get("c3")
        (MISS, 'C3')
    """

    def __init__(self, max_items: int | None = None, max_bytes: int | None = None) -> None:
        _check("max_items", max_items)
        _check("max_bytes", max_bytes)
        self.max_items: int | None = max_items
        self.max_bytes: int | None = max_bytes
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._size = 0
        self._hits = 0
        self._misses = 0

    def get(self, signature: str) -> Any:
        with self._lock:
            kept = self._kept.get(signature)
            if kept is None:
                self._misses += 1
                return MISS
            self._kept.move_to_end(signature)
            self._hits += 1
        load, value, _ = kept
        try:
            return value if load is None else load(value)
        except SystemExit as error:  # a value that ends the program is none
            raise CacheError(f"a value of this MemoryCache cannot be loaded: {error!r}") from error

    def put(self, signature: str, value: Any) -> None:
        try:
            kept = _at_rest(value)
        except SerializationError:
            self.delete(signature)  # what is there is not the last value that was put
            raise
        with self._lock:
            self._drop(signature)
            if self.max_bytes is None or kept.size <= self.max_bytes:
                self._kept[signature] = kept
                self._size += kept.size
                self._make_room()

    def has(self, signature: str) -> bool:
        return signature in self._kept

    def delete(self, signature: str) -> None:
        with self._lock:
            self._drop(signature)

    def clear(self) -> None:
        with self._lock:
            self._kept.clear()
            self._size = 0
        self.__dict__.pop("_history", None)

    def stats(self) -> CacheStats:
        with self._lock:
            return CacheStats(self._hits, self._misses, len(self._kept), self._size)

    def __repr__(self) -> str:
        return f"MemoryCache(max_items={self.max_items}, max_bytes={self.max_bytes})"

    def __reduce__(self) -> tuple[Any, ...]:
        # Memory is not shared: what arrives elsewhere is an empty cache with the same bounds.
        return type(self), (self.max_items, self.max_bytes)

    def _drop(self, signature: str) -> None:
        kept = self._kept.pop(signature, None)
        if kept is not None:
            self._size -= kept.size

    def _make_room(self) -> None:
        while self._is_over():
            _, kept = self._kept.popitem(last=False)
            self._size -= kept.size

    def _is_over(self) -> bool:
        items = self.max_items is not None and len(self._kept) > self.max_items
        return items or (self.max_bytes is not None and self._size > self.max_bytes)


def _check(name: str, value: object) -> None:
    number = isinstance(value, int) and not isinstance(value, bool)
    if value is not None and not (number and value > 0):  # type: ignore[operator]
        raise CacheError(f"{name} of a MemoryCache has to be a positive integer, not {value!r}")


def _at_rest(value: Any) -> _Kept:
    if _is_unchangeable(value):
        return _Kept(None, value, _size_of(value) + _OVERHEAD)
    buffers: list[pickle.PickleBuffer] = []
    try:
        stream = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
        if may_be_in(stream):
            import_module("hypernodes._apart").check(value)  # which few programs need
    except Exception as error:
        kind = type(value).__qualname__
        raise SerializationError(f"this {kind} cannot be pickled: {error}") from error
    if not buffers:
        return _Kept(_loads, stream, len(stream) + _OVERHEAD)
    contents = [_snapshot(buffer) for buffer in buffers]
    size = len(stream) + sum(map(len, contents)) + _OVERHEAD
    return _Kept(_load_with_buffers, (stream, contents), size)


def _snapshot(buffer: pickle.PickleBuffer) -> bytes | bytearray:
    content = buffer.raw()
    return bytes(content) if content.readonly else bytearray(content)


def _load_with_buffers(kept: tuple[bytes, list[bytes | bytearray]]) -> Any:
    stream, contents = kept
    return _loads(stream, buffers=[copy.copy(content) for content in contents])


def _is_unchangeable(value: Any) -> bool:
    kind = type(value)
    if kind is tuple or kind is frozenset:
        return all(map(_is_unchangeable, value))
    return kind in _ATOMS


def _size_of(value: Any) -> int:
    inside = sum(map(_size_of, value)) if type(value) in (tuple, frozenset) else 0
    return sys.getsizeof(value) + inside
