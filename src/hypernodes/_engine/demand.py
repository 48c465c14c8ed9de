"""Which outputs a run gives when none is asked for by name, but some are given."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypernodes._nested import PipelineNode

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Set as AbstractSet

    from hypernodes._engine.graph import Graph


def default_outputs(graph: Graph, given: AbstractSet[str]) -> tuple[str, ...]:
    """Return the outputs that are given, and those that are computed all the same.

    What only a given output needed is left out, also inside nested pipelines.

    Args:
        graph: The nodes of the pipeline.
        given: The names of all inputs.
    """
    if not given & graph.producers.keys():
        return graph.output_names
    consumed = _consumed(graph, graph.producers.keys())
    ends = [name for name in graph.output_names if name not in consumed]
    needed = _needed(graph, ends, given)
    return tuple(name for name in graph.output_names if name in needed or name in given)


def _consumed(graph: Graph, live: AbstractSet[str]) -> set[str]:
    """Return the outputs that nodes take, here or inside the pipelines that make them.

    Args:
        graph: The nodes.
        live: The outputs that count; nodes that make none of them take nothing.
    """
    nodes = [node for node in graph.nodes if not live.isdisjoint(node.output_names)]
    taken = {name for node in nodes for name in node.root_args}
    for node in nodes:
        if isinstance(node, PipelineNode):
            taken.update(_consumed_inside(node, live))
    return taken


def _consumed_inside(node: PipelineNode, live: AbstractSet[str]) -> list[str]:
    pairs = list(zip(node.inner_outputs, node.output_names, strict=True))
    inner = node.pipeline.graph
    alive = _needed(inner, [inside for inside, outside in pairs if outside in live], frozenset())
    taken = _consumed(inner, alive)
    return [outside for inside, outside in pairs if inside in taken]


def _needed(graph: Graph, wanted: Iterable[str], given: AbstractSet[str]) -> set[str]:
    """Return the inputs and outputs that are there when `wanted` has been computed."""
    needed: set[str] = set()
    pending = [name for name in wanted if name not in given]
    while pending:
        name = pending.pop()
        if name in needed or name in given:
            continue
        needed.add(name)
        node = graph.producers.get(name)
        if isinstance(node, PipelineNode):
            pending += _needed_around(node, needed, given)
        elif node is not None:
            pending += (*node.output_names, *node.root_args)
    return needed


def _needed_around(node: PipelineNode, needed: set[str], given: AbstractSet[str]) -> list[str]:
    """Return what a nested pipeline takes and makes besides, by the outer names."""
    outputs = dict(zip(node.inner_outputs, node.output_names, strict=True))
    arguments = dict(zip(node.inner_args, node.root_args, strict=True))
    wanted = [inner for inner, outer in outputs.items() if outer in needed]
    known = {inner for inner, outer in outputs.items() if outer in given}
    inside = _needed(node.pipeline.graph, wanted, known)
    around = [outer for inner, outer in (outputs | arguments).items() if inner in inside]
    return [*around, *node.map_over]
