"""How often caches were asked, and how often they had an answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypernodes.telemetry._shared import Gathering

if TYPE_CHECKING:
    from hypernodes._node import BaseNode

__all__ = ["CacheStatsCallback"]


class CacheStatsCallback(Gathering):
    """Counts what was found in caches, what was not, and what was stored, over all runs.

    Attributes:
        hits: How often a node's value was found.
        misses: How often it was not.
        stores: How often a value was stored.
        by_node: The same by the node's name: a dict with `hits`, `misses` and `stores` for each.

    Example:
        >>> from hypernodes import MemoryCache, Pipeline, RuntimeConfig, node
        >>> stats = CacheStatsCallback()
        >>> double = Pipeline([node("double")(lambda x: 2 * x)])
        >>> config = RuntimeConfig(cache=MemoryCache(), callbacks=[stats])
        >>> results = double.map({"x": [1, 2, 3]}, map_over="x", config=config)
        >>> results = double.map({"x": [1, 2, 4]}, map_over="x", config=config)
        >>> stats.hits, stats.misses, stats.stores
        (2, 4, 4)
        >>> stats.by_node
        {'double': {'hits': 2, 'misses': 4, 'stores': 4}}
    """

    def __init__(self) -> None:
        super().__init__()
        self.by_node: dict[str, dict[str, int]] = {}

    @property
    def hits(self) -> int:
        """How often a node's value was found."""
        return self._sum("hits")

    @property
    def misses(self) -> int:
        """How often it was not."""
        return self._sum("misses")

    @property
    def stores(self) -> int:
        """How often a value was stored."""
        return self._sum("stores")

    def reset(self) -> None:
        """Start again from nothing."""
        with self._lock:
            self.by_node.clear()

    def on_cache_hit(self, node: BaseNode) -> None:
        self._count(node.name, "hits")

    def on_cache_miss(self, node: BaseNode) -> None:
        self._count(node.name, "misses")

    def on_cache_store(self, node: BaseNode) -> None:
        self._count(node.name, "stores")

    def _count(self, name: str, what: str) -> None:
        with self._lock:
            counts = self.by_node.setdefault(name, {"hits": 0, "misses": 0, "stores": 0})
            counts[what] += 1

    def _sum(self, what: str) -> int:
        with self._lock:
            return sum(counts[what] for counts in self.by_node.values())
