"""Which kernel a plan needs: only those that use a cache pay for one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypernodes._engine.kernel import PipelineExecutionEngine, item_engine, maps_here

if TYPE_CHECKING:
    from hypernodes._engine.plan import Plan, Step


def engine_for(plan: Plan) -> PipelineExecutionEngine:
    """Return what runs `plan`."""
    if not any(map(_uses_cache, plan.steps)):
        return PipelineExecutionEngine(plan)
    from hypernodes._engine.caching.engine import CachingEngine  # noqa: PLC0415 - see above

    return CachingEngine(plan)


def _uses_cache(step: Step) -> bool:
    if step.cached:
        return True
    return step.inner is not None and maps_here(step) and item_engine(step.inner).looks_up
