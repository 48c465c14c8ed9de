"""What is told of the pipelines inside steps: maps, and what other executors run."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from hypernodes._engine.failure import error_of
from hypernodes._engine.inner import gather, inner_call, inputs_of, items_of, outcomes, whole_item
from hypernodes._engine.observing.follower import Follower
from hypernodes._engine.observing.runs import SCENE
from hypernodes._engine.observing.tally import Tally, counted
from hypernodes._engine.observing.witness import Witness, clock
from hypernodes._node import Node

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hypernodes._engine.mapping import Items
    from hypernodes._engine.plan import Inner, Step

    Call = Callable[..., Any]


def called_inside(step: Step, inner: Inner) -> Call:
    """Return what a step calls that has a pipeline inside, given a witness and its arguments."""
    if inner.ctx.nodes_on is not None:
        call = inner_call(inner, step.path)
        return lambda witness, *values: item_elsewhere(witness, partial(call, *values))
    if not inner.elsewhere:
        return partial(_map_here, step, inner)
    if isinstance(step.node, Node):
        return partial(_node_elsewhere, step, inner)
    return partial(_pipeline_elsewhere, step, inner)


def _map_here(step: Step, inner: Inner, witness: Witness | None, *values: Any) -> Any:
    return map_told(step, inner, witness, values, items_of(inner, values))


def map_told(
    step: Step, inner: Inner, witness: Witness | None, values: Sequence[Any], items: Items
) -> Any:
    """Return what the map inside a step gives, telling a witness of it if there is one.

    Args:
        step: The step.
        inner: The pipeline inside.
        witness: Who is told.
        values: The step's arguments.
        items: The items.
    """
    if inner.elsewhere:
        return _elsewhere_told(step, inner, witness, values, items)
    engine = inner.engine(items.shared)
    enter = tell_inner_started(witness, step, items.count, values)
    entries = engine.attempt_all(items.shared, items.items, enter)
    tally = witness.tally(step.index) if isinstance(witness, Follower) else Tally()
    try:
        lists = gather(inner, counted(entries, tally))
    except Exception as error:
        _tell_tally(witness, step, tally)
        tell_inner_failed(witness, step, error_of(error))
        raise
    _tell_tally(witness, step, tally)
    tell_inner_ended(witness, step, lists)
    return lists


def _tell_tally(witness: Witness | None, step: Step, tally: Tally) -> None:
    """Tell a witness who is elsewhere how many items there were."""
    if witness is not None and not isinstance(witness, Follower):
        witness.inner_went(step.index, tally.ended, tally.failed)


def tell_inner_started(
    witness: Witness | None, step: Step, count: int | None, values: Any
) -> Callable[[int], Witness] | None:
    """Tell of the start of the map inside a step; return who is told of its items, if anybody is.

    Args:
        witness: Who is told, if somebody observes.
        step: The step.
        count: How many items there are, if that is known.
        values: The step's arguments; None where they are not there.
    """
    if witness is None or step.inner is None:
        return None
    witness.inner_started(step.index, clock(), count, inner_inputs(step.inner, values))
    return partial(witness.item, step.index) if step.inner.item_engine.is_observed else None


def tell_inner_ended(witness: Witness | None, step: Step, lists: Any) -> None:
    """Tell of the end of the map inside a step, which has made `lists`."""
    if witness is not None and step.inner is not None:
        witness.inner_ended(step.index, clock(), inner_outputs(step.inner, lists))


def tell_inner_failed(witness: Witness | None, step: Step, error: BaseException) -> None:
    """Tell that the map inside a step has failed."""
    if witness is not None:
        witness.inner_failed(step.index, clock(), error)


def inner_inputs(inner: Inner, values: Any) -> dict[str, Any] | None:
    """Return the inputs of the pipeline inside a step by name, if somebody reads them."""
    needs = inner.ctx.config.needs
    events = "on_pipeline_start", "on_pipeline_end", "on_pipeline_error", "on_map_start"
    if needs is None or not needs.reads("inputs", *events, "on_map_end"):
        return None
    return {} if values is None else dict(zip(inner.inputs, values, strict=True))


def inner_outputs(inner: Inner, values: Any) -> dict[str, Any] | None:
    """Return the outputs of the pipeline inside a step by name, if somebody reads them."""
    needs = inner.ctx.config.needs
    if needs is None or not needs.reads("outputs", "on_pipeline_end"):
        return None
    return dict(zip(inner.outputs, values, strict=True))


def _run_elsewhere(step: Step, inner: Inner, values: Any) -> Any:
    return whole_item(inner, step.path)(inputs_of(inner, values))


def item_elsewhere(witness: Witness | None, call: Callable[[], Any]) -> Any:
    """Have all of an item run by another executor, inside the item that it is.

    Args:
        witness: Who is told of the item, if somebody observes.
        call: Runs it.
    """
    if not isinstance(witness, Follower):
        return call()
    token = SCENE.set(witness.within())
    try:
        return call()
    finally:
        SCENE.reset(token)


def _node_elsewhere(step: Step, inner: Inner, witness: Witness | None, *values: Any) -> Any:
    """Have a node run under its own config, inside the run that it belongs to."""
    if not isinstance(witness, Follower):
        return _run_elsewhere(step, inner, values)
    token = SCENE.set(witness.touch(step.index, clock()))
    try:
        outputs = _run_elsewhere(step, inner, values)
    finally:
        SCENE.reset(token)
    witness.release(step.index, clock(), outputs)
    return outputs


def _pipeline_elsewhere(step: Step, inner: Inner, witness: Witness | None, *values: Any) -> Any:
    """Have a pipeline run, or be mapped, under its own config: a run of its own."""
    items = items_of(inner, values) if inner.map_over else None
    return _elsewhere_told(step, inner, witness, values, items)


def _elsewhere_told(
    step: Step, inner: Inner, witness: Witness | None, values: Sequence[Any], items: Items | None
) -> Any:
    if not isinstance(witness, Follower):
        return _elsewhere(step, inner, values, items, Tally())
    inputs = inner_inputs(inner, values)
    if items is None:
        witness.inner_run_started(step.index, clock(), inputs)
    else:
        witness.inner_started(step.index, clock(), items.count, inputs)
    token = SCENE.set(witness.inside(step.index))
    try:
        lists = _elsewhere(step, inner, values, items, witness.tally(step.index))
    except Exception as error:
        witness.inner_failed(step.index, clock(), error_of(error))
        raise
    finally:
        SCENE.reset(token)
    witness.inner_ended(step.index, clock(), inner_outputs(inner, lists))
    return lists


def _elsewhere(
    step: Step, inner: Inner, values: Sequence[Any], items: Items | None, tally: Tally
) -> Any:
    if items is None:
        return _run_elsewhere(step, inner, values)
    return gather(inner, counted(outcomes(inner, items), tally))
