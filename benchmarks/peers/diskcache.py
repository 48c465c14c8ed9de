"""diskcache: a store alone, over SQLite and files."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from benchmarks.peers.base import Peer, Store

diskcache: Any = import_module("diskcache")


class DiskCachePeer(Peer):
    """`Cache`, with its defaults."""

    def version(self) -> str:
        """Return the version of diskcache."""
        return str(diskcache.__version__)

    def disk_store(self, directory: str) -> Store:
        """Return `Cache.set` and `Cache.get`."""
        cache = diskcache.Cache(directory)
        return Store(cache.set, cache.get)
