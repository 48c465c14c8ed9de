"""Who observes a plan, as far as that is known before any run."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from hypernodes._dispatch.needs import (
    CACHE_EVENTS,
    COUNTER,
    ITEM_EVENTS,
    NODE_EVENTS,
    RUN_EVENTS,
    Needs,
)
from hypernodes._dispatch.plugins import REGISTRY as PLUGINS
from hypernodes._nested import PipelineNode

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from hypernodes._dispatch.table import Call, Table
    from hypernodes._engine.plan import Dissolved, Plan, Slot, Step
    from hypernodes._node import BaseNode
    from hypernodes.abc import RunContext
    from hypernodes.config import RuntimeConfig
    from hypernodes.pipeline import Pipeline

Calls = tuple["Call", ...]
Wrapper = Callable[..., Any]


def calls(table: Table | None, hook: str) -> Calls:
    """Return the calls for an event under a config whose table may be missing."""
    return () if table is None else table.calls(hook)


WRAPPED: Final = -1
"""The audience of a run in a worker that nobody there observes, but that hooks are called in."""


def audience_of(pipeline: Pipeline, config: RuntimeConfig, *, pinned: bool) -> int:
    """Return 0 if nobody observes a run of `pipeline`; else a number that changes with plugins.

    Args:
        pipeline: What is to run.
        config: The config in force for it.
        pinned: Whether that rules all that is inside, too.
    """
    if _in_force(pipeline, config, _has_table, pinned=pinned):
        return PLUGINS.number() + 1
    return WRAPPED if _in_force(pipeline, config, _has_wrappers, pinned=pinned) else 0


def _in_force(
    pipeline: Pipeline,
    config: RuntimeConfig,
    fits: Callable[[RuntimeConfig], bool],
    *,
    pinned: bool,
) -> bool:
    """Return whether the config of a run, or one inside of its pipeline, is such a one."""
    return fits(config) or (not pinned and any(map(fits, own_configs(pipeline))))


def own_configs(pipeline: Pipeline) -> Iterator[RuntimeConfig]:
    """Yield the configs inside of a pipeline."""
    for node in pipeline.nodes:
        inner = node.pipeline if isinstance(node, PipelineNode) else None
        own = node.config or (None if inner is None else inner.own_config)
        if own is not None:
            yield own
        if inner is not None:
            yield from own_configs(inner)


def _has_table(config: RuntimeConfig) -> bool:
    return config.table is not None


def _has_wrappers(config: RuntimeConfig) -> bool:
    return config.needs is not None and bool(config.needs.wrappers)


def _needs_of(config: RuntimeConfig, ctx: RunContext, *, is_inside: bool = False) -> Needs | None:
    """Return what is asked for under a config in a plan that was made for `ctx`.

    Args:
        config: The config.
        ctx: The context of the plan.
        is_inside: Whether inside of an item.
    """
    needs = config.needs
    if needs is None:
        return None
    if ctx.audience == WRAPPED:
        return Needs(frozenset(), needs.wrappers)
    return needs.of_items() if is_inside else needs


class Cue:
    """What a step has to tell, wherever it runs.

    Args:
        step: The step.
        needs: What is asked for at the step.
        watched: The slots of values that dissolved pipelines take or give.
        is_around: Whether somebody is told of a dissolved pipeline that it belongs to.

    Attributes:
        needs: As given.
        is_silent: Whether nobody wants to know anything, nor is anything called around it.
        inputs: Whether with its inputs.
        inputs_of_errors: Whether with its inputs only where it fails.
        output: Whether with its output.
        retries: Whether failed attempts are told, for themselves or for what comes after them.
        reports: Whether reports are told.
        attempts: Whether attempts are counted.
        wrappers: What is called around it.
        settings: What sets up where it runs.
    """

    def __init__(
        self,
        step: Step,
        needs: Needs | None,
        watched: frozenset[Slot],
        *,
        is_around: bool,
    ) -> None:
        self.needs: Needs | None = needs
        events = NODE_EVENTS - {"on_node_error"}
        self.inputs: bool = self._reads("inputs", *events, *CACHE_EVENTS, "on_report", "wrap_node")
        self.inputs_of_errors: bool = not self.inputs and self._reads("inputs", "on_node_error")
        made = not watched.isdisjoint(step.outputs)
        self.output: bool = made or self._reads("outputs", "on_node_end")
        self.retries: bool = self._listens("on_node_retry", "on_report")
        self.reports: bool = self._listens("on_report")
        self.attempts: bool = self._listens("on_node_end", "on_node_retry")
        self.wrappers: tuple[Wrapper, ...] = self.needs.wrappers if self.needs is not None else ()
        self.settings: tuple[Wrapper, ...] = self.needs.settings if self.needs is not None else ()
        listens = self._listens(*NODE_EVENTS, "on_report")
        if step.cached:
            listens = listens or self._listens(*CACHE_EVENTS, COUNTER)
        self.is_silent: bool = not (listens or self.wrappers or self.settings or is_around)

    def _listens(self, *names: str) -> bool:
        return self.needs is not None and self.needs.listens(*names)

    def _reads(self, value: str, *names: str) -> bool:
        return self.needs is not None and self.needs.reads(value, *names)


class Audience:
    """Who observes a plan, as far as it has to be known where the plan runs.

    Args:
        plan: The plan.

    Attributes:
        cues: What steps have to tell, by their index.
        watched: The slots of values that dissolved pipelines take or give, if somebody reads them.
        given: Those of them that are there before any step.
        inputs: Whether items are told with their inputs.
        outputs: Whether items are told with their outputs.
        is_there: Whether there is anything to tell of a pass through the plan.
    """

    def __init__(self, plan: Plan) -> None:
        self.watched: frozenset[Slot] = frozenset(_read_slots(plan.scopes))
        ctx, is_inside = plan.request.ctx, bool(plan.mapped)
        needs_of = partial(_needs_of, ctx=ctx, is_inside=is_inside)
        told = [needs_of(scope.ctx.config) for scope in plan.scopes]
        told_of = [needs is not None and needs.listens(*RUN_EVENTS) for needs in told]
        self.cues: tuple[Cue, ...] = tuple(
            Cue(
                step,
                needs_of(step.config),
                self.watched,
                is_around=any(told_of[number] for number in chain(plan.scopes, step.scope)),
            )
            for step in plan.steps
        )
        there = {*plan.shared.values(), *plan.mapped.values(), *plan.constants}
        self.given: frozenset[Slot] = self.watched & there
        needs = _needs_of(ctx.config, ctx)
        self.inputs: bool = needs is not None and needs.reads("inputs", *ITEM_EVENTS)
        self.outputs: bool = needs is not None and needs.reads("outputs", *ITEM_EVENTS)
        has_items = needs is not None and needs.listens(*ITEM_EVENTS)
        inner = any(step.inner is not None for step in plan.steps)
        self.is_there: bool = has_items or inner or not all(cue.is_silent for cue in self.cues)

    def values(self, plan: Plan, inputs: Mapping[str, Any], item: Mapping[str, Any]) -> Any:
        """Return those of `given`, by slot."""
        if not self.given:
            return {}
        there = plan.values(inputs, item)
        return {slot: there[slot] for slot in self.given}


def _read_slots(scopes: list[Dissolved]) -> set[Slot]:
    slots: set[Slot] = set()
    for scope in scopes:
        needs = scope.ctx.config.needs
        if needs is not None and needs.reads("inputs", *RUN_EVENTS):
            slots.update(scope.inputs.values())
        if needs is not None and needs.reads("outputs", *RUN_EVENTS):
            slots.update(scope.outputs.values())
    return slots


class Part:
    """A step, and whom its events go to.

    Args:
        step: The step.
    """

    __slots__ = (
        "checks",
        "ends",
        "errors",
        "gives",
        "hits",
        "misses",
        "node",
        "reports",
        "retries",
        "starts",
        "step",
        "stores",
    )

    def __init__(self, step: Step) -> None:
        table, needs = step.config.table, step.config.needs
        self.gives: bool = needs is not None and needs.reads("outputs", "on_node_end")
        self.step: Step = step
        self.node: BaseNode = step.node
        self.starts: Calls = calls(table, "on_node_start")
        self.ends: Calls = calls(table, "on_node_end")
        self.errors: Calls = calls(table, "on_node_error")
        self.retries: Calls = calls(table, "on_node_retry")
        self.reports: Calls = calls(table, "on_report")
        self.checks: Calls = calls(table, "on_cache_check")
        self.hits: Calls = calls(table, "on_cache_hit")
        self.misses: Calls = calls(table, "on_cache_miss")
        self.stores: Calls = calls(table, "on_cache_store")


class Script:
    """Who is to be called for the events of a plan; in the driver.

    Args:
        plan: The plan.
        watched: The slots of values that dissolved pipelines take or give, if somebody reads them.

    Attributes:
        parts: The steps.
        has_runs: Whether there may be runs inside.
        counts: How many steps belong to each dissolved pipeline, or to those inside it.
        chains: The dissolved pipelines around a step, from the outside in, by the step's index.
    """

    def __init__(self, plan: Plan, watched: frozenset[Slot]) -> None:
        self.plan: Plan = plan
        self.watched: frozenset[Slot] = watched
        self.parts: tuple[Part, ...] = tuple(map(Part, plan.steps))
        chains = (chain(plan.scopes, step.scope) for step in plan.steps)
        self.chains: tuple[tuple[int, ...], ...] = tuple(chains)
        has_inner = any(step.inner is not None for step in plan.steps)
        self.has_runs: bool = has_inner or bool(plan.scopes)
        self.counts: list[int] = [0] * len(plan.scopes)
        for numbers in self.chains:
            for number in numbers:
                self.counts[number] += 1


def chain(scopes: Sequence[Dissolved], number: int | None) -> tuple[int, ...]:
    """Return a dissolved pipeline, by its number, after those around it; none for None."""
    around: list[int] = []
    while number is not None:
        around.append(number)
        number = scopes[number].outer
    return tuple(reversed(around))
