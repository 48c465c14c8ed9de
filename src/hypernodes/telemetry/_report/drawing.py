"""The graph of a pipeline as boxes and lines; pipelines inside are frames around graphs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from hypernodes._nested import PipelineNode
from hypernodes.telemetry._report.layered import draw

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hypernodes._node import BaseNode
    from hypernodes.pipeline import Pipeline
    from hypernodes.telemetry._report.record import Key, Path

BOX: Final = (188.0, 54.0)
FRAME_PADDING: Final = 18.0
FRAME_TITLE: Final = 50.0
FRAME_WIDTH: Final = 300.0
MOST_BOXES: Final = 250
MOST_WIDTH: Final = 870.0


@dataclass(frozen=True, slots=True)
class Box:
    """A node, or a pipeline inside, with its place in the whole drawing.

    Attributes:
        key: What tells it from others.
        name: What it is called.
        node: What it is.
        x: Its left.
        y: Its top.
        width: Its width.
        height: Its height.
        is_frame: Whether it holds a drawing of what is inside.
    """

    key: Key
    name: str
    node: BaseNode
    x: float
    y: float
    width: float
    height: float
    is_frame: bool

    def moved(self, x: float, y: float) -> Box:
        """Return the box, moved."""
        return replace(self, x=self.x + x, y=self.y + y)


@dataclass(frozen=True, slots=True)
class Line:
    """What one node gives to another.

    Attributes:
        source: The node that gives.
        target: The node that takes.
        points: The way, downwards.
    """

    source: Key
    target: Key
    points: tuple[tuple[float, float], ...]

    def moved(self, x: float, y: float) -> Line:
        """Return the line, moved."""
        points = ((px + x, py + y) for px, py in self.points)
        return Line(self.source, self.target, tuple(points))

    @property
    def path(self) -> str:
        """The way in terms of SVG: straight inside of layers, curved between."""
        (x, y), *others = self.points
        way = [f"M{x:.1f} {y:.1f}"]
        for to_x, to_y in others:
            if abs(to_x - x) < 1:
                way.append(f"L{to_x:.1f} {to_y:.1f}")
            else:
                middle = (y + to_y) / 2
                way.append(f"C{x:.1f} {middle:.1f} {to_x:.1f} {middle:.1f} {to_x:.1f} {to_y:.1f}")
            x, y = to_x, to_y
        return " ".join(way)


@dataclass(frozen=True, slots=True)
class Picture:
    """A drawing.

    Attributes:
        boxes: Frames before what is in them.
        lines: The lines.
        width: Of the whole.
        height: Of the whole.
        closed: How many pipelines inside are not opened, for there would be too many boxes.
    """

    boxes: list[Box]
    lines: list[Line]
    width: float
    height: float
    closed: int = 0

    @property
    def leaves(self) -> list[Key]:
        """The nodes that are functions."""
        return [box.key for box in self.boxes if not isinstance(box.node, PipelineNode)]


def picture_of(pipeline: Pipeline, path: Path) -> Picture | None:
    """Return a drawing of a pipeline, as deep as there is room for; None if there is not.

    Args:
        pipeline: The pipeline.
        path: The names that lead to it.
    """
    deepest = _depth(pipeline)
    for depth in range(deepest, -1, -1):
        if _count(pipeline, depth) <= MOST_BOXES:
            return _picture(pipeline, path, depth)
    return None


def _inner(pipeline: Pipeline) -> list[Pipeline]:
    return [node.pipeline for node in pipeline.nodes if isinstance(node, PipelineNode)]


def _depth(pipeline: Pipeline) -> int:
    return max((1 + _depth(inner) for inner in _inner(pipeline)), default=0)


def _count(pipeline: Pipeline, depth: int) -> int:
    inside = sum(_count(inner, depth - 1) for inner in _inner(pipeline)) if depth else 0
    return len(pipeline.nodes) + inside


def _picture(pipeline: Pipeline, path: Path, depth: int) -> Picture:
    nodes = pipeline.nodes
    keys = [((*path, node.name), node.output_names) for node in nodes]
    insides = [_inside(node, key, depth) for node, key in zip(nodes, keys, strict=True)]
    sizes = [BOX if inside is None else _framed(inside) for inside in insides]
    edges = _edges(nodes)
    drawn = draw(sizes, edges, MOST_WIDTH)
    boxes: list[Box] = []
    lines = [
        Line(keys[source], keys[target], tuple(points))
        for (source, target), points in zip(edges, drawn.edges, strict=True)
    ]
    facts = zip(keys, nodes, drawn.corners, sizes, insides, strict=True)
    for key, node, (x, y), (width, height), inside in facts:
        boxes.append(Box(key, node.name, node, x, y, width, height, inside is not None))
        if inside is not None:
            left, top = x + (width - inside.width) / 2, y + FRAME_TITLE
            boxes += [box.moved(left, top) for box in inside.boxes]
            lines += [line.moved(left, top) for line in inside.lines]
    closed = sum(isinstance(n, PipelineNode) for n in nodes) if not depth else 0
    closed += sum(inside.closed for inside in insides if inside is not None)
    return Picture(boxes, lines, drawn.width, drawn.height, closed)


def _inside(node: BaseNode, key: Key, depth: int) -> Picture | None:
    if isinstance(node, PipelineNode) and depth:
        return _picture(node.pipeline, key[0], depth - 1)
    return None


def _framed(inside: Picture) -> tuple[float, float]:
    width = max(inside.width + 2 * FRAME_PADDING, FRAME_WIDTH)
    return width, inside.height + FRAME_TITLE + FRAME_PADDING


def _edges(nodes: Sequence[BaseNode]) -> list[tuple[int, int]]:
    makers = {name: index for index, node in enumerate(nodes) for name in node.output_names}
    found = (
        (makers[name], index)
        for index, node in enumerate(nodes)
        for name in node.root_args
        if name in makers
    )
    return list(dict.fromkeys(found))
