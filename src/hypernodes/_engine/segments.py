"""A plan in segments: what a scheduler hands out, each as soon as what it waits for is there."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from inspect import iscoroutinefunction
from itertools import groupby
from typing import TYPE_CHECKING

from hypernodes._node import Node

if TYPE_CHECKING:
    from hypernodes._engine.plan import Plan, Slot, Step


@dataclass(slots=True, eq=False)
class Part:
    """Steps of a segment that follow one another and are of one kind.

    Attributes:
        steps: The steps, in order.
        spent: For each step, the values inside that nothing needs after it.
        waits: Whether the steps are coroutines that have to be awaited.
    """

    steps: list[Step]
    spent: tuple[tuple[Slot, ...], ...]
    waits: bool = False


@dataclass(slots=True, eq=False)
class Segment:
    """Steps that run one after another in one place: a chain that nothing else can join or leave.

    Attributes:
        steps: The steps, in order.
        index: Its place among the segments.
        waits_for: How many other segments have to be done first.
        followers: The indexes of the segments that wait for it.
        takes: The values that it needs from outside.
        gives: The values that others need of it, or that are asked for.
        spent: For each step, the values inside that nothing needs after it.
    """

    steps: list[Step]
    index: int = 0
    waits_for: int = 0
    followers: list[int] = field(default_factory=list)
    takes: tuple[Slot, ...] = ()
    gives: tuple[Slot, ...] = ()
    spent: tuple[tuple[Slot, ...], ...] = ()

    @property
    def whole(self) -> Part:
        """The segment as one part, for a thread."""
        return Part(self.steps, self.spent)

    def parts(self) -> tuple[Part, ...]:
        """Return the segment by kinds of steps, for a loop: coroutines and others."""
        pairs = zip(self.steps, self.spent, strict=True)
        groups = [(waits, [*group]) for waits, group in groupby(pairs, lambda p: is_async(p[0]))]
        return tuple(
            Part([step for step, _ in group], tuple(spent for _, spent in group), waits)
            for waits, group in groups
        )


def is_async(step: Step) -> bool:
    """Return whether a step is a coroutine function, which a loop can call and await.

    What only wraps one is not: it may do anything before, and with, the coroutine.
    """
    if step.inner is not None or not isinstance(step.node, Node):
        return False
    if step.is_wrapped:  # what is called around it may wait
        return False
    func = step.node.func
    return iscoroutinefunction(func) or iscoroutinefunction(type(func).__call__)


def split(plan: Plan, *, fuse: bool = True) -> tuple[Segment, ...]:
    """Return the segments of `plan`.

    A step joins the segment of the one step that it needs, if that one is needed by nobody else; so
    no step waits for longer than for its own inputs. What holds a plan of its own stays alone.

    Args:
        plan: The plan.
        fuse: Whether steps join; else each is a segment of its own, with the index of the step,
            and gives all that it makes.
    """
    makers: dict[Slot, Step] = {slot: step for step in plan.steps for slot in step.outputs}
    needed = {
        step.index: list(
            dict.fromkeys(makers[a.slot].index for a in step.arguments if a.slot in makers)
        )
        for step in plan.steps
    }
    if plan.request.ctx.in_order:
        needed = {step.index: [step.index - 1] if step.index else [] for step in plan.steps}
    followers: dict[int, list[int]] = defaultdict(list)
    for index, others in needed.items():
        for other in others:
            followers[other].append(index)
    segment_of: dict[int, Segment] = {}
    for step in plan.steps:
        before = needed[step.index] if fuse else []
        segment_of[step.index] = _segment_for(step, before, followers, segment_of)
    segments = tuple(dict.fromkeys(segment_of.values()))
    _connect(segments, needed, segment_of)
    uses = plan.uses()
    for segment in segments:
        _describe_values(segment, uses)
        if not fuse:
            segment.gives = segment.steps[0].outputs
    return segments


def _segment_for(
    step: Step, needed: list[int], followers: dict[int, list[int]], segment_of: dict[int, Segment]
) -> Segment:
    if step.inner is None and len(needed) == 1 and len(followers[needed[0]]) == 1:
        before = segment_of[needed[0]]
        if before.steps[-1].inner is None:
            before.steps.append(step)
            return before
    return Segment([step])


def _connect(
    segments: tuple[Segment, ...], needed: dict[int, list[int]], segment_of: dict[int, Segment]
) -> None:
    for index, segment in enumerate(segments):
        segment.index = index
    for segment in segments:
        first = segment.steps[0]
        before = dict.fromkeys(segment_of[other] for other in needed[first.index])
        segment.waits_for = len(before)
        for other in before:
            other.followers.append(segment.index)


def _describe_values(segment: Segment, uses: Counter[Slot]) -> None:
    """Say which values go in, come out, and end inside."""
    made = dict.fromkeys(slot for step in segment.steps for slot in step.outputs)
    taken = Counter(argument.slot for step in segment.steps for argument in step.arguments)
    segment.takes = tuple(slot for slot in taken if slot not in made)
    segment.gives = tuple(slot for slot in made if uses[slot] > taken[slot])
    spent = []
    for step in segment.steps:
        taken.subtract(argument.slot for argument in step.arguments)
        here = dict.fromkeys((*(argument.slot for argument in step.arguments), *step.outputs))
        spent.append(tuple(s for s in here if taken[s] <= 0 and s not in segment.gives))
    segment.spent = tuple(spent)
