"""The nodes of one pipeline as a graph: who makes what, what comes from outside, no cycles."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypernodes.exceptions import CycleError, DuplicateOutputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from hypernodes._node import BaseNode


class Graph:
    """The nodes of a pipeline and how they hang together. Immutable.

    Args:
        nodes: In any order.

    Attributes:
        nodes: The nodes, in the order given.
        producers: The node that makes an output, by the output's name.
        positions: The place of an output among its node's, by the output's name.
        root_args: The inputs that no node makes, in order of first use.
        output_names: All outputs, in the order of the nodes.

    Raises:
        DuplicateOutputError: Two nodes make one output.
        CycleError: Nodes need one another.
    """

    __slots__ = ("nodes", "output_names", "positions", "producers", "root_args")

    nodes: tuple[BaseNode, ...]
    output_names: tuple[str, ...]
    root_args: tuple[str, ...]

    def __init__(self, nodes: Sequence[BaseNode]) -> None:
        self.nodes = tuple(nodes)
        self.producers: dict[str, BaseNode] = {}
        self.positions: dict[str, int] = {}
        for node in self.nodes:
            self._add(node)
        self.output_names = tuple(self.producers)
        producers = self.producers
        self.root_args = tuple(
            dict.fromkeys(
                [name for node in self.nodes for name in node.root_args if name not in producers]
            )
        )
        if not self._is_ordered():
            _refuse_cycle(self.nodes, self.producers)

    def _add(self, node: BaseNode) -> None:
        for position, name in enumerate(node.output_names):
            other = self.producers.setdefault(name, node)
            if other is not node or name in self.positions:
                message = (
                    f"output {name!r} is made by two nodes, {other.name!r} and {node.name!r}; "
                    f"rename one: node.rename(outputs={{{name!r}: ...}}), or output_mapping for a "
                    f"pipeline"
                )
                raise DuplicateOutputError(message, outputs=(name,), nodes=(other.name, node.name))
            self.positions[name] = position

    def _is_ordered(self) -> bool:
        """Tell whether each node comes after those that it needs, as users mostly write them."""
        made: set[str] = set()
        producers = self.producers
        for node in self.nodes:
            for name in node.root_args:
                if name not in made and name in producers:
                    return False
            made.update(node.output_names)
        return True


def _refuse_cycle(nodes: Iterable[BaseNode], producers: Mapping[str, BaseNode]) -> None:
    """Raise `CycleError` if some nodes need one another (depth first, without recursion)."""
    finished: set[BaseNode] = set()
    for start in nodes:
        if start in finished:
            continue
        trail: dict[BaseNode, None] = {start: None}
        pending = [iter(_needed(start, producers))]
        while pending:
            needed = next(pending[-1], None)
            if needed is None:
                pending.pop()
                finished.add(trail.popitem()[0])
            elif needed in trail:
                raise _cycle_error([*trail], needed)
            elif needed not in finished:
                trail[needed] = None
                pending.append(iter(_needed(needed, producers)))


def _needed(node: BaseNode, producers: Mapping[str, BaseNode]) -> list[BaseNode]:
    return [producers[name] for name in node.root_args if name in producers]


def _cycle_error(trail: list[BaseNode], again: BaseNode) -> CycleError:
    """Return the error for a `trail` (each node needs the next) that came back to `again`."""
    members = trail[trail.index(again) :]
    names = [node.name for node in reversed(members)]
    cycle = (*names, names[0])
    if len(members) == 1:
        taken = ", ".join(name for name in again.root_args if name in again.output_names)
        message = (
            f"node {again.name!r} takes and makes {taken!r} ({' -> '.join(cycle)}): rename its "
            f"output, or its input"
        )
        return CycleError(message, cycle=cycle)
    message = (
        f"the nodes need one another in a circle: {' -> '.join(cycle)}; rename an input or an "
        f"output so that one of them starts"
    )
    return CycleError(message, cycle=cycle)
