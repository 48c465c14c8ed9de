"""A plan: steps in order, and the slots that their values lie in."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hypernodes._node import Node

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from hypernodes._engine.kernel import PipelineExecutionEngine
    from hypernodes._node import BaseNode
    from hypernodes.abc import RunContext
    from hypernodes.config import RuntimeConfig
    from hypernodes.pipeline import Pipeline

Slot = int


@dataclass(slots=True, eq=False)
class Request:
    """What a plan is made for.

    Attributes:
        given: The names of the inputs.
        mapped: Those of them that are each item's own.
        outputs: The outputs asked for, in order; None for all there are.
        ctx: The config in force and where the pipeline stands.
    """

    given: frozenset[str]
    mapped: frozenset[str]
    outputs: tuple[str, ...] | None
    ctx: RunContext


@dataclass(slots=True, eq=False)
class Argument:
    """A value that a step takes: the slot it lies in, and the keyword, or None for a position."""

    slot: Slot
    keyword: str | None = None


@dataclass(slots=True, eq=False)
class Step:
    """One vertex of the plan.

    Attributes:
        index: Its place in the order.
        node: The node.
        path: The names from the outermost pipeline to the node.
        config: The config in force for it.
        arguments: What it takes.
        outputs: The slots that it fills.
        inner: For a nested pipeline that is mapped or runs elsewhere: what to run there.
        cached: Whether its results are looked up and kept, in the cache of its config.
        unpacks: Whether the outputs come as a tuple.
        scope: The dissolved pipeline that it belongs to, by its place among those of the plan.
    """

    index: int
    node: BaseNode
    path: tuple[str, ...]
    config: RuntimeConfig
    arguments: tuple[Argument, ...]
    outputs: tuple[Slot, ...]
    inner: Inner | None = None
    cached: bool = False
    scope: int | None = None
    unpacks: bool = field(init=False)

    def __post_init__(self) -> None:
        single = isinstance(self.node, Node) and isinstance(self.node.output_name, str)
        self.unpacks = self.inner is not None or not single

    @property
    def is_wrapped(self) -> bool:
        """Whether hooks are called around the node."""
        needs = self.config.needs
        return needs is not None and bool(needs.wrappers)


@dataclass(slots=True, eq=False)
class Inner:
    """A pipeline inside a step: its arguments are these inputs, in order.

    Attributes:
        pipeline: What to run.
        ctx: Its config and place.
        inputs: The inner names of the step's arguments.
        outputs: The inner names of the step's outputs.
        map_over: The inner names that are mapped over; empty for one run.
        map_mode: `"zip"` or `"product"`.
        given: The inner names of outputs that are given for each item of a map.
        labels: What inner names are called outside, for messages.
    """

    pipeline: Pipeline
    ctx: RunContext
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    map_over: tuple[str, ...] = ()
    map_mode: str = "zip"
    given: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def elsewhere(self) -> bool:
        """Whether another executor or backend runs it."""
        return self.ctx.away

    @property
    def maps_alike(self) -> bool:
        """Whether it is mapped under the config of the plan around it, if not by its executor."""
        return bool(self.map_over) and (not self.ctx.away or self.ctx.maps_on is not None)

    def engine(self, shared: Iterable[str]) -> PipelineExecutionEngine:
        """Return what runs one item, given the names of the `shared` inputs."""
        mapped = (*self.map_over, *self.given)
        return self.pipeline.engine(shared, self.ctx, self.outputs, mapped)

    @property
    def item_engine(self) -> PipelineExecutionEngine:
        """What runs one item."""
        own = {*self.map_over, *self.given}
        return self.engine(name for name in self.inputs if name not in own)


@dataclass(slots=True, eq=False)
class Dissolved:
    """A nested pipeline whose nodes are steps of the plan, for those who observe it.

    Attributes:
        pipeline: The pipeline.
        ctx: Its config and place.
        outer: The dissolved pipeline around it, by its place among those of the plan.
        inputs: The slots of its inputs, by their inner names.
        outputs: The slots of its outputs that are made, by their inner names.
    """

    pipeline: Pipeline
    ctx: RunContext
    outer: int | None
    inputs: Mapping[str, Slot]
    outputs: Mapping[str, Slot]


@dataclass(slots=True, eq=False)
class Plan:
    """Steps in an order in which they can run.

    Attributes:
        pipeline: What it is a plan of.
        request: What it was made for.
        steps: The steps.
        slots: How many values there are.
        shared: The slots of inputs that all items share, by name.
        mapped: The slots of inputs that are each item's own, by name.
        constants: Bound values, by slot.
        results: The slots of the outputs asked for, by name.
        used: The names of the inputs that are needed and given.
        missing: Inputs that are needed and were not given, with the path of a node that needs each.
        inside: What its only step does, where that is all of an item, done by another executor.
        scopes: The nested pipelines that have dissolved, outer ones first, where somebody observes.
    """

    pipeline: Pipeline
    request: Request
    steps: tuple[Step, ...] = ()
    slots: int = 0
    shared: dict[str, Slot] = field(default_factory=dict)
    mapped: dict[str, Slot] = field(default_factory=dict)
    constants: dict[Slot, Any] = field(default_factory=dict)
    results: dict[str, Slot] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    missing: dict[str, tuple[str, ...]] = field(default_factory=dict)
    inside: Plan | None = None
    scopes: list[Dissolved] = field(default_factory=list)

    def values(self, inputs: Mapping[str, Any], item: Mapping[str, Any]) -> dict[Slot, Any]:
        """Return the values that are there before any step has run."""
        values = dict(self.constants)
        for name, slot in self.shared.items():
            values[slot] = inputs[name]
        for name, slot in self.mapped.items():
            values[slot] = item[name]
        return values

    def uses(self) -> Counter[Slot]:
        """Count how often each value is needed: by steps, and once where it stays to the end."""
        taken = Counter(argument.slot for step in self.steps for argument in step.arguments)
        return taken + Counter({*self.results.values(), *self.constants})
