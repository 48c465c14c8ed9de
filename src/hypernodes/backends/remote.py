"""A cluster: pipelines go there whole, and run on the executors of its workers."""

from __future__ import annotations

from collections.abc import Sized
from functools import cache, partial
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, Self

from pydantic import ConfigDict, field_validator, model_validator

from hypernodes._alerts import warn_user
from hypernodes._engine.clusters.ray_address import check_ray_address
from hypernodes._engine.clusters.tls import Tls
from hypernodes._engine.failure import outputs_of
from hypernodes._engine.flights import release_flights
from hypernodes._engine.interrupts import Deferral
from hypernodes._engine.observing.opening import opened
from hypernodes._engine.observing.script import own_configs
from hypernodes._engine.requests import open_items
from hypernodes._engine.workers import OCCUPIED, REGISTRY
from hypernodes._extras import import_extra
from hypernodes._kinds import EXECUTORS, import_place
from hypernodes.abc import Backend, Executor, OutputName, RunContext
from hypernodes.exceptions import HyperNodesError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from hypernodes._engine.clusters.cluster import Cluster
    from hypernodes._engine.clusters.remote import RemotePool, RemoteScheduler
    from hypernodes._engine.failure import Failure
    from hypernodes._engine.kernel import PipelineExecutionEngine
    from hypernodes.pipeline import Pipeline

NO_SPARK: Final = (
    "RemoteBackend(kind='spark') is not possible: what runs in Spark's executors can take back "
    "nothing, tell nothing on its way and be stopped by nobody but Spark. Possible are kind='dask' "
    "and kind='ray'; a Spark program can run pipelines inside its own functions, each on a local "
    "executor"
)
NO_CHILDREN: Final = (
    "the workers of the cluster may not have children, so ProcessPoolExecutor has threads there; "
    "start workers that may (dask worker --no-nanny), or use another executor"
)


class RemoteBackend(Backend):
    """Runs pipelines on a cluster that is there: each whole, by the config's executor.

    Pipeline, config and inputs go to the cluster, and a worker's own executor runs them there, so
    that threads, coroutines or processes are those of the worker. A map is split: its items go to
    all workers in shares of about half a second, each share for the executor of its worker; results
    come back as items end. A node or a pipeline inside with a config of its own runs under that,
    there. `DaskExecutor` is the other way round: it is driven from here, and every node may go to
    another worker. Both together, or `RayExecutor` on Ray, have a worker drive the run, and its
    nodes may go to all others.

    Who observes, observes here. A cache that workers can reach is used there; where it is in the
    memory of this process, nodes are looked up here and sent one by one. What a node asks for by
    its `resources`, the worker has that gets the run or the share.

    Before anything runs, the versions of the workers are compared with those here. The connection
    is opened by the first run, shared by equal backends, and ended by `close`, by leaving `with`,
    or with the program; the cluster is left running. If it is lost, the run ends with a
    `HyperNodesError`, and the next one connects anew.

    Where workers may not have children, as those of Dask under a nanny may not, a
    `ProcessPoolExecutor` has threads there, and a `RuntimeWarning` says so.

    Attributes:
        kind: What the cluster is of: `"dask"` or `"ray"`.
        address: Where its scheduler is: `"tcp://host:8786"`.
        security: TLS for Dask: a `distributed.Security`, a dict of its arguments, or the path of a
            TOML file with these.

    Raises:
        MissingDependencyError: The engine is not installed.
        HyperNodesError: Of Spark, which cannot do this.
        pydantic.ValidationError: An address or another value is wrong (a `ValueError`).

    Example:
        >>> from hypernodes import RuntimeConfig
        >>> backend = RemoteBackend(kind="dask", address="tcp://10.0.0.1:8786")
        >>> RuntimeConfig(backend=backend, executor="async").backend.kind
        'dask'
    """

    # What is wrong with a security is said without showing its keys.
    model_config: ClassVar[ConfigDict] = ConfigDict(hide_input_in_errors=True)

    kind: Literal["dask", "ray", "spark"]
    address: str
    security: Tls = None

    @field_validator("kind")
    @classmethod
    def _check_installed(cls, value: str) -> str:
        if value == "spark":
            raise HyperNodesError(NO_SPARK)
        module = "distributed" if value == "dask" else value
        import_extra(module, extra=value, user=f"RemoteBackend(kind={value!r})")
        return value

    @model_validator(mode="after")
    def _check_place(self) -> Self:
        if self.kind == "dask":
            from hypernodes._engine.clusters.address import (  # noqa: PLC0415 - users pay
                check_address,
                check_security,
            )

            check_address(self.address)
            check_security(self.address, self.security)
            return self
        if self.security is not None:
            raise ValueError("security is for kind='dask'; Ray is told by its own environment")
        check_ray_address(self.address)
        return self

    # ------------------------------------------------------------ runs and maps

    def run(
        self,
        pipeline: Pipeline,
        inputs: Mapping[str, Any],
        ctx: RunContext,
        output_name: OutputName = None,
    ) -> dict[str, Any]:
        if self._is_here:
            return ctx.config.executor.run_pipeline(pipeline, inputs, ctx, output_name)
        engine = _whole(pipeline.engine(inputs, ctx, output_name))
        if not engine.plan.steps:
            return outputs_of(engine.attempt(inputs))
        with Deferral():
            return outputs_of(self._scheduler(engine).run(engine, inputs))

    async def arun(
        self,
        pipeline: Pipeline,
        inputs: Mapping[str, Any],
        ctx: RunContext,
        output_name: OutputName = None,
    ) -> dict[str, Any]:
        if self._is_here:
            return await ctx.config.executor.arun_pipeline(pipeline, inputs, ctx, output_name)
        return await super().arun(pipeline, inputs, ctx, output_name)

    def map(
        self,
        pipeline: Pipeline,
        items: Iterable[Mapping[str, Any]],
        inputs: Mapping[str, Any],
        ctx: RunContext,
        output_name: OutputName = None,
    ) -> Iterable[dict[str, Any] | Failure]:
        if self._is_here:
            return ctx.config.executor.map_items(pipeline, items, inputs, ctx, output_name)
        outcomes = self._map(pipeline, items, inputs, ctx, output_name, ordered=True)
        return (outcome for _, outcome in outcomes)

    def map_unordered(
        self,
        pipeline: Pipeline,
        items: Iterable[Mapping[str, Any]],
        inputs: Mapping[str, Any],
        ctx: RunContext,
        output_name: OutputName = None,
    ) -> Iterator[tuple[int, dict[str, Any] | Failure]]:
        if self._is_here:
            return ctx.config.executor.map_unordered(pipeline, items, inputs, ctx, output_name)
        return self._map(pipeline, items, inputs, ctx, output_name, ordered=False)

    def _map(
        self,
        pipeline: Pipeline,
        items: Iterable[Mapping[str, Any]],
        inputs: Mapping[str, Any],
        ctx: RunContext,
        output_name: OutputName,
        *,
        ordered: bool,
    ) -> Iterator[tuple[int, dict[str, Any] | Failure]]:
        known = len(items) if isinstance(items, Sized) else 0
        found = open_items(pipeline, items, inputs, ctx, output_name)
        if found is None:
            return iter(())
        engine, items = _whole(found[0]), found[1]
        if not engine.plan.steps:
            return engine.attempt_all(inputs, items)
        return self._scheduler(engine).map(engine, inputs, items, known, ordered=ordered)

    def close(self) -> None:
        """End the connection of this backend and its equals; the next run opens a new one."""
        REGISTRY.close(self)

    # ------------------------------------------------------------ the cluster

    @property
    def _is_here(self) -> bool:
        """Whether the code that runs now was sent by an equal backend."""
        return self in OCCUPIED.get()

    def _scheduler(self, engine: PipelineExecutionEngine) -> RemoteScheduler:
        from hypernodes._engine.clusters.remote import (  # noqa: PLC0415 - users pay
            RemotePool,
            RemoteScheduler,
        )

        ctx = engine.plan.request.ctx
        release_flights()
        pool = REGISTRY.of(self, partial(opened, self, ctx.config, self._open))
        assert isinstance(pool, RemotePool)  # noqa: S101 - what we have opened
        pool.check(engine)
        if not pool.bears and any(map(_is_of_processes, _executors(engine.plan.pipeline, ctx))):
            warn_of_threads()
        return RemoteScheduler(self, pool, ctx.config.executor)

    def _open(self, options: dict[str, Any]) -> RemotePool:
        from hypernodes._engine.clusters.remote import RemotePool  # noqa: PLC0415 - users pay

        return RemotePool(self._cluster(options))

    def _cluster(self, options: dict[str, Any]) -> Cluster:
        if self.kind == "ray":
            from hypernodes._engine.clusters.ray_opening import Wishes, open_ray  # noqa: PLC0415

            return open_ray(Wishes(self.address, None, None, {}).with_options(options))
        from hypernodes._engine.clusters.opening import open_dask  # noqa: PLC0415 - users pay

        return open_dask(self.address, self.security, 1, processes=True, options=options)


@cache
def warn_of_threads() -> None:
    """Tell once in a program that processes become threads."""
    warn_user(RuntimeWarning(NO_CHILDREN))


def _whole(engine: PipelineExecutionEngine) -> PipelineExecutionEngine:
    """Return what runs the same and says all of it, so that workers compile the very same plan."""
    plan = engine.plan
    request = plan.request
    return plan.pipeline.engine(plan.shared, request.ctx, tuple(plan.results), tuple(plan.mapped))


def _executors(pipeline: Pipeline, ctx: RunContext) -> Iterator[Executor]:
    """Yield the executors that a pipeline asks for: its own, those inside, and their parts."""
    inside = () if ctx.pinned else own_configs(pipeline)
    for config in (ctx.config, *inside):
        executor: Any = config.executor
        yield executor
        parts = (getattr(executor, name) for name in type(executor).model_fields)
        yield from (part for part in parts if isinstance(part, Executor))


def _is_of_processes(executor: Executor) -> bool:
    return isinstance(executor, import_place(EXECUTORS["process"]))
