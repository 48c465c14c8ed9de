"""This process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypernodes.abc import Backend, OutputName, RunContext

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from hypernodes._engine.failure import Failure
    from hypernodes.pipeline import Pipeline


class LocalBackend(Backend):
    """Hands over to the config's executor, in this process."""

    def run(
        self,
        pipeline: Pipeline,
        inputs: Mapping[str, Any],
        ctx: RunContext,
        output_name: OutputName = None,
    ) -> dict[str, Any]:
        return ctx.config.executor.run_pipeline(pipeline, inputs, ctx, output_name)

    async def arun(
        self,
        pipeline: Pipeline,
        inputs: Mapping[str, Any],
        ctx: RunContext,
        output_name: OutputName = None,
    ) -> dict[str, Any]:
        return await ctx.config.executor.arun_pipeline(pipeline, inputs, ctx, output_name)

    def map(
        self,
        pipeline: Pipeline,
        items: Iterable[Mapping[str, Any]],
        inputs: Mapping[str, Any],
        ctx: RunContext,
        output_name: OutputName = None,
    ) -> Iterable[dict[str, Any] | Failure]:
        return ctx.config.executor.map_items(pipeline, items, inputs, ctx, output_name)

    def map_unordered(
        self,
        pipeline: Pipeline,
        items: Iterable[Mapping[str, Any]],
        inputs: Mapping[str, Any],
        ctx: RunContext,
        output_name: OutputName = None,
    ) -> Iterator[tuple[int, dict[str, Any] | Failure]]:
        return ctx.config.executor.map_unordered(pipeline, items, inputs, ctx, output_name)
