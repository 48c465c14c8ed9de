"""What executors have in common that run chunks as tasks of a cluster."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from hypernodes.executors.shipped import ShippedExecutor

if TYPE_CHECKING:
    from hypernodes._engine.clusters.cluster import Cluster
    from hypernodes._engine.workers import Workers


class ClusteredExecutor(ShippedExecutor):
    """Runs nodes, and the items of a map, as tasks of a cluster."""

    if TYPE_CHECKING:  # a field of each of them, in the order of its own
        chunksize: int | None

    @abstractmethod
    def open_cluster(self, options: dict[str, Any]) -> Cluster:
        """Start a cluster, or find the one that is there.

        Args:
            options: What `on_executor_start` hooks have filled in.
        """

    def open_workers(self) -> Workers:
        return self.open_with({})

    def open_with(self, options: dict[str, Any]) -> Workers:
        from hypernodes._engine.clusters.pool import ClusterPool  # noqa: PLC0415 - users pay

        return ClusterPool(self.open_cluster(options), chunksize=self.chunksize)
