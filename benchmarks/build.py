"""Building a graph from functions: wrapping them as nodes and connecting these."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks import graphs
from benchmarks.measure import Call, Fresh, Paired
from benchmarks.peers import OURS, Peer
from benchmarks.peers.plain import Plain
from benchmarks.report import Limit, Row, Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from benchmarks.arena import Arena, Result

KEYS = ("plain", "hypernodes", "ancestor", "hamilton", "pipefunc")
SIZES = (100, 1_000, 10_000)
SHAPES: dict[str, Callable[[int], graphs.Graph]] = {
    "chain": graphs.chain,
    "random": graphs.random_dag,
}
# Ten times the nodes may take at most so many times as long for each: caches, and the collector.
LINEAR = 1.5


def trial(peer: Peer, shape: str, size: int) -> Paired:
    """Return the building of a graph from new functions, beside signatures and `graphlib`."""
    graph = SHAPES[shape](size)
    return Paired(fresh(graph, peer.build), fresh(graph, Plain().build))


def fresh(graph: graphs.Graph, action: Callable[[Sequence[graphs.Function]], object]) -> Fresh:
    """Time `action` on functions of `graph` that nobody has seen before."""

    def make() -> tuple[Call, Call]:
        functions = graph.load()
        return (lambda: action(functions)), (lambda: graphs.unload(functions))

    return Fresh(make)


def tables(arena: Arena, *, quick: bool) -> Iterator[Table]:
    """Race over both shapes, and compare the sizes of each with one another."""
    table = Table("build", "wrap functions as nodes and build the graph", "us a node")
    table.remarks.append("plain Python here: inspect.signature and graphlib.TopologicalSorter.")
    race, sizes = arena.race("build"), SIZES[: 2 if quick else 3]
    for shape in SHAPES:
        ours: list[Result] = []
        for size in sizes:
            params = {"shape": shape, "size": size}
            results = race.run(KEYS, params, size=size)
            limit = Limit(15, of="total")
            table.add(f"{shape} {size:,}", results, factor=1e6 / size, limit=limit)
            ours += [result for result in results if result.key in OURS and result.samples]
        table.rows += growth(shape, sizes, ours)
    yield table


def growth(shape: str, sizes: Sequence[int], results: Sequence[Result]) -> list[Row]:
    """Return a row that says how the time per node grew over the last step."""
    if len(results) < len(sizes):
        return []
    step = sizes[-1] / sizes[-2]
    ratio = results[-1].least() / results[-2].least() / step
    plain = results[-1].least("plain") / results[-2].least("plain") / step
    row = Row(f"{shape} linear", results[-1].title, ratio=ratio, limit=f"{LINEAR:g} ratio")
    row.verdict = "pass" if ratio <= LINEAR else "over"
    row.note = f"(a node at {sizes[-1]:,} over one at {sizes[-2]:,}; plain beside it: {plain:.2f})"
    return [row]
