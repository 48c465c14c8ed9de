"""Coroutines on one event loop; plain functions beside it, in threads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final, cast

from pydantic import Field

from hypernodes._engine.failure import outputs_of
from hypernodes._engine.flights import release_flights
from hypernodes._loop import await_on, background, home
from hypernodes.executors.pooled import PooledExecutor

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hypernodes._engine.kernel import PipelineExecutionEngine
    from hypernodes._engine.tasks import LoopWorkers, Runs
    from hypernodes.abc import OutputName, RunContext
    from hypernodes.pipeline import Pipeline

MOST_NODES: Final = 1024
MOST_THREADS: Final = 32


class AsyncExecutor(PooledExecutor):
    """Awaits the coroutines of independent nodes, and of the items of a map, together.

    All of them share one event loop in a background thread, whoever calls; plain functions run in
    threads, never on the loop. Calls from synchronous code, from inside a running loop and from
    inside other nodes all work.

    Attributes:
        max_concurrency: How many nodes are under way at once at the most, and how many of them in
            threads; None for 1,024, and 32 in threads.

    Example:
        >>> AsyncExecutor(max_concurrency=100)
        AsyncExecutor(max_concurrency=100)
    """

    max_concurrency: Annotated[int, Field(ge=1, strict=True)] | None = None

    def open_workers(self) -> LoopWorkers:
        from hypernodes._engine.tasks import LoopWorkers  # noqa: PLC0415 - asyncio: 30 ms

        return LoopWorkers(self.max_concurrency or MOST_NODES, self.max_concurrency or MOST_THREADS)

    async def arun_pipeline(
        self,
        pipeline: Pipeline,
        inputs: Mapping[str, Any],
        ctx: RunContext,
        output_name: OutputName = None,
    ) -> dict[str, Any]:
        if self._is_occupied:
            return await super().arun_pipeline(pipeline, inputs, ctx, output_name)
        engine = pipeline.engine(inputs, ctx, output_name)
        release_flights()
        host = home() or background()
        found = await await_on(host, self._runs(engine, ctx, host).outcome(engine, inputs))
        if isinstance(found, BaseException):
            raise found
        return outputs_of(found)

    def _gains(self, engine: PipelineExecutionEngine) -> bool:
        return engine.awaits or super()._gains(engine)

    def _scheduler(self, engine: PipelineExecutionEngine, ctx: RunContext) -> Runs:
        return self._runs(engine, ctx, background())

    def _runs(self, engine: PipelineExecutionEngine, ctx: RunContext, host: Any) -> Runs:
        from hypernodes._engine.tasks import Runs  # noqa: PLC0415 - asyncio: 30 ms

        return Runs(self, cast("LoopWorkers", self._workers(engine, ctx)), host)
