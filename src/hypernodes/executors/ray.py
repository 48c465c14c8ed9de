"""Ray: chunks of items, and nodes, on workers of a cluster, its own or one that is there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Field, InstanceOf, PlainSerializer, model_validator

from hypernodes._described import Options
from hypernodes._extras import import_extra
from hypernodes.executors.clustered import ClusteredExecutor

if TYPE_CHECKING:
    from hypernodes._engine.clusters.cluster import Cluster

Count = Annotated[int, Field(ge=1, strict=True)]


class RayExecutor(ClusteredExecutor):
    """Runs nodes, and the items of a map, on workers of a Ray cluster.

    With an address, the cluster there is used, and left running; without one, the Ray that the
    program has initialised, else one of our own on this machine, started once and ended by `close`
    or with the program. Values stay in the object store between nodes.

    Attributes:
        ray_address: Of a cluster that is there: `"auto"`, or `"host:port"`.
        num_cpus: How many CPUs our own has, or how many of another are used at the most; None for
            all.
        num_gpus: How many GPUs our own has; None for all.
        runtime_env: What workers run in, as Ray takes it.
        chunksize: How many items travel together; None for what takes long enough to hide the way.

    Raises:
        MissingDependencyError: Ray is not installed.

    Example:
        >>> RayExecutor(num_cpus=2).num_cpus
        2
    """

    ray_address: str | None = None
    num_cpus: Count | None = None
    num_gpus: Annotated[int, Field(ge=0, strict=True)] | None = None
    runtime_env: Annotated[
        InstanceOf[Options] | None,
        BeforeValidator(lambda given: Options(given) if isinstance(given, Mapping) else given),
        PlainSerializer(lambda given: None if given is None else given.plain()),
    ] = None
    chunksize: Count | None = None

    @model_validator(mode="before")
    @classmethod
    def _check_installed(cls, value: Any) -> Any:
        import_extra("ray", extra="ray", user="RayExecutor")
        return value

    def open_cluster(self, options: dict[str, Any]) -> Cluster:
        from hypernodes._engine.clusters.ray_opening import open_ray  # noqa: PLC0415 - users pay

        return open_ray(
            self.ray_address,
            self.num_cpus,
            self.num_gpus,
            self.runtime_env.plain() if self.runtime_env else {},
            options.get("init_kwargs", {}),
        )
