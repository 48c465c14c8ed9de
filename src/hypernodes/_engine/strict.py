"""Whether the annotations along the edges of a graph can agree."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, get_origin

from hypernodes._annotations import describe, parameter_types, return_type
from hypernodes._nested import PipelineNode
from hypernodes._node import BaseNode, Node
from hypernodes._typing import accepts, split
from hypernodes.exceptions import TypeConflictError

if TYPE_CHECKING:
    from hypernodes._engine.graph import Graph


def check_types(graph: Graph) -> None:
    """Raise `TypeConflictError` for the first consumer that refuses what its producer makes."""
    for consumer in graph.nodes:
        for name in consumer.root_args:
            producer = graph.producers.get(name)
            if producer is not None:
                _check_edge(name, producer, consumer)


def _check_edge(name: str, producer: BaseNode, consumer: BaseNode) -> None:
    made = _made_type(producer, name)
    for taken in _taken_types(consumer, name):
        if accepts(taken, made) and not _is_one_value(made, consumer, name):
            continue
        message = (
            f"node {consumer.name!r} takes {name!r} as {describe(taken)}, but node "
            f"{producer.name!r} makes it as {describe(made)}; change one of the annotations"
        )
        raise TypeConflictError(
            message, output=name, producer=producer.name, consumer=consumer.name, node=consumer.name
        )


def _made_type(producer: BaseNode, name: str) -> Any:
    position = producer.output_names.index(name)
    if isinstance(producer, PipelineNode):
        inner = producer.inner_outputs[position]
        made = _made_type(producer.pipeline.graph.producers[inner], inner)
        return list[made] if producer.map_over else made  # type: ignore[valid-type]
    if not isinstance(producer, Node):
        return Any
    returned = return_type(producer.func)
    if isinstance(producer.output_name, str):
        return returned
    return split(returned, len(producer.output_names))[position]


def _taken_types(consumer: BaseNode, name: str) -> Iterator[Any]:
    position = consumer.root_args.index(name)
    if isinstance(consumer, PipelineNode):
        inner = consumer.inner_args[position]
        for node in consumer.pipeline.nodes:
            if inner in node.root_args:
                for taken in _taken_types(node, inner):
                    yield Iterable[taken] if name in consumer.map_over else taken  # type: ignore[valid-type]
    elif isinstance(consumer, Node):
        parameter = consumer.parameters[position].name
        yield parameter_types(consumer.func).get(parameter, Any)


def _is_one_value(made: Any, consumer: BaseNode, name: str) -> bool:
    """Tell whether a map refuses to go through `made`, although it could be gone through."""
    if not isinstance(consumer, PipelineNode) or name not in consumer.map_over:
        return False
    kind = get_origin(made) or made
    return isinstance(kind, type) and issubclass(kind, str | bytes | bytearray | Mapping)
