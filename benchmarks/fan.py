"""One source, many nodes beside one another, one reducer that takes them all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks import graphs
from benchmarks.chains import KEYS, compared
from benchmarks.report import Limit, Table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.arena import Arena
    from benchmarks.measure import Paired
    from benchmarks.peers import Peer

WIDTH = 200


def trial(peer: Peer, width: int) -> Paired:
    """Return a run of a fan of `width` nodes beside straight-line code."""
    return compared(peer, graphs.fan(width))


def tables(arena: Arena, *, quick: bool) -> Iterator[Table]:
    """Race over a fan of 200; the limit is for the sequential executor."""
    del quick
    table = Table("fan", f"1 source, {WIDTH} nodes, 1 reducer of {WIDTH} parameters", "us a node")
    size = WIDTH + 2
    results = arena.race("fan").run(KEYS, {"width": WIDTH}, size=size)
    table.add(str(size), results, factor=1e6 / size, limit={"hypernodes-sequential": Limit(0.15)})
    yield table
