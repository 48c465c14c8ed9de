"""Who observes a plan, as far as that is known before any run."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hypernodes._dispatch.needs import CACHE_EVENTS, NODE_EVENTS, RUN_EVENTS
from hypernodes._dispatch.plugins import REGISTRY as PLUGINS
from hypernodes._nested import PipelineNode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hypernodes._dispatch.needs import Needs
    from hypernodes._dispatch.table import Call, Table
    from hypernodes._engine.plan import Dissolved, Plan, Slot, Step
    from hypernodes._node import BaseNode
    from hypernodes.config import RuntimeConfig
    from hypernodes.pipeline import Pipeline

Calls = tuple["Call", ...]
Wrapper = Callable[..., Any]


def calls(table: Table | None, hook: str) -> Calls:
    """Return the calls for an event under a config whose table may be missing."""
    return () if table is None else table.calls(hook)


def audience_of(pipeline: Pipeline, config: RuntimeConfig, *, pinned: bool) -> int:
    """Return 0 if nobody observes a run of `pipeline`; else a number that changes with plugins.

    Args:
        pipeline: What is to run.
        config: The config in force for it.
        pinned: Whether that rules all that is inside, too.
    """
    is_watched = config.table is not None or (not pinned and _inner_tables(pipeline))
    return PLUGINS.number() + 1 if is_watched else 0


def _inner_tables(pipeline: Pipeline) -> bool:
    """Return whether a config inside of a pipeline has callbacks."""
    for node in pipeline.nodes:
        inner = node.pipeline if isinstance(node, PipelineNode) else None
        own = node.config or (None if inner is None else inner.own_config)
        if own is not None and own.table is not None:
            return True
        if inner is not None and _inner_tables(inner):
            return True
    return False


class Cue:
    """What a step has to tell, wherever it runs.

    Args:
        step: The step.
        watched: The slots of values that dissolved pipelines take or give.

    Attributes:
        needs: What is asked for at the step.
        is_silent: Whether nobody wants to know anything, nor is anything called around it.
        inputs: Whether with its inputs.
        output: Whether with its output.
        retries: Whether failed attempts are told, for themselves or for what comes after them.
        reports: Whether reports are told.
        attempts: Whether attempts are counted.
    """

    def __init__(self, step: Step, watched: frozenset[Slot]) -> None:
        self.needs: Needs | None = step.config.needs
        self.inputs: bool = self._reads(
            "inputs", *NODE_EVENTS, *CACHE_EVENTS, "on_report", "wrap_node"
        )
        made = not watched.isdisjoint(step.outputs)
        self.output: bool = made or self._reads("outputs", "on_node_end")
        self.retries: bool = self._listens("on_node_retry", "on_report")
        self.reports: bool = self._listens("on_report")
        self.attempts: bool = self._listens("on_node_end", "on_node_retry")
        self.wrappers: tuple[Wrapper, ...] = self.needs.wrappers if self.needs is not None else ()
        listens = self._listens(*NODE_EVENTS, *CACHE_EVENTS, "on_report")
        self.is_silent: bool = not (listens or self.wrappers or step.scope is not None)

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
        self.cues: tuple[Cue, ...] = tuple(Cue(step, self.watched) for step in plan.steps)
        there = {*plan.shared.values(), *plan.mapped.values(), *plan.constants}
        self.given: frozenset[Slot] = self.watched & there
        needs = plan.request.ctx.config.needs
        items = ("on_item_start", "on_item_end", "on_item_error")
        self.inputs: bool = needs is not None and needs.reads("inputs", *items)
        self.outputs: bool = needs is not None and needs.reads("outputs", *items)
        has_items = needs is not None and needs.listens(*items)
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
        chains = (_chain(plan, step.scope) for step in plan.steps)
        self.chains: tuple[tuple[int, ...], ...] = tuple(chains)
        has_inner = any(step.inner is not None for step in plan.steps)
        self.has_runs: bool = has_inner or bool(plan.scopes)
        self.counts: list[int] = [0] * len(plan.scopes)
        for chain in self.chains:
            for number in chain:
                self.counts[number] += 1


def _chain(plan: Plan, number: int | None) -> tuple[int, ...]:
    chain: list[int] = []
    while number is not None:
        chain.append(number)
        number = plan.scopes[number].outer
    return tuple(reversed(chain))
