"""What is known of a plan's keys before any run: which steps have one as soon as inputs have."""

from __future__ import annotations

from collections import Counter
from functools import cached_property
from typing import TYPE_CHECKING

from hypernodes._engine.caching.keys import compile_keys
from hypernodes._engine.caching.records import label
from hypernodes._node import Node

if TYPE_CHECKING:
    from hypernodes._engine.caching.keys import Program
    from hypernodes._engine.plan import Plan, Slot, Step


class Scheme:
    """The steps of a plan by how they are keyed.

    Args:
        plan: The plan.
        opaque: The indexes of mapped steps whose items have no signatures before they run.

    Attributes:
        plan: The plan.
        signed: By the index of the step, whether it may have a signature.
        makers: Which step makes a value, by slot.
        takes: What steps take, by the index of the step, in order.
        forks: The slots of what steps make and several steps take.
        uses: How many steps take a value, and one more where it is asked for, by slot.
        static: The steps that are signed as soon as the inputs have keys, in order.
        ends: The steps that make what is asked for.
        is_static: Whether all of these are static.
        gives_inputs: Whether something that is given is asked for.
    """

    def __init__(self, plan: Plan, opaque: frozenset[int]) -> None:
        self.plan = plan
        self.signed = tuple(step.cached and step.index not in opaque for step in plan.steps)
        self.makers: dict[Slot, Step] = {s: step for step in plan.steps for s in step.outputs}
        self.takes = tuple([a.slot for a in step.arguments] for step in plan.steps)
        self.uses = Counter(slot for slots in self.takes for slot in slots)
        self.forks = frozenset(s for s, n in self.uses.items() if n > 1 and s in self.makers)
        self.uses.update({*plan.results.values()})
        self.static = self._static_steps()
        wanted = [slot for slot in plan.results.values() if slot in self.makers]
        self.ends = tuple(dict.fromkeys(self.makers[slot] for slot in wanted))
        self.is_static = set(self.ends) <= set(self.static)
        self.gives_inputs = len(wanted) < len(plan.results)

    def _static_steps(self) -> tuple[Step, ...]:
        unknown: set[Slot] = set()
        static = []
        for step in self.plan.steps:
            if self.signed[step.index] and unknown.isdisjoint(self.takes[step.index]):
                static.append(step)
            else:
                unknown.update(step.outputs)
        return tuple(static)

    @cached_property
    def labels(self) -> tuple[list[str], ...]:
        """What records call the arguments of steps, by the index of the step."""
        return tuple([label(name) for _, name in parameters(step)] for step in self.plan.steps)

    @cached_property
    def program(self) -> Program:
        """Signs the static steps."""
        return compile_keys(self.static)


def parameters(step: Step) -> list[tuple[str, str]]:
    """Return, for each argument of a step, the function's own name and the name in the graph."""
    node, inner = step.node, step.inner
    if not isinstance(node, Node):
        assert inner is not None  # noqa: S101 - what is no function has a plan inside
        return [(name, inner.labels.get(name, name)) for name in inner.inputs]
    if inner is not None:
        places = [node.root_args.index(name) for name in inner.inputs]
    else:
        own = [parameter.name for parameter in node.parameters]
        places = [
            place if argument.keyword is None else own.index(argument.keyword)
            for place, argument in enumerate(step.arguments)
        ]
    return [(node.parameters[place].name, node.root_args[place]) for place in places]
