"""What is asked of a pipeline, checked against what it has."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from hypernodes._engine.mapping import Gathered, Rows
from hypernodes._engine.plan import Request
from hypernodes._node import check_not_stateful
from hypernodes.exceptions import InputError, MissingInputError, UnknownInputError, hint, nearest

if TYPE_CHECKING:
    from collections.abc import Container, Mapping

    from hypernodes._engine.kernel import PipelineExecutionEngine
    from hypernodes._node import BaseNode
    from hypernodes.abc import OutputName, RunContext
    from hypernodes.pipeline import Pipeline


def read_request(
    pipeline: Pipeline,
    inputs: frozenset[str],
    output_name: str | tuple[str, ...] | None,
    ctx: RunContext,
    mapped: tuple[str, ...],
) -> Request:
    """Return the request for a plan.

    Raises:
        UnknownInputError: An input is given that the pipeline does not know.
        InputError: An output is asked for that it does not have.
    """
    given = inputs.union(mapped)
    for name in sorted(given, key=str):
        check_known(pipeline, name)
    outputs = None if output_name is None else _check_outputs(pipeline, output_name)
    return Request(given, frozenset(mapped), outputs, ctx)


def open_items(
    pipeline: Pipeline,
    items: Iterable[Mapping[str, Any]],
    inputs: Iterable[str],
    ctx: RunContext,
    output_name: OutputName = None,
) -> tuple[PipelineExecutionEngine, Iterable[Mapping[str, Any]]] | None:
    """Return what runs the items of a map, and the items; None where there are none.

    Args:
        pipeline: What is mapped.
        items: The inputs that are each item's own, all with the same names.
        inputs: The names of the inputs that all items share.
        ctx: The config in force and where this map stands.
        output_name: The outputs that are asked for.
    """
    if isinstance(items, Gathered):
        items = items.items
    if isinstance(items, Rows):
        if items.is_empty:
            return None
        return pipeline.engine(inputs, ctx, output_name, items.names), items
    items = iter(items)
    first = next(items, None)
    if first is None:
        return None
    return pipeline.engine(inputs, ctx, output_name, tuple(first)), itertools.chain((first,), items)


def check_known(pipeline: Pipeline, name: object) -> None:
    """Raise `UnknownInputError` unless `name` is an input or an output."""
    known = (*pipeline.root_args, *pipeline.output_names)
    if name not in known:
        message = f"{name!r} is no input and no output of {pipeline!r}; {hint(name, known)}"
        raise UnknownInputError(message, name=name, suggestion=nearest(name, known))


def check_mapped(pipeline: Pipeline, names: Iterable[str], given: Container[str]) -> None:
    """Raise `InputError` unless each of `names` is known, given, and no node's stateful value."""
    for name in names:
        check_known(pipeline, name)
        check_not_stateful(pipeline.nodes, name, name)
        if name not in given:
            node = next((n.name for n in pipeline.nodes if name in n.root_args), None)
            message = f"map_over names {name!r}, but no such input is given; give a list of values"
            raise MissingInputError(message, missing=(name,), name=name, node=node)


def read_outputs(asked: object) -> str | tuple[str, ...] | None:
    """Return which outputs are asked for, fit for a key; None stands for all.

    Raises:
        InputError: It is neither a name nor some names.
    """
    if asked is None or isinstance(asked, str):
        return asked
    names = tuple(asked) if isinstance(asked, Iterable) else (asked,)
    if all(isinstance(name, str) for name in names):
        return names
    message = f"output_name={asked!r} has to be a name or a sequence of names"
    raise InputError(message, name="output_name")


def check_input(pipeline: Pipeline, name: str) -> None:
    """Raise `UnknownInputError` unless `name` is an input."""
    if name in pipeline.root_args:
        return
    made = name in pipeline.output_names
    remedy = "a node makes it: give it to run()" if made else hint(name, pipeline.root_args)
    message = f"{name!r} is no input of {pipeline!r}; {remedy}"
    raise UnknownInputError(message, name=name, suggestion=nearest(name, pipeline.root_args))


def find_node(pipeline: Pipeline, name: str) -> BaseNode:
    """Return the node that has `name`, or an output of that name.

    Raises:
        UnknownInputError: There is none.
        InputError: There are several.
    """
    maker = pipeline.graph.producers.get(name)
    found = [node for node in pipeline.nodes if name == node.name]
    if maker is not None and (not found or maker in found):
        return maker  # an output has one maker, so its name will do
    if maker is not None:
        found.append(maker)
    if not found:
        names = [node.name for node in pipeline.nodes]
        known = list(dict.fromkeys((*names, *pipeline.output_names)))
        message = f"there is no node {name!r} in {pipeline!r}; {hint(name, known)}"
        raise UnknownInputError(message, name=name, suggestion=nearest(name, known))
    if len(found) > 1:
        outputs = " or ".join(repr(node.output_names[0]) for node in found)
        message = f"{name!r} may be one of {len(found)} nodes, which make {outputs}; say which"
        raise InputError(message, name=name)
    return found[0]


def _check_outputs(pipeline: Pipeline, asked: str | tuple[str, ...]) -> tuple[str, ...]:
    names = (asked,) if isinstance(asked, str) else tuple(dict.fromkeys(asked))
    for name in names:
        if name not in pipeline.output_names:
            is_input = name in pipeline.root_args
            remedy = "it is an input" if is_input else hint(name, pipeline.output_names)
            raise InputError(f"{name!r} is no output of {pipeline!r}; {remedy}", name=name)
    return names
