"""What users put into a pipeline, as nodes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from hypernodes._node import BaseNode, Node
from hypernodes.exceptions import PipelineDefinitionError

if TYPE_CHECKING:
    from hypernodes._nested import PipelineNode


@runtime_checkable
class Nestable(Protocol):
    """A pipeline, seen from below."""

    def as_node(self) -> PipelineNode:
        """Return it as a node."""
        ...


def members(nodes: object) -> list[object]:
    """Return what `nodes` holds.

    Raises:
        PipelineDefinitionError: It is no list of nodes.
    """
    if isinstance(nodes, str | Mapping) or not isinstance(nodes, Iterable):
        message = (
            f"a pipeline is made from a list of nodes, not from {nodes!r}; write Pipeline([...])"
        )
        raise PipelineDefinitionError(message)
    return list(nodes)


def check_name(name: object) -> None:
    """Raise `PipelineDefinitionError` unless `name` is None or a name."""
    if name is not None and (not isinstance(name, str) or not name):
        raise PipelineDefinitionError(f"name has to be a string that is not empty, not {name!r}")


def as_node(member: object) -> BaseNode:
    """Return `member`, a node or a pipeline, as a node.

    Raises:
        PipelineDefinitionError: It is neither.
    """
    if isinstance(member, BaseNode):
        return member
    if isinstance(member, Nestable):
        return member.as_node()
    if callable(member):
        name = getattr(member, "__name__", "")
        spelled = name if name.isidentifier() else "..., output_name='...'"
        remedy = f"decorate it with @node, or write node({spelled})"
        raise PipelineDefinitionError(
            f"{member!r} is a plain function, no node; {remedy}", node=name
        )
    raise PipelineDefinitionError(f"{member!r} is neither a node nor a pipeline")


def replacement(old: BaseNode, new: object) -> BaseNode:
    """Return `new` as a node that makes the outputs of `old` and keeps its options.

    Raises:
        PipelineDefinitionError: It cannot, or has another number of outputs.
    """
    if isinstance(new, BaseNode | Nestable):
        found = as_node(new)
    elif callable(new):
        single = not isinstance(old, Node) and len(old.output_names) == 1
        names = old.output_name if isinstance(old, Node) else old.output_names
        found = Node(new, names[0] if single else names)
    else:
        raise PipelineDefinitionError(f"{new!r} is neither a node nor a function", node=old.name)
    if len(found.output_names) != len(old.output_names):
        message = (
            f"{found!r} has {len(found.output_names)} outputs, but takes the place of {old!r} with "
            f"{len(old.output_names)}"
        )
        raise PipelineDefinitionError(message, node=old.name)
    outputs = found.output_names
    renames = (
        {}
        if set(outputs) == set(old.output_names)
        else dict(zip(outputs, old.output_names, strict=True))
    )
    return found.rename(outputs=renames).with_options_of(old)
