"""Work that waits, in threads: beside bare `concurrent.futures` and a scheduler by hand."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from benchmarks import graphs
from benchmarks.measure import Paired, Steady, check
from benchmarks.peers.plain import Plain, PlainDict
from benchmarks.report import Limit, Table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.arena import Arena
    from benchmarks.peers import Peer

KEYS = {
    "map": ("plain", "hypernodes-threads", "joblib", "pipefunc"),
    "dag": ("plain", "hypernodes-threads", "hamilton", "pipefunc"),
}
ITEMS, QUICK_ITEMS, ITEM_SECONDS, MAP_WORKERS = 1_000, 320, 0.01, 32
NODES, NODE_SECONDS, RUN_WORKERS = 300, 0.002, 4
LIMITS = {"map": Limit(1.03, of="ratio")}
HEADER = "from time import sleep"


def trial(peer: Peer, kind: str, items: int) -> Paired:
    """Return a map or a run in threads."""
    return _map(peer, items) if kind == "map" else _run(peer)


def tables(arena: Arena, *, quick: bool) -> Iterator[Table]:
    """Race over one map and one DAG; the limit is for the map."""
    items = QUICK_ITEMS if quick else ITEMS
    table = Table("threads", "work that waits, in threads", "ms in all")
    rounds = math.ceil(items / MAP_WORKERS)
    table.remarks.append(
        f"map: {items:,} items that sleep {ITEM_SECONDS * 1e3:g} ms, {MAP_WORKERS} workers:"
        f" {rounds * ITEM_SECONDS * 1e3:.0f} ms at best. Plain: the map of a bare pool."
    )
    table.remarks.append(
        f"dag: {NODES} random nodes that sleep {NODE_SECONDS * 1e3:g} ms, {RUN_WORKERS} workers:"
        f" {bound() * 1e3:.0f} ms at best. Plain: a scheduler by hand on a bare pool."
    )
    for kind, keys in KEYS.items():
        race = arena.race("threads", like=f"threads {kind}")
        results = race.run(keys, {"kind": kind, "items": items})
        table.add(kind, results, factor=1e3, limit=LIMITS.get(kind))
    yield table


def bound() -> float:
    """Return the seconds no scheduler can beat on the DAG: its longest path, or its work."""
    depth: dict[str, int] = {}
    functions = sleeping_dag().load()
    for function in graphs.in_order(functions):
        parents = (depth.get(name, 0) for name in graphs.parameters(function))
        depth[function.__name__] = 1 + max(parents)
    graphs.unload(functions)
    return max(math.ceil(NODES / RUN_WORKERS), *depth.values()) * NODE_SECONDS


def sleeping_dag() -> graphs.Graph:
    """Return the random DAG whose nodes sleep."""
    body = f"sleep({NODE_SECONDS}); return {{mix}}"
    return graphs.random_dag(NODES, body=body, header=HEADER)


def _map(peer: Peer, items: int) -> Paired:
    sleeper = graphs.NodeSource("slept", ("x",), f"sleep({ITEM_SECONDS}); return x")
    functions = graphs.Graph((sleeper,), header=HEADER).load()
    values = range(items)
    call = peer.thread_mapper(functions, "x", values, MAP_WORKERS)
    rows = peer.rows(call(), ["slept"])
    check(rows == [{"slept": value} for value in values], rows[:3])
    plain = Plain().thread_mapper(functions, "x", values, MAP_WORKERS)
    return Paired(Steady(call), Steady(plain))


def _run(peer: Peer) -> Paired:
    graph = sleeping_dag()
    functions = graph.load()
    expected = PlainDict().runner(functions, graph.inputs)()
    call = peer.thread_runner(functions, graph.inputs, RUN_WORKERS)
    result = call()
    check(expected.items() <= result.items(), result)
    plain = Plain().thread_runner(functions, graph.inputs, RUN_WORKERS)
    return Paired(Steady(call), Steady(plain))
