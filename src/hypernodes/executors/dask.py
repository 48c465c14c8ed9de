"""Dask: chunks of items, and nodes, as tasks of a cluster, its own or one that is there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from hypernodes._engine.cores import usable_cores
from hypernodes._extras import import_extra
from hypernodes.executors.clustered import ClusteredExecutor

if TYPE_CHECKING:
    from hypernodes._engine.clusters.cluster import Cluster

Count = Annotated[int, Field(ge=1, strict=True)]


class DaskExecutor(ClusteredExecutor):
    """Runs nodes, and the items of a map, as tasks of a Dask cluster.

    With an address, the cluster there is used, and left running; without one, that of the program's
    own Dask client if it has one, else one of our own on this machine, started once and ended by
    `close` or with the program.

    Attributes:
        scheduler_address: Of a cluster that is there.
        scheduler: What the workers of our own cluster are: processes, or threads of this one.
        num_workers: How many our own cluster has; None for one for each core.
        chunksize: How many items travel together; None for what takes long enough to hide the way.

    Raises:
        MissingDependencyError: Dask is not installed.

    Example:
        >>> DaskExecutor(num_workers=2).scheduler
        'processes'
    """

    scheduler_address: str | None = None
    scheduler: Literal["processes", "threads"] = "processes"
    num_workers: Count | None = None
    chunksize: Count | None = None

    @model_validator(mode="before")
    @classmethod
    def _check_installed(cls, value: Any) -> Any:
        import_extra("distributed", extra="dask", user="DaskExecutor")
        return value

    def open_cluster(self, options: dict[str, Any]) -> Cluster:
        from hypernodes._engine.clusters.opening import open_dask  # noqa: PLC0415 - users pay

        return open_dask(
            self.scheduler_address,
            self.num_workers or usable_cores(),
            processes=self.scheduler == "processes",
            options=options,
        )
