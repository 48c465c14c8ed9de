"""Coroutines that wait: beside bare `asyncio.gather`."""

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

KEYS = ("plain", "hypernodes-async", "daglite", "hamilton", "ancestor")
SIZES = {"map": (100, 1_000), "dag": (200,)}
LIMITS = {("map", 1_000): Limit(1.5, of="ratio")}
SECONDS = 0.01
CHECKED = 10
CALLS = 5


def trial(peer: Peer, kind: str, size: int) -> Paired:
    """Return a map over `size` items, or a run of `size` nodes."""
    return _map(peer, size) if kind == "map" else _run(peer, size)


def tables(arena: Arena, *, quick: bool) -> Iterator[Table]:
    """Race over maps, and over a DAG of nodes that are independent of one another."""
    del quick
    table = Table("coroutines", f"coroutines that sleep {SECONDS * 1e3:g} ms", "ms in all")
    table.remarks.append("Plain: asyncio.gather in an event loop of its own; one task a node.")
    for kind, sizes in SIZES.items():
        race = arena.race("coroutines", like=f"coroutines {kind}")
        for size in sizes:
            results = race.run(KEYS, {"kind": kind, "size": size}, size=size)
            table.add(f"{kind} {size:,}", results, factor=1e3, limit=LIMITS.get((kind, size)))
    yield table


def sleepers(count: int) -> graphs.Graph:
    """Return coroutine functions that sleep, independent of one another."""
    names = [f"slept_{number}" for number in range(count)]
    body = f"await sleep({SECONDS}); return x"
    nodes = (graphs.NodeSource(name, ("x",), body, keyword="async def") for name in names)
    return graphs.Graph(tuple(nodes), header="from asyncio import sleep")


def _map(peer: Peer, size: int) -> Paired:
    (function,) = sleepers(1).load()
    few = list(range(CHECKED))
    rows = peer.rows(peer.async_mapper(function, few)(), [function.__name__])
    check(rows == [{function.__name__: value} for value in few], rows)
    values = list(range(size))
    return Paired(
        Steady(peer.async_mapper(function, values), CALLS),
        Steady(Plain().async_mapper(function, values), CALLS),
    )


def _run(peer: Peer, size: int) -> Paired:
    graph = sleepers(size)
    functions = graph.load()
    call = peer.async_runner(functions, graph.inputs)
    result = call()
    check({function.__name__: 1 for function in functions}.items() <= result.items(), result)
    plain = Plain().async_runner(functions, graph.inputs)
    return Paired(Steady(call), Steady(plain))
