"""Two executors in one: the items of maps on the first, the nodes of each item on the second."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydantic import field_validator

from hypernodes._engine.workers import OCCUPIED
from hypernodes._kinds import AnyExecutor
from hypernodes.abc import Executor, OutputName, RunContext

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from hypernodes._engine.failure import Failure
    from hypernodes.pipeline import Pipeline


class CompositeExecutor(Executor):
    """Runs the items of maps on one executor and the nodes of each item on another.

    - A run goes to `node_executor`. Where it maps a nested pipeline, the items of that map go to
      `map_executor`, as those of `Pipeline.map` do.
    - An item is handed as a whole to `node_executor`, by the worker that has it and right there: in
      a worker process, the threads of the item belong to that process. It runs all that is in the
      item, nested maps included, and does so in its own way: a chain, say, stays where it is on
      `ThreadPoolExecutor`. With `SequentialExecutor` the nodes follow one another where the item
      runs, and nested maps share the workers of `map_executor`.
    - What has a config of its own runs under that one, asked for by whoever has the item. Worker
      processes do not ask: with such a node in the items, `map_executor` runs the other nodes, too.
    - Code inside a node on `node_executor` that calls `run` or `map` itself stays in its worker.

    Two equal executors do what one of them does alone. Pools are shared with those of equal
    executors outside, opened when they are needed, and closed together by `close`.

    Attributes:
        map_executor: Runs the items: an `Executor`, its short name or its table with a `kind`.
        node_executor: Runs the nodes of each item, and those outside of maps; given likewise.

    Raises:
        pydantic.ValidationError: One of them is no executor, or is a composite itself.

    Example:
        >>> CompositeExecutor(map_executor="thread", node_executor="sequential")
        CompositeExecutor(map_executor=ThreadPoolExecutor(max_workers=4), \
node_executor=SequentialExecutor())
    """

    map_executor: AnyExecutor
    node_executor: AnyExecutor

    @field_validator("map_executor", "node_executor")
    @classmethod
    def _refuse_composites(cls, executor: Executor) -> Executor:
        if isinstance(executor, CompositeExecutor):
            raise ValueError(
                "a CompositeExecutor cannot be a part of another one: there are items and nodes, "
                "and no third level; give one of its parts"
            )
        return executor

    def run_pipeline(
        self,
        pipeline: Pipeline,
        inputs: Mapping[str, Any],
        ctx: RunContext,
        output_name: OutputName = None,
    ) -> dict[str, Any]:
        return self.node_executor.run_pipeline(pipeline, inputs, self._for_run(ctx), output_name)

    async def arun_pipeline(
        self,
        pipeline: Pipeline,
        inputs: Mapping[str, Any],
        ctx: RunContext,
        output_name: OutputName = None,
    ) -> dict[str, Any]:
        run = self.node_executor.arun_pipeline
        return await run(pipeline, inputs, self._for_run(ctx), output_name)

    def map_items(
        self,
        pipeline: Pipeline,
        items: Iterable[Mapping[str, Any]],
        inputs: Mapping[str, Any],
        ctx: RunContext,
        output_name: OutputName = None,
    ) -> Iterable[dict[str, Any] | Failure]:
        executor, ctx = self._for_map(ctx)
        return executor.map_items(pipeline, items, inputs, ctx, output_name)

    def map_unordered(
        self,
        pipeline: Pipeline,
        items: Iterable[Mapping[str, Any]],
        inputs: Mapping[str, Any],
        ctx: RunContext,
        output_name: OutputName = None,
    ) -> Iterator[tuple[int, dict[str, Any] | Failure]]:
        executor, ctx = self._for_map(ctx)
        return executor.map_unordered(pipeline, items, inputs, ctx, output_name)

    def close(self) -> None:
        """End what both executors and their equals have opened; the next run opens it anew."""
        self.map_executor.close()
        self.node_executor.close()

    def _for_run(self, ctx: RunContext) -> RunContext:
        alike = self.map_executor == self.node_executor
        return ctx if alike else replace(ctx, maps_on=self)

    def _for_map(self, ctx: RunContext) -> tuple[Executor, RunContext]:
        """Return who maps, and the context for it."""
        ctx = replace(ctx, away=False, maps_on=None)
        if self.map_executor == self.node_executor:
            return self.map_executor, ctx
        if self.node_executor in OCCUPIED.get():
            # Items wait for nodes; if nodes waited for items, too, all workers might wait.
            return self.node_executor, ctx
        return self.map_executor, self.node_executor.inside_items(ctx)
