"""One node, one item at a time, in the thread of the caller."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hypernodes._engine.failure import Failure, outputs_of
from hypernodes._engine.requests import open_items
from hypernodes.abc import Executor, OutputName, RunContext

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from hypernodes.pipeline import Pipeline


class SequentialExecutor(Executor):
    """Runs one node, one item at a time, in this thread: the least overhead, the plainest traces.

    Example:
        >>> from hypernodes import Pipeline, RuntimeConfig, node
        >>> double = Pipeline([node("double")(lambda x: 2 * x)])
        >>> double.run({"x": 4}, config=RuntimeConfig(executor=SequentialExecutor()))
        {'double': 8}
    """

    def run_pipeline(
        self,
        pipeline: Pipeline,
        inputs: Mapping[str, Any],
        ctx: RunContext,
        output_name: OutputName = None,
    ) -> dict[str, Any]:
        return outputs_of(pipeline.engine(inputs, ctx, output_name).attempt(inputs))

    def map_items(
        self,
        pipeline: Pipeline,
        items: Iterable[Mapping[str, Any]],
        inputs: Mapping[str, Any],
        ctx: RunContext,
        output_name: OutputName = None,
    ) -> Iterator[dict[str, Any] | Failure]:
        outcomes = self.map_unordered(pipeline, items, inputs, ctx, output_name)
        return (outcome for _, outcome in outcomes)

    def map_unordered(
        self,
        pipeline: Pipeline,
        items: Iterable[Mapping[str, Any]],
        inputs: Mapping[str, Any],
        ctx: RunContext,
        output_name: OutputName = None,
    ) -> Iterator[tuple[int, dict[str, Any] | Failure]]:
        found = open_items(pipeline, items, inputs, ctx, output_name)
        if found is None:
            return iter(())
        engine, items = found
        return engine.attempt_all(inputs, items)

    def inside_items(self, ctx: RunContext) -> RunContext:
        return replace(ctx, in_order=True)  # whoever has an item can do one node after another

    def beside(self, work: Callable[[], None]) -> None:
        """Do `work` right here: what is sequential runs in the thread of its caller."""
        work()
