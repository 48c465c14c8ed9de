"""A map of a pipeline of three nodes over many items."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks import graphs
from benchmarks.measure import Paired, Steady, check
from benchmarks.peers.plain import Plain
from benchmarks.report import Limit, Table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.arena import Arena
    from benchmarks.peers import Peer

KEYS = (
    "plain",
    "hypernodes-sequential",
    "hypernodes",
    "ancestor",
    "joblib",
    "pipefunc",
    "hamilton",
)
LIMIT = Limit(0.6, of="total")
CHECKED = 1_000


def trial(peer: Peer, items: int) -> Paired:
    """Return a map over `items` numbers beside a loop that builds the same dicts."""
    graph = graphs.chain(3)
    functions = graph.load()
    names = [function.__name__ for function in functions]
    # A map over a few items shows that the results are right, without keeping two of them.
    few = list(range(CHECKED))
    expected = Plain().mapper(functions, "x", few)()
    rows = peer.rows(peer.mapper(functions, "x", few)(), names)
    check(rows == expected, rows[:3])
    values = list(range(items))
    return Paired(
        Steady(peer.mapper(functions, "x", values)),
        Steady(Plain().mapper(functions, "x", values)),
    )


def tables(arena: Arena, *, quick: bool) -> Iterator[Table]:
    """Race over up to a million items; the limit is for the sequential executor."""
    table = Table("maps", "map a pipeline of 3 nodes, one dict an item", "us an item")
    race = arena.race("maps")
    for items in (1_000, 10_000, 100_000, 1_000_000)[: 3 if quick else 4]:
        results = race.run(KEYS, {"items": items}, size=items)
        limit = {"hypernodes-sequential": LIMIT}
        table.add(f"{items:,}", results, factor=1e6 / items, limit=limit)
    yield table
