"""The kernel: the one place where nodes run, whatever the executor."""

from __future__ import annotations

import threading
from collections import Counter
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from hypernodes._cancel import check, is_watched
from hypernodes._engine.calls import node_call, node_coroutine
from hypernodes._engine.compiler import compile_plan
from hypernodes._engine.drive import drive
from hypernodes._engine.failure import Failure, Faulted, annotate, node_note, note_item
from hypernodes._engine.frame import Frame
from hypernodes._engine.inner import inner_call
from hypernodes._engine.observing.instrument import instrumented, instrumented_later
from hypernodes._engine.observing.script import Audience
from hypernodes._engine.observing.watched import Watched
from hypernodes._engine.program import Loop, Program
from hypernodes._engine.segments import Part, Segment, is_async, split
from hypernodes._node import Node

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable, Iterable, Iterator, Mapping, Sequence

    from hypernodes._engine.batches import Batch
    from hypernodes._engine.failure import Given, Outcome
    from hypernodes._engine.observing.follower import Follower
    from hypernodes._engine.observing.witness import Witness
    from hypernodes._engine.plan import Plan, Request, Slot, Step
    from hypernodes.pipeline import Pipeline

    Attempt = Callable[[Mapping[str, Any], Mapping[str, Any], int | None], Outcome]
    Enter = Callable[[int], Witness | None]
    InThread = Callable[..., Awaitable[Any]]

NO_ITEM: Final[dict[str, Any]] = {}


class PipelineExecutionEngine(Watched):
    """Runs what a plan says: the whole of it in one go, or one segment for a scheduler.

    Executors decide where and when; what happens at a node is decided here. Failures come back as
    values; what is no `Exception` is raised as it is.

    Args:
        plan: What to run.

    Attributes:
        looks_up: Whether items are looked up before they run.
    """

    looks_up: bool = False

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._lock = threading.Lock()
        watched = plan.request.ctx.audience
        self.audience: Audience | None = Audience(plan) if watched else None
        self.calls: tuple[Callable[..., Any], ...] = tuple(map(self._step_call, plan.steps))

    def __reduce__(self) -> tuple[Any, ...]:
        return _compiled, (type(self), self.plan.pipeline, self.plan.request)

    def prepared(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the inputs of a run or map with what is known of them, once for all items."""
        return inputs

    def finish(self, inputs: Mapping[str, Any]) -> None:
        """Take note that a run or map, or a piece of it, has ended.

        Args:
            inputs: As `prepared` has returned them.
        """

    def shared_inputs(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return those of `inputs` that the plan needs."""
        return {name: inputs[name] for name in self.plan.shared}

    def strangers(self, inputs: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
        """Return names and hashes of code that matters and is not here what it is in the driver.

        Args:
            inputs: As `shared_inputs` has returned them there.
        """
        del inputs
        return ()

    def doubt(
        self, inputs: Mapping[str, Any], strangers: Sequence[str] = (), *, is_lasting: bool = False
    ) -> tuple[tuple[Any, ...], str] | None:
        """Return why what is made now, in a worker, is not to be kept; what about, and a message.

        Args:
            inputs: As `shared_inputs` has returned them in the driver.
            strangers: The names of such code.
            is_lasting: Whether the worker is not replaced because of it.
        """
        del inputs, strangers, is_lasting
        return None

    def distrust(self, inputs: Mapping[str, Any], doubt: tuple[tuple[Any, ...], str]) -> None:
        """Keep nothing more of a run.

        Args:
            inputs: As `prepared` has returned them.
            doubt: Why.
        """

    def warn(self, inputs: Mapping[str, Any], about: Hashable, message: str) -> None:
        """Repeat a warning about a cache from a worker, unless the run has had its like.

        Args:
            inputs: As `prepared` has returned them.
            about: What it is about.
            message: The warning.
        """

    def look_up(
        self, inputs: Mapping[str, Any], batch: Batch, enter: Enter | None = None
    ) -> tuple[dict[int, Outcome], Batch]:
        """Return the outcomes that need no run, by index, and the items that do.

        Args:
            inputs: The inputs that all items share.
            batch: Items by index.
            enter: Returns who is told of an item; None where nobody observes.
        """
        del inputs, enter
        return {}, batch

    def identity(self, item: Mapping[str, Any]) -> Hashable | None:
        """Return what equal items of a map have in common, or None where that is not known."""
        del item
        return None

    def frame(
        self,
        inputs: Mapping[str, Any],
        item: Mapping[str, Any],
        index: int | None,
        done: Callable[[Outcome], None],
        *,
        witness: Follower | None = None,
    ) -> Frame:
        """Return a run of this plan for a scheduler; see `Frame`."""
        return Frame(self, inputs, item, index, done, witness=witness)

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
        return self.attempter()(inputs, item, index)

    def attempter(self) -> Attempt:
        """Return what runs items as `attempt` does, for many of them in this context."""
        if self.is_observed:
            return self._attempt_present
        program = self.checked_program if is_watched() else self.program
        run: Callable[..., Outcome] = program.run

        def attempt(
            inputs: Mapping[str, Any], item: Mapping[str, Any], index: int | None
        ) -> Outcome:
            try:
                return run(inputs, item)
            except Exception as error:  # noqa: BLE001 - whatever the user's function raised
                failure = self.failure(error, program.step_of(error.__traceback__), index)
            return failure if index is None else failure.at_item(index, item)

        return attempt

    @cached_property
    def loop(self) -> Loop | None:
        """The plan as one function for many items; None where there is more to them than steps."""
        if self.is_observed or not self.plan.mapped:
            return None
        return Loop(self.plan, self.calls)

    def _attempt_present(
        self, inputs: Mapping[str, Any], item: Mapping[str, Any], index: int | None
    ) -> Outcome:
        return self.attempt_told(inputs, item, index, self.present(index))

    def attempt_all(
        self,
        inputs: Mapping[str, Any],
        items: Iterable[Mapping[str, Any]],
        enter: Enter | None = None,
    ) -> Iterator[tuple[int, Outcome]]:
        """Run all steps for each of `items`, as they are asked for; yield indexes and outcomes.

        Args:
            inputs: The inputs that all items share.
            items: The inputs that are each item's own.
            enter: Returns who is told of an item; by default the run in whose scene this is.
        """
        if self.is_observed:
            enter = enter or self.present
            for index, item in enumerate(items):
                yield index, self.attempt_told(inputs, item, index, enter(index))
            return
        program = self.checked_program if is_watched() else self.program
        run = program.run
        for index, item in enumerate(items):
            try:
                outcome: Outcome = run(inputs, item)
            except Exception as error:  # noqa: BLE001 - whatever the user's function raised
                step = program.step_of(error.__traceback__)
                outcome = self.failure(error, step, index).at_item(index, item)
            yield index, outcome

    def attempt_segment(
        self,
        number: int,
        values: dict[Slot, Any],
        index: int | None = None,
        is_wanted: Callable[[], bool] | None = None,
        witness: Witness | None = None,
    ) -> Given:
        """Run the steps of a segment, one after another, in this thread.

        Args:
            number: The segment's index.
            values: What it takes, by slot; used up.
            index: The item's index, in a map.
            is_wanted: Asked before each step; where it says no, the rest is left out.
            witness: Who is told, if somebody observes.

        Returns:
            What it gives, by slot, or the failure.
        """
        return self._attempt_part(self.segments[number].whole, values, index, is_wanted, witness)

    async def await_segment(
        self,
        number: int,
        values: dict[Slot, Any],
        index: int | None,
        is_wanted: Callable[[], bool] | None,
        in_thread: InThread,
        *,
        witness: Witness | None = None,
    ) -> Given:
        """Do as `attempt_segment`, on a loop: its coroutines are awaited here.

        Args:
            number: The segment's index.
            values: What it takes, by slot; used up.
            index: The item's index, in a map.
            is_wanted: Asked before each step; where it says no, the rest is left out.
            in_thread: Calls a function with arguments in a thread, for what is no coroutine.
            witness: Who is told, if somebody observes.
        """
        given: Given = values
        for part in self.parts[number]:
            facts = part, values, index, is_wanted, witness
            if part.waits:
                given = await self._attempt_steps(*facts, calls=self.coroutines)
            else:
                given = await in_thread(self._attempt_part, *facts)
            if isinstance(given, Failure):
                return given
        return given

    async def await_item(
        self,
        inputs: Mapping[str, Any],
        item: Mapping[str, Any],
        index: int,
        in_thread: InThread,
        witness: Witness | None,
    ) -> Outcome:
        """Run a plan of one segment at the most for an item, on a loop; else as `attempt`."""
        self.opened(inputs, item, witness)
        outcome = await self._await_item(inputs, item, index, in_thread, witness)
        self.closed(witness, outcome)
        return outcome

    async def _await_item(
        self,
        inputs: Mapping[str, Any],
        item: Mapping[str, Any],
        index: int,
        in_thread: InThread,
        witness: Witness | None,
    ) -> Outcome:
        values = self.plan.values(inputs, item)
        for segment in self.segments:
            taken = {slot: values[slot] for slot in segment.takes}
            given = await self.await_segment(
                segment.index, taken, index, None, in_thread, witness=witness
            )
            if isinstance(given, Failure):
                return given.at_item(index, item)
            values |= given
        return {name: values[slot] for name, slot in self.plan.results.items()}

    def _attempt_part(
        self,
        part: Part,
        values: dict[Slot, Any],
        index: int | None,
        is_wanted: Callable[[], bool] | None,
        witness: Witness | None,
    ) -> Given:
        facts = part, values, index, is_wanted, witness
        return drive(self._attempt_steps(*facts, calls=self.calls))

    async def _attempt_steps(
        self,
        part: Part,
        values: dict[Slot, Any],
        index: int | None,
        is_wanted: Callable[[], bool] | None,
        witness: Witness | None,
        *,
        calls: Mapping[int, Callable[..., Any]] | Sequence[Callable[..., Any]],
    ) -> Given:
        """Run steps, one after another; suspends only if what they call has to be awaited."""
        waits = part.waits
        for step, spent in zip(part.steps, part.spent, strict=True):
            if is_wanted is not None and not is_wanted():
                break
            if not waits:
                check()
            slots, keywords = self.takes[step.index]
            positional = [values[slot] for slot in slots]
            if step.index in self.observed:
                positional.insert(0, witness)
            named = {keyword: values[slot] for keyword, slot in keywords} if keywords else NO_ITEM
            try:
                result = calls[step.index](*positional, **named)
                if waits:
                    result = await result
            except Exception as error:  # noqa: BLE001 - whatever the user's function raised
                return self.failure(error, step, index)
            if step.unpacks:
                values.update(zip(step.outputs, result, strict=True))
            else:
                values[step.outputs[0]] = result
            del positional, named, result
            for slot in spent:
                del values[slot]
        return values

    @cached_property
    def program(self) -> Program:
        """The plan as one function, compiled when it is first needed."""
        with self._lock:
            program = self.__dict__.get("program")
            return program or Program(self.plan, self.calls, None, self.observed)

    @cached_property
    def checked_program(self) -> Program:
        """The plan as one function that can be told to stop between two steps."""
        return Program(self.plan, self.calls, check, self.observed)

    @cached_property
    def coroutines(self) -> dict[int, Callable[..., Any]]:
        """What is called for asynchronous nodes on a loop, by the step's index."""
        return {
            step.index: self._step_coroutine(step, step.node)
            for step in self.plan.steps
            if isinstance(step.node, Node) and is_async(step)
        }

    @cached_property
    def takes(self) -> list[tuple[list[Slot], list[tuple[str, Slot]]]]:
        """For each step, what it takes by position, and what by keyword."""
        return [
            (
                [argument.slot for argument in step.arguments if argument.keyword is None],
                [(a.keyword, a.slot) for a in step.arguments if a.keyword is not None],
            )
            for step in self.plan.steps
        ]

    @cached_property
    def awaits(self) -> bool:
        """Whether there are coroutines in the plan, or in what it maps, for a loop to await."""
        return bool(self.coroutines) or any(map(_awaits_inside, self.plan.steps))

    @cached_property
    def parts(self) -> tuple[tuple[Part, ...], ...]:
        """The segments by kinds of steps, for a loop."""
        return tuple(segment.parts() for segment in self.segments)

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
        return len(self.segments) > 1 or any(maps_here(step) for step in self.plan.steps)

    @property
    def is_tied(self) -> bool:
        """Whether some of what is looked up is to be had in this process only."""
        return False

    @cached_property
    def leaves(self) -> bool:
        """Whether some steps, here or in what is mapped, run under an executor of their own."""
        return any(map(_leaves_inside, self.plan.steps))

    @cached_property
    def leaves_inside(self) -> bool:
        """Whether that is so in an item that another executor is to do as a whole."""
        inside = self.plan.inside
        return inside is not None and any(map(_leaves_inside, inside.steps))

    def attempt_told(
        self,
        inputs: Mapping[str, Any],
        item: Mapping[str, Any],
        index: int | None,
        witness: Witness | None,
    ) -> Outcome:
        """Do as `attempt`, telling a witness of it if there is one."""
        self.opened(inputs, item, witness)
        program = self.checked_program if is_watched() else self.program
        facts = (inputs, item, witness) if self.observed else (inputs, item)
        try:
            outcome: Outcome = program.run(*facts)
        except Exception as error:  # noqa: BLE001 - whatever the user's function raised
            outcome = self.failure(error, program.step_of(error.__traceback__), index)
            outcome = outcome if index is None else outcome.at_item(index, item)
        self.closed(witness, outcome)
        return outcome

    def _step_call(self, step: Step) -> Callable[..., Any]:
        if step.index in self.observed and self.audience is not None:
            return instrumented(step, self.audience.cues[step.index])
        if step.inner is not None:
            return inner_call(step.inner, step.path)
        assert isinstance(step.node, Node)  # noqa: S101 - what is no function has a plan inside
        return node_call(step.node, step.path, step.config)

    def _step_coroutine(self, step: Step, node: Node) -> Callable[..., Any]:
        if step.index in self.observed and self.audience is not None:
            return instrumented_later(step, self.audience.cues[step.index])
        return node_coroutine(node, step.path, step.config)

    def failure(self, error: Exception, step: Step | None, index: int | None) -> Failure:
        """Return `error`, which came up in `step`, as a failure, with a note that says where."""
        if step is None:  # no step's doing: ours
            raise error
        if isinstance(error, Faulted):
            failure = error.failure
        else:
            failure = Failure(error, index, step.node.name, step.path)
        if failure.path == step.path and self.plan.inside is None:
            less = None if index is None else node_note(step.path, None)
            annotate(failure.error, node_note(step.path, index), instead_of=less)
        elif index is not None:
            note_item(failure, self.plan.request.ctx.path, index)
        return failure


def _compiled(
    kind: type[PipelineExecutionEngine], pipeline: Pipeline, request: Request
) -> PipelineExecutionEngine:
    """Return an engine from its data form; the slots have the same numbers everywhere."""
    return kind(compile_plan(pipeline, request))


def maps_here(step: Step) -> bool:
    """Return whether a step is a map whose items are run here."""
    return step.inner is not None and bool(step.inner.map_over) and not step.inner.elsewhere


def _awaits_inside(step: Step) -> bool:
    inner = step.inner
    return inner is not None and maps_here(step) and inner.item_engine.awaits


def _leaves_inside(step: Step) -> bool:
    inner = step.inner
    if inner is None or inner.elsewhere:
        return inner is not None
    return bool(inner.map_over) and inner.item_engine.leaves
