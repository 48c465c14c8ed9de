"""What executors have in common that run chunks as tasks of a cluster."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, cast

from hypernodes.executors.shipped import ShippedExecutor

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from hypernodes._engine.clusters.cluster import Cluster
    from hypernodes._engine.clusters.pool import ClusterPool
    from hypernodes._engine.kernel import PipelineExecutionEngine
    from hypernodes._engine.workers import Workers
    from hypernodes.abc import OutputName, RunContext
    from hypernodes.pipeline import Pipeline


class ClusteredExecutor(ShippedExecutor):
    """Runs nodes, and the items of a map, as tasks of a cluster."""

    chunksize: int | None = None

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

    def _open_items(
        self,
        pipeline: Pipeline,
        items: Iterable[Mapping[str, Any]],
        inputs: Mapping[str, Any],
        ctx: RunContext,
        output_name: OutputName,
    ) -> tuple[PipelineExecutionEngine, Iterator[Mapping[str, Any]]] | None:
        found = super()._open_items(pipeline, items, inputs, ctx, output_name)
        if found is not None and not self._is_occupied:
            self._check(found[0])
        return found

    def _gains(self, engine: PipelineExecutionEngine) -> bool:
        gains = super()._gains(engine)
        if gains:
            self._check(engine)
        return gains

    def _check(self, engine: PipelineExecutionEngine) -> None:
        """Refuse a plan with a node that no worker can run, before anything runs."""
        cast("ClusterPool", self._workers()).check(engine)
