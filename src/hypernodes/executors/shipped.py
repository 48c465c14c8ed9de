"""What executors have in common whose workers share no memory with the driver."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hypernodes.executors.pooled import PooledExecutor

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from hypernodes._engine.kernel import PipelineExecutionEngine
    from hypernodes.abc import OutputName, RunContext
    from hypernodes.pipeline import Pipeline


class ShippedExecutor(PooledExecutor):
    """Runs all nodes on workers elsewhere; some of them only the driver can run."""

    def _open_items(
        self,
        pipeline: Pipeline,
        items: Iterable[Mapping[str, Any]],
        inputs: Mapping[str, Any],
        ctx: RunContext,
        output_name: OutputName,
    ) -> tuple[PipelineExecutionEngine, Iterable[Mapping[str, Any]]] | None:
        found = super()._open_items(pipeline, items, inputs, ctx, output_name)
        if found is None or not _needs_driver(found[0]):
            return found
        # The driver has to run what has an executor of its own, to keep what only it can, and to
        # tell of what another executor would do in a worker: it needs the nodes one by one.
        ctx = replace(ctx, nodes_on=None)
        return super()._open_items(pipeline, found[1], inputs, ctx, output_name)

    def _gains(self, engine: PipelineExecutionEngine) -> bool:
        return bool(engine.plan.steps)


def _needs_driver(engine: PipelineExecutionEngine) -> bool:
    is_told = engine.is_observed and engine.plan.inside is not None
    return is_told or engine.leaves_inside or engine.is_tied
