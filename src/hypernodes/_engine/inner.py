"""A pipeline inside a step: run once elsewhere, or mapped over items here or elsewhere."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from hypernodes._engine.failure import Failure, Faulted, Outcome, recall
from hypernodes._engine.mapping import Items, add_columns, split_items

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from hypernodes._engine.plan import Inner
    from hypernodes.abc import RunContext


def inner_call(inner: Inner, path: tuple[str, ...]) -> Callable[..., tuple[Any, ...]]:
    """Return what a step calls for `inner`: takes its inputs in order, returns its outputs.

    Args:
        inner: The pipeline inside.
        path: Where the step stands.
    """
    if inner.map_over:
        return lambda *values: map_here(inner, values)
    run = whole_item(inner, path)
    return lambda *values: run(inputs_of(inner, values))


def inputs_of(inner: Inner, values: Iterable[Any]) -> dict[str, Any]:
    """Return the inner inputs of a step from its arguments."""
    return dict(zip(inner.inputs, values, strict=True))


def whole_item(
    inner: Inner, path: tuple[str, ...]
) -> Callable[[Mapping[str, Any]], tuple[Any, ...]]:
    """Return what runs a pipeline once, elsewhere: takes its inputs, returns its outputs in order.

    Args:
        inner: The pipeline inside.
        path: Where the step stands.
    """
    executor = inner.ctx.nodes_on
    if executor is None:
        return partial(_run, inner.ctx.config.backend.run, inner, inner.ctx, path)
    return partial(_run, executor.run_pipeline, inner, replace(inner.ctx, nodes_on=None), path)


def _run(
    run: Callable[..., dict[str, Any]],
    inner: Inner,
    ctx: RunContext,
    path: tuple[str, ...],
    inputs: Mapping[str, Any],
) -> tuple[Any, ...]:
    """Have the pipeline run by `run`, under its own config or on an executor of its own."""
    try:
        outputs = run(inner.pipeline, inputs, ctx, inner.outputs)
    except Exception as error:
        failure = recall(error, path)
        if failure is None:
            raise
        raise Faulted(failure) from None
    return tuple([outputs[name] for name in inner.outputs])


def map_here(inner: Inner, values: Iterable[Any]) -> tuple[list[Any], ...]:
    """Map the pipeline, one item after another unless its own executor runs it."""
    items = items_of(inner, values)
    return gather(inner, outcomes(inner, items))


def items_of(inner: Inner, values: Iterable[Any]) -> Items:
    """Return the items of a mapped step from its arguments."""
    bound = {
        name: inner.pipeline.bound[name] for name in inner.map_over if name not in inner.inputs
    }
    inputs = bound | dict(zip(inner.inputs, values, strict=True))
    given = {name: inputs.pop(name) for name in inner.given}
    items = split_items(inputs, inner.map_over, inner.map_mode, inner.labels)
    return add_columns(items, given, inner.labels) if given else items


def outcomes(inner: Inner, items: Items) -> Iterator[tuple[int, Outcome]]:
    """Run the items; yield indexes and outcomes."""
    if inner.elsewhere:
        place = inner.ctx.maps_on or inner.ctx.config.backend
        return place.map_unordered(
            inner.pipeline, items.items, items.shared, inner.ctx, inner.outputs
        )
    return inner.engine(items.shared).attempt_all(items.shared, items.items)


def gather(inner: Inner, results: Iterable[tuple[int, Outcome]]) -> tuple[list[Any], ...]:
    """Return a list for each output, in the order of the items.

    Raises:
        Faulted: By the first item that failed.
    """
    rows: dict[int, Mapping[str, Any]] = {}
    for index, outcome in results:
        if isinstance(outcome, Failure):
            raise Faulted(outcome)
        rows[index] = outcome
    return tuple([rows[index][name] for index in range(len(rows))] for name in inner.outputs)
