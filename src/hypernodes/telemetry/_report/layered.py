"""Layered drawings of acyclic graphs, after Sugiyama, Tagawa and Toda (1981).

Layers by longest path, of limited width; long edges bend at points in the layers between, and those
of one end share them; order within layers by barycentres; places by least squares, in that order.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    Edge = tuple[int, int]

GAP: Final = 22.0
"""Between neighbours in a layer."""
BEND_GAP: Final = 12.0
"""Beside a bend of an edge."""
LAYER_GAP: Final = 46.0
"""Between layers."""
_SWEEPS: Final = 12
_STRENGTHS: Final = (1.0, 0.1, 6.0)
"""How much two vertices, a vertex and a bend, and two bends pull each other."""
_CENTRING: Final = 0.2
"""How much the middle pulls each of them: it keeps the drawing narrow."""


@dataclass(frozen=True, slots=True)
class Drawing:
    """Where everything is.

    Attributes:
        corners: The left upper corner of each vertex.
        edges: For each edge, the points on its way, downwards: where it leaves its source, where it
            enters and leaves each layer between, where it reaches its target.
        width: Of the whole.
        height: Of the whole.
    """

    corners: list[tuple[float, float]]
    edges: list[list[tuple[float, float]]]
    width: float
    height: float


def draw(sizes: Sequence[tuple[float, float]], edges: Sequence[Edge], most: float) -> Drawing:
    """Return a drawing of a graph without cycles.

    Args:
        sizes: The width and height of each vertex.
        edges: Pairs of vertices, by index.
        most: How wide a layer may be, if it has more than one vertex.
    """
    if not sizes:
        return Drawing([], [], 0.0, 0.0)
    layer_of = _layers([width for width, _ in sizes], edges, most)
    graph = _Proper(layer_of, edges)
    widths = [width for width, _ in sizes] + [0.0] * (graph.size - len(sizes))
    orders = _ordered(graph)
    centres = _placed(orders, graph, widths)
    left = min(centres[v] - widths[v] / 2 for v in centres)
    right = max(centres[v] + widths[v] / 2 for v in centres)
    middles = [centres[v] - left for v in range(graph.size)]
    bands = _bands(orders, [height for _, height in sizes])
    corners = [(middles[v] - w / 2, bands[layer_of[v]][0]) for v, (w, _) in enumerate(sizes)]
    lines = [_line(chain, sizes, layer_of, middles, bands) for chain in graph.chains]
    return Drawing(corners, lines, right - left, bands[-1][1])


def _bands(orders: list[list[int]], heights: Sequence[float]) -> list[tuple[float, float]]:
    """Return the top and the bottom of each layer."""
    bands: list[tuple[float, float]] = []
    top = 0.0
    for order in orders:
        bottom = top + max((heights[v] for v in order if v < len(heights)), default=0.0)
        bands.append((top, bottom))
        top = bottom + LAYER_GAP
    return bands


def _line(
    chain: Sequence[int],
    sizes: Sequence[tuple[float, float]],
    layer_of: Sequence[int],
    middles: Sequence[float],
    bands: Sequence[tuple[float, float]],
) -> list[tuple[float, float]]:
    """Return the points of an edge; inside of a layer it goes straight down."""
    source, *bends, target = chain
    x, first = middles[source], layer_of[source]
    top, bottom = bands[first]
    points = [(x, top + sizes[source][1])]
    if sizes[source][1] < bottom - top:
        points.append((x, bottom))
    for bend, (above, below) in zip(bends, bands[first + 1 :], strict=False):
        points += [(middles[bend], above), (middles[bend], below)]
    return [*points, (middles[target], bands[layer_of[target]][0])]


def _layers(widths: Sequence[float], edges: Sequence[Edge], most: float) -> list[int]:
    """Return the layer of each vertex: as high as its sources and the room allow."""
    sources, targets = _adjacent(edges)
    depths = _depths(range(len(widths)), sources, targets)
    room: list[float] = []
    layer_of = [0] * len(widths)
    for vertex in sorted(range(len(widths)), key=lambda v: (depths[v], v)):
        layer = max((layer_of[source] + 1 for source in sources[vertex]), default=0)
        while layer < len(room) and room[layer] and room[layer] + widths[vertex] > most:
            layer += 1
        room += [0.0] * (layer + 1 - len(room))
        room[layer] += widths[vertex] + GAP
        layer_of[vertex] = layer
    return _dense(layer_of)


def _dense(layers: list[int]) -> list[int]:
    """Return layers without empty ones between."""
    names = {layer: number for number, layer in enumerate(sorted(set(layers)))}
    return [names[layer] for layer in layers]


def _adjacent(edges: Iterable[Edge]) -> tuple[Mapping[int, list[int]], Mapping[int, list[int]]]:
    sources: dict[int, list[int]] = defaultdict(list)
    targets: dict[int, list[int]] = defaultdict(list)
    for source, target in edges:
        sources[target].append(source)
        targets[source].append(target)
    return sources, targets


def _depths(
    vertices: Iterable[int], sources: Mapping[int, list[int]], targets: Mapping[int, list[int]]
) -> dict[int, int]:
    """Return how many edges the longest way to each vertex has."""
    missing = {vertex: len(sources[vertex]) for vertex in vertices}
    depths = {vertex: 0 for vertex, count in missing.items() if not count}
    ready = list(depths)
    while ready:
        vertex = ready.pop()
        for target in targets[vertex]:
            depths[target] = max(depths.get(target, 0), depths[vertex] + 1)
            missing[target] -= 1
            if not missing[target]:
                ready.append(target)
    return depths


class _Proper:
    """The graph with a bend in each layer that an edge crosses.

    Args:
        layer_of: The layer of each vertex.
        edges: The edges.

    Attributes:
        size: How many vertices there are, with the bends.
        chains: For each edge, its vertices from the source to the target.
        layers: The vertices of each layer.
        above: By vertex, its neighbours in the layer before.
        below: By vertex, its neighbours in the layer after.
    """

    def __init__(self, layer_of: Sequence[int], edges: Sequence[Edge]) -> None:
        self.size = len(layer_of)
        self.layers: list[list[int]] = [[] for _ in range(max(layer_of) + 1)]
        for vertex, layer in enumerate(layer_of):
            self.layers[layer].append(vertex)
        out, into = Counter(s for s, _ in edges), Counter(t for _, t in edges)
        bends: dict[tuple[bool, int, int], int] = {}
        self.chains: list[list[int]] = []
        for source, target in edges:
            by_source = out[source] >= into[target]
            end = source if by_source else target
            crossed = range(layer_of[source] + 1, layer_of[target])
            inside = [self._bend(bends, (by_source, end, layer)) for layer in crossed]
            self.chains.append([source, *inside, target])
        pairs = sorted({pair for chain in self.chains for pair in pairwise(chain)})
        self.above, self.below = _adjacent(pairs)

    def _bend(self, bends: dict[tuple[bool, int, int], int], key: tuple[bool, int, int]) -> int:
        if key not in bends:
            bends[key] = self.size
            self.layers[key[2]].append(self.size)
            self.size += 1
        return bends[key]


def _ordered(graph: _Proper) -> list[list[int]]:
    """Return the layers in an order with few crossings."""
    orders = [list(layer) for layer in graph.layers]
    best, least = orders, _crossings(orders, graph)
    for sweep in range(_SWEEPS):
        if not least:
            break
        down = sweep % 2 == 0
        orders = _swept(orders, graph.above if down else graph.below, down=down)
        crossings = _crossings(orders, graph)
        if crossings < least:
            best, least = orders, crossings
    return best


def _swept(
    orders: list[list[int]], near: Mapping[int, list[int]], *, down: bool
) -> list[list[int]]:
    """Return the layers, each sorted by the barycentres of its neighbours in the one before."""
    orders = [list(order) for order in orders]
    rank: dict[int, float] = {}
    for order in orders if down else reversed(orders):
        now = {vertex: place for place, vertex in enumerate(order)}
        keys = {v: _mean([rank[u] for u in near[v]], now[v]) for v in order}
        order.sort(key=lambda v: (keys[v], now[v]))
        rank.update((vertex, float(place)) for place, vertex in enumerate(order))
    return orders


def _mean(values: list[float], default: float) -> float:
    return sum(values) / len(values) if values else default


def _crossings(orders: list[list[int]], graph: _Proper) -> int:
    """Return how often edges cross, by counting inversions."""
    count = 0
    for upper, lower in pairwise(orders):
        place = {vertex: n for n, vertex in enumerate(lower)}
        seen: list[int] = []
        for vertex in upper:
            ends = sorted(place[target] for target in graph.below[vertex])
            count += sum(len(seen) - bisect_left(seen, end + 1) for end in ends)
            seen = sorted(seen + ends)
    return count


def _placed(orders: list[list[int]], graph: _Proper, widths: Sequence[float]) -> dict[int, float]:
    """Return the centre of each vertex across its layer: near its neighbours, none too near."""
    centres: dict[int, float] = {}
    for order in orders:
        middle = [(0.0, 1.0)] * len(order)
        centres.update(zip(order, _apart(order, middle, widths), strict=True))
    for sweep in range(_SWEEPS * 4):
        for order in orders if sweep % 2 == 0 else reversed(orders):
            pulls = [_pull(v, graph, centres, widths) for v in order]
            centres.update(zip(order, _apart(order, pulls, widths), strict=True))
    return centres


def _pull(
    vertex: int, graph: _Proper, centres: Mapping[int, float], widths: Sequence[float]
) -> tuple[float, float]:
    """Return where its neighbours and the middle pull a vertex, and how much."""
    pull, weight = 0.0, _CENTRING
    for other in (*graph.above[vertex], *graph.below[vertex]):
        strength = _STRENGTHS[(widths[vertex] == 0) + (widths[other] == 0)]
        pull, weight = pull + strength * centres[other], weight + strength
    return pull / weight, weight


def _apart(
    order: Sequence[int], pulls: Sequence[tuple[float, float]], widths: Sequence[float]
) -> list[float]:
    """Return places as near to where they are pulled as can be, in order and with room between.

    That is isotonic regression, by pooling adjacent violators: with the room taken off, places
    must not decrease, and those that would stand on their common mean.
    """
    offsets = [0.0]
    for one, other in pairwise(order):
        gap = GAP if widths[one] and widths[other] else BEND_GAP
        offsets.append(offsets[-1] + (widths[one] + widths[other]) / 2 + gap)
    pools: list[tuple[float, float, int]] = []
    for (wanted, strength), offset in zip(pulls, offsets, strict=True):
        mean, weight, count = wanted - offset, strength, 1
        while pools and pools[-1][0] > mean:
            before, heavy, size = pools.pop()
            mean = (before * heavy + mean * weight) / (heavy + weight)
            weight, count = weight + heavy, count + size
        pools.append((mean, weight, count))
    flat = [mean for mean, _, count in pools for _ in range(count)]
    return [place + offset for place, offset in zip(flat, offsets, strict=True)]
