"""diskcache: a store alone, over SQLite and files."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from benchmarks.peers.base import Peer, Store
from benchmarks.peers.plain import in_turn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.graphs import Function
    from benchmarks.peers.base import CachedCall

diskcache: Any = import_module("diskcache")


class DiskCachePeer(Peer):
    """`Cache`, with its defaults."""

    def version(self) -> str:
        """Return the version of diskcache."""
        return str(diskcache.__version__)

    def cached_runner(self, functions: Sequence[Function], directory: str) -> CachedCall:
        """Return the functions under `Cache.memoize`, one after another."""
        cache = diskcache.Cache(directory)
        return in_turn([cache.memoize()(each) for each in functions])

    def cached_mapper(self, functions: Sequence[Function], name: str, directory: str) -> CachedCall:
        """Return a loop over the functions under `Cache.memoize`."""
        run, last = self.cached_runner(functions, directory), functions[-1].__name__
        return lambda values: [{last: run({name: value})} for value in values]

    def disk_store(self, directory: str) -> Store:
        """Return `Cache.set` and `Cache.get`."""
        cache = diskcache.Cache(directory)
        return Store(cache.set, cache.get)

    def full_store(self, directory: str) -> Store:
        """Return a `Cache` that may take as many bytes as there are."""
        cache = diskcache.Cache(directory, size_limit=diskcache.Cache(directory).volume())
        return Store(cache.set, cache.get)
