"""Pipelines with a cache on disk: what a hit costs, and what storing adds, signatures included."""

from __future__ import annotations

import itertools
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks import graphs
from benchmarks.measure import Paired, Steady, check
from benchmarks.peers.plain import Plain, PlainDict
from benchmarks.report import Limit, Table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.arena import Arena
    from benchmarks.peers import Peer

KEYS = (
    "hypernodes-sequential",
    "ancestor",
    "pipefunc",
    "hamilton",
    "joblib",
    "diskcache",
)
NODES = 100
ITEMS = 1_000
HIT = Limit(8, of="total")
STORED = Limit(70, of="total")
REMEMBERED = Limit(3, of="total")
ITEM_HIT = Limit(10, of="total")
ITEM_STORED = Limit(150, of="total")


@dataclass
class Cached:
    """A trial, and the directory that goes with it."""

    paired: Paired
    directory: tempfile.TemporaryDirectory[str]

    def sample(self) -> dict[str, float]:
        """Return the seconds per call of both."""
        return self.paired.sample()


def trial(peer: Peer, what: str, *, found: bool) -> Cached:
    """Return runs, or maps, that find everything or nothing, beside the plain calls.

    Args:
        peer: The contender.
        what: "run" for a chain with all outputs, "memory" for one with a cache in memory, "map"
            for items with one output.
        found: Whether all is in the cache.
    """
    directory = tempfile.TemporaryDirectory(prefix="caching-")
    if what == "map":
        return Cached(map_of(peer, directory.name, found=found), directory)
    on_disk = directory.name if what == "run" else None
    return Cached(run_of(peer, on_disk, found=found), directory)


def run_of(peer: Peer, directory: str | None, *, found: bool) -> Paired:
    """Return runs of a chain; each has an input of its own, made anew, or all the same."""
    graph = graphs.chain(NODES)
    functions = graph.load()
    if directory is None:
        run = peer.remembering_runner(functions)
    else:
        run = peer.cached_runner(functions, directory)
    result = run({"x": 1})
    expected = PlainDict().runner(functions, {"x": 1})()
    if isinstance(result, dict):
        check(expected.items() <= result.items(), result)
    else:
        check(result in expected.values(), result)
    numbers = itertools.repeat(1) if found else itertools.count(10)

    def call() -> Any:
        return run({"x": next(numbers)})

    return Paired(Steady(call), Steady(Plain().runner(functions, graph.inputs)))


def map_of(peer: Peer, directory: str, *, found: bool) -> Paired:
    """Return maps of three nodes of which the last one's output is asked for."""
    functions = graphs.chain(3).load()
    mapped = peer.cached_mapper(functions, "x", directory)
    last = functions[-1].__name__
    values = list(range(ITEMS))
    rows = mapped(values)[:2]
    check(rows == [{last: 3}, {last: 4}], rows)
    starts = itertools.repeat(0) if found else itertools.count(ITEMS, ITEMS)

    def call() -> Any:
        return mapped(list(range(start := next(starts), start + ITEMS)))

    return Paired(Steady(call), Steady(Plain().mapper(functions, "x", values)))


def tables(arena: Arena, *, quick: bool) -> Iterator[Table]:
    """Race with a chain and with a map, with all found and with all stored."""
    del quick
    run = Table("caching", f"a chain of {NODES}, all outputs", "us a node")
    for case, found, limit in (("found", True, HIT), ("stored", False, STORED)):
        results = raced(arena, "run", found=found)
        run.add(case, results, factor=1e6 / NODES, limit={"hypernodes-sequential": limit})
    run.remarks.append("joblib and diskcache: one entry a node, looked up in turn.")
    results = raced(arena, "memory", found=True)
    run.add(
        "found, memory", results, factor=1e6 / NODES, limit={"hypernodes-sequential": REMEMBERED}
    )
    yield run
    mapped = Table("caching, map", f"{ITEMS:,} items of 3 nodes, one output", "us an item")
    for case, found, limit in (("found", True, ITEM_HIT), ("stored", False, ITEM_STORED)):
        results = raced(arena, "map", found=found)
        mapped.add(case, results, factor=1e6 / ITEMS, limit={"hypernodes-sequential": limit})
    yield mapped


def raced(arena: Arena, what: str, **params: Any) -> Any:
    """Run one race."""
    race = arena.race("caching", like=what)
    return race.run(KEYS, {"what": what, **params}, size=1)
