"""Dask: chunks of items, and nodes, as tasks of a cluster, its own or one that is there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import ConfigDict, Field, field_validator, model_validator

from hypernodes._engine.clusters.tls import Tls
from hypernodes._engine.cores import usable_cores
from hypernodes._extras import import_extra
from hypernodes.executors.clustered import ClusteredExecutor

if TYPE_CHECKING:
    from collections.abc import Hashable

    from hypernodes._engine.clusters.cluster import Cluster

Count = Annotated[int, Field(ge=1, strict=True)]


class DaskExecutor(ClusteredExecutor):
    """Runs nodes, and the items of a map, as tasks of a Dask cluster.

    Which cluster that is, is decided by the first run that needs one, in this order:

    1. the one at `scheduler_address`;
    2. that of the program's own Dask client (`distributed.Client`), if it has one; or that of the
       worker which a `RemoteBackend` has sent the pipeline to;
    3. one of our own on this machine.

    The first two are used and left running, as they are; workers may join and leave meanwhile.
    Before anything runs there, their versions of Python, hypernodes, cloudpickle and distributed
    are compared with those here. Our own is started once, shared by equal executors, and ended by
    `close`, by leaving `with`, or with the program, whatever its end.

    What a node asks for by its `resources`: `num_cpus` are threads of its worker, `memory` is in
    bytes, `num_gpus` what Dask calls `GPU`, and other names are those that workers were started
    with (`dask worker --resources "GPU=2"`). Of those Dask keeps account, so that nodes never have
    more of them at once than a worker has.

    Callbacks can have a say in the start, by `on_executor_start(ctx, executor, options)`. In
    `options` they may set:

    - `init_kwargs`: a dict of arguments for the `distributed.Client` that leads to the cluster.
    - `cluster_kwargs`: a dict for our own cluster: `n_workers`, `threads_per_worker` (1),
      `memory_limit` (none), `resources` (a dict), `dashboard_address` (none).
    - `cluster`: a cluster of Dask's that is to be used (a `LocalCluster`, `KubeCluster`, ...), or
      `client`, a client that leads to one. They are left running: `on_executor_stop` gets the same
      `options` and is where to end what was started for them.
    - `timeout`: seconds to wait for a worker, at the start and when all have left (60).

    Attributes:
        scheduler_address: Of the scheduler of a cluster that is there: `"tcp://host:8786"`.
        scheduler: What the workers of our own cluster are: processes, or threads of this one. It
            says nothing of a cluster that is there.
        num_workers: How many our own cluster has, at one thread each; None for one for each core.
            A cluster that is there has those it has, and this is not looked at.
        chunksize: How many items travel together; None for what takes long enough to hide the way.
        security: TLS for the cluster at `scheduler_address`: a `distributed.Security`, a dict of
            its arguments, or the path of a TOML file with these.

    Raises:
        MissingDependencyError: Dask is not installed.
        pydantic.ValidationError: An address or another value is wrong (a `ValueError`).

    Example:
        >>> DaskExecutor(num_workers=2).scheduler
        'processes'
    """

    # What is wrong with a security is said without showing its keys.
    model_config: ClassVar[ConfigDict] = ConfigDict(hide_input_in_errors=True)

    scheduler_address: str | None = None
    scheduler: Literal["processes", "threads"] = "processes"
    num_workers: Count | None = None
    chunksize: Count | None = None
    security: Tls = None

    @model_validator(mode="before")
    @classmethod
    def _check_installed(cls, value: Any) -> Any:
        import_extra("distributed", extra="dask", user="DaskExecutor")
        return value

    @field_validator("scheduler_address", mode="before")
    @classmethod
    def _check_text(cls, value: Any) -> Any:
        if value is None or isinstance(value, str):
            return value
        raise ValueError(
            f"scheduler_address is a text, as in 'tcp://host:8786', not a {type(value).__name__}; "
            f"a Client that the program has opened is found without it, and an on_executor_start "
            f"hook may give one, or a cluster, as options['client'] or options['cluster']"
        )

    @field_validator("scheduler_address")
    @classmethod
    def _check_address(cls, value: str | None) -> str | None:
        from hypernodes._engine.clusters.address import check_address  # noqa: PLC0415 - users pay

        if value is not None:
            check_address(value)
        return value

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.security is None:
            return self
        if self.scheduler_address is None:
            raise ValueError(
                "security is for the cluster at scheduler_address, and there is none; a cluster of "
                "our own can be reached from this machine only, a client of yours has its own"
            )
        from hypernodes._engine.clusters.address import check_security  # noqa: PLC0415 - users pay

        check_security(self.scheduler_address, self.security)
        return self

    def ground(self) -> Hashable | None:
        from hypernodes._engine.clusters.opening import ground_of_dask  # noqa: PLC0415 - users pay

        return ground_of_dask(self.scheduler_address, self.security)

    def open_cluster(self, options: dict[str, Any]) -> Cluster:
        from hypernodes._engine.clusters.opening import open_dask  # noqa: PLC0415 - users pay

        return open_dask(
            self.scheduler_address,
            self.security,
            self.num_workers or usable_cores(),
            processes=self.scheduler == "processes",
            options=options,
        )
