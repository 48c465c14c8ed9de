"""The first result: building a graph and running it once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.build import SHAPES, fresh
from benchmarks.measure import Paired
from benchmarks.peers.plain import Plain, walk
from benchmarks.report import Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks import graphs
    from benchmarks.arena import Arena
    from benchmarks.peers import Peer

KEYS = ("hypernodes", "ancestor", "hamilton", "pipefunc")
SIZES = (100, 1_000)


def trial(peer: Peer, shape: str, size: int) -> Paired:
    """Return build and first run on new functions, beside the smallest engine there is."""
    graph, plain = SHAPES[shape](size), Plain()

    def first(functions: Sequence[graphs.Function]) -> object:
        return peer.runner(functions, graph.inputs)()

    def first_plain(functions: Sequence[graphs.Function]) -> object:
        return walk(plain.build(functions), graph.inputs)

    return Paired(fresh(graph, first), fresh(graph, first_plain))


def tables(arena: Arena, *, quick: bool) -> Iterator[Table]:
    """Race over both shapes; the contract sets no limit."""
    table = Table("latency", "build a graph of new functions and run it once", "us a node")
    table.remarks.append("plain Python here: as in `build`, then a loop over the sorted nodes.")
    race = arena.race("latency", like="build")
    for shape in SHAPES:
        for size in SIZES[1:] if quick else SIZES:
            params = {"shape": shape, "size": size}
            results = race.run(KEYS, params, size=size)
            table.add(f"{shape} {size:,}", results, factor=1e6 / size)
    yield table
