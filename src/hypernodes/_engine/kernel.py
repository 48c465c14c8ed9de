"""The kernel: the one place where nodes run, whatever the executor."""

from __future__ import annotations

import threading
from collections import Counter
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from hypernodes._engine.calls import node_call
from hypernodes._engine.failure import Failure, Faulted, annotate, item_note, node_note
from hypernodes._engine.inner import inner_call
from hypernodes._engine.plan import compile_plan
from hypernodes._engine.program import Program
from hypernodes._engine.segments import Segment, split
from hypernodes._node import Node

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from hypernodes._engine.failure import Given, Outcome
    from hypernodes._engine.plan import Plan, Request, Slot, Step
    from hypernodes.pipeline import Pipeline

NO_ITEM: Final[dict[str, Any]] = {}


class PipelineExecutionEngine:
    """Runs what a plan says: the whole of it in one go, or one segment for a scheduler.

    Executors decide where and when; what happens at a node is decided here. Failures come back as
    values; what is no `Exception` is raised as it is.

    Args:
        plan: What to run.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._lock = threading.Lock()
        self.calls: tuple[Callable[..., Any], ...] = tuple(map(_step_call, plan.steps))

    def __reduce__(self) -> tuple[Any, ...]:
        return _compiled, (self.plan.pipeline, self.plan.request)

    def attempt(
        self, inputs: Mapping[str, Any], item: Mapping[str, Any] = NO_ITEM, index: int | None = None
    ) -> Outcome:
        """Run all steps, one after another, in this thread.

        Args:
            inputs: The inputs; in a map, those that all items share.
            item: The item's own inputs.
            index: The item's index.

        Returns:
            The outputs by name, or the failure.
        """
        try:
            return self.program.run(inputs, item)
        except Exception as error:  # noqa: BLE001 - whatever the user's function raised
            failure = self.failure(error, self.program.step_of(error.__traceback__), index)
        return failure if index is None else failure.at_item(index, item)

    def attempt_all(
        self, inputs: Mapping[str, Any], items: Iterable[Mapping[str, Any]]
    ) -> Iterator[tuple[int, Outcome]]:
        """Run all steps for each of `items`, as they are asked for; yield indexes and outcomes."""
        run = self.program.run
        for index, item in enumerate(items):
            try:
                outcome: Outcome = run(inputs, item)
            except Exception as error:  # noqa: BLE001 - whatever the user's function raised
                step = self.program.step_of(error.__traceback__)
                outcome = self.failure(error, step, index).at_item(index, item)
            yield index, outcome

    def attempt_segment(
        self,
        number: int,
        values: dict[Slot, Any],
        index: int | None = None,
        is_wanted: Callable[[], bool] | None = None,
    ) -> Given:
        """Run the steps of a segment, one after another, in this thread.

        Args:
            number: The segment's index.
            values: What it takes, by slot; used up.
            index: The item's index, in a map.
            is_wanted: Asked before each step; where it says no, the rest is left out.

        Returns:
            What it gives, by slot, or the failure.
        """
        segment = self.segments[number]
        for step, spent in zip(segment.steps, segment.spent, strict=True):
            if is_wanted is not None and not is_wanted():
                break
            positional = [values[a.slot] for a in step.arguments if a.keyword is None]
            named = {a.keyword: values[a.slot] for a in step.arguments if a.keyword is not None}
            try:
                result = self.calls[step.index](*positional, **named)
            except Exception as error:  # noqa: BLE001 - whatever the user's function raised
                return self.failure(error, step, index)
            values.update(zip(step.outputs, result if step.unpacks else (result,), strict=True))
            del positional, named, result
            for slot in spent:
                del values[slot]
        return values

    @cached_property
    def program(self) -> Program:
        """The plan as one function, compiled when it is first needed."""
        with self._lock:
            return self.__dict__.get("program") or Program(self.plan, self.calls)

    @cached_property
    def segments(self) -> tuple[Segment, ...]:
        """The plan in pieces that can be told to run when their inputs are there."""
        return split(self.plan)

    @cached_property
    def uses(self) -> Counter[Slot]:
        """How many segments need each value, and one more where it is asked for."""
        taken = Counter(slot for segment in self.segments for slot in segment.takes)
        return taken + Counter({*self.plan.results.values()})

    @cached_property
    def overlaps(self) -> bool:
        """Whether there is something in the plan that can run beside something else."""
        return len(self.segments) > 1 or any(_maps_here(step) for step in self.plan.steps)

    @cached_property
    def leaves(self) -> bool:
        """Whether some steps run under an executor or a backend of their own."""
        return any(step.inner is not None and step.inner.elsewhere for step in self.plan.steps)

    def failure(self, error: Exception, step: Step | None, index: int | None) -> Failure:
        """Return `error`, which came up in `step`, as a failure, with a note that says where."""
        if step is None:  # no step's doing: ours
            raise error
        if not isinstance(error, Faulted):
            annotate(error, node_note(step.path, index))
            return Failure(error, index, step.node.name, step.path)
        failure = error.failure
        if failure.path == step.path:
            less = None if index is None else node_note(step.path, None)
            annotate(failure.error, node_note(step.path, index), instead_of=less)
        elif index is not None:
            annotate(failure.error, item_note(self.plan.request.ctx.path, index))
        return failure


def _compiled(pipeline: Pipeline, request: Request) -> PipelineExecutionEngine:
    """Return an engine from its data form; the slots have the same numbers everywhere."""
    return PipelineExecutionEngine(compile_plan(pipeline, request))


def _maps_here(step: Step) -> bool:
    return step.inner is not None and bool(step.inner.map_over) and not step.inner.elsewhere


def _step_call(step: Step) -> Callable[..., Any]:
    if step.inner is not None:
        return inner_call(step.inner, step.path)
    assert isinstance(step.node, Node)  # noqa: S101 - what is no function has a plan inside
    return node_call(step.node, step.path, step.config)
