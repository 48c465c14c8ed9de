"""Which kernel a plan needs: only those that use a cache pay for one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypernodes._engine.kernel import PipelineExecutionEngine

if TYPE_CHECKING:
    from hypernodes._engine.plan import Plan, Step


def engine_for(plan: Plan) -> PipelineExecutionEngine:
    """Return what runs `plan`."""
    steps = plan.steps if plan.inside is None else plan.inside.steps
    if not any(map(_uses_cache, steps)):
        return PipelineExecutionEngine(plan)
    if plan.inside is not None:
        from hypernodes._engine.caching.items import ItemEngine  # noqa: PLC0415 - see above

        return ItemEngine(plan)
    from hypernodes._engine.caching.engine import CachingEngine  # noqa: PLC0415 - see above

    return CachingEngine(plan)


def _uses_cache(step: Step) -> bool:
    if step.cached:
        return True
    inner = step.inner
    return inner is not None and inner.maps_alike and inner.item_engine.looks_up
