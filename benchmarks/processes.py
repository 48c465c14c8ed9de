"""Processes: maps and a DAG on warm workers, beside what bare processes do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks import graphs
from benchmarks.measure import Paired, Steady, check, time_once
from benchmarks.peers.plain import CHUNK, Plain, PlainDict
from benchmarks.peers.shared import SharedList
from benchmarks.report import Limit, Table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.arena import Arena
    from benchmarks.peers import Peer

WORKERS = 2
TRIVIAL_ITEMS = 10_000
BUSY_ITEMS, QUICK_BUSY_ITEMS, ITEM_SECONDS = 400, 100, 0.005
NODES, NODE_SECONDS = 8, 0.025
PLAIN = {"trivial": Plain, "busy": SharedList}
KEYS = {
    "trivial": ("plain", "hypernodes-processes", "joblib", "pipefunc"),
    "busy": ("plain-shared", "hypernodes-processes", "joblib", "pipefunc"),
    "dag": ("plain", "hypernodes-processes", "pipefunc"),
}
TRIVIAL = "return x + 1"
BUSY = """total = 0
    for number in range(x):
        total += number * number
    return total"""


def trial(peer: Peer, kind: str, items: int, loops: int) -> Paired:
    """Return a map over `items`, or a run, of functions that loop `loops` times or not at all."""
    if kind == "dag":
        return _run(peer, loops)
    values = [loops] * items if loops else list(range(items))
    return _map(peer, PLAIN[kind](), BUSY if loops else TRIVIAL, values)


def tables(arena: Arena, *, quick: bool) -> Iterator[Table]:
    """Race over items that cost nothing, items that keep a core busy, and nodes that do."""
    yield trivial(arena)
    yield busy(arena, QUICK_BUSY_ITEMS if quick else BUSY_ITEMS)


def trivial(arena: Arena) -> Table:
    """Race over items that cost nothing."""
    table = Table("processes", f"trivial items on {WORKERS} warm processes", "us an item")
    table.remarks.append(f"Plain: a bare pool, and chunks of {CHUNK} items by hand.")
    params = {"kind": "trivial", "items": TRIVIAL_ITEMS, "loops": 0}
    results = arena.race("processes", like="processes trivial").run(KEYS["trivial"], params)
    limit = Limit(1, of="total")
    table.add(f"{TRIVIAL_ITEMS:,}", results, factor=1e6 / TRIVIAL_ITEMS, limit=limit)
    return table


def busy(arena: Arena, items: int) -> Table:
    """Race over items and over nodes that keep a core busy."""
    table = Table("processes", f"work for {WORKERS} warm processes", "ms in all")
    table.remarks.append(
        f"map: {items} items of {ITEM_SECONDS * 1e3:g} ms, {best(items, ITEM_SECONDS):.0f} ms at"
        " best. Plain: bare processes that share the list."
    )
    table.remarks.append(
        f"dag: {NODES} nodes of {NODE_SECONDS * 1e3:g} ms and one that adds up what they give,"
        f" {best(NODES, NODE_SECONDS):.0f} ms at best. Plain: a scheduler by hand on a bare pool."
    )
    rate = loops_per_second()
    params = {"kind": "busy", "items": items, "loops": int(rate * ITEM_SECONDS)}
    results = arena.race("processes", like="processes busy").run(KEYS["busy"], params)
    table.add("map", results, factor=1e3, limit=Limit(1.1, of="ratio"))
    params = {"kind": "dag", "items": 1, "loops": int(rate * NODE_SECONDS)}
    results = arena.race("processes", like="processes dag").run(KEYS["dag"], params)
    table.add("dag", results, factor=1e3)
    return table


def best(count: int, seconds: float) -> float:
    """Return the milliseconds that `count` calls take at the least."""
    return 1e3 * count * seconds / WORKERS


def loops_per_second() -> float:
    """Return how often the busy function loops in a second, on one core and at its best."""
    loops = 100_000
    (function,) = graphs.Graph((graphs.NodeSource("busy", ("x",), BUSY),)).load()
    return loops / min(time_once(lambda: function(loops)) for _ in range(10))


def busy_dag(loops: int) -> graphs.Graph:
    """Return nodes that loop, independent of one another, and one that takes them all."""
    names = tuple(f"part_{number}" for number in range(NODES))
    parts = (graphs.NodeSource(name, ("x",), BUSY) for name in names)
    total = graphs.NodeSource("total", names, f"return {' + '.join(names)}")
    return graphs.Graph((*parts, total), {"x": loops})


def _map(peer: Peer, plain: Plain, body: str, values: list[int]) -> Paired:
    (function,) = graphs.Graph((graphs.NodeSource("y", ("x",), body),)).load_from_file()
    call = peer.process_mapper(function, values, WORKERS)
    bare = plain.process_mapper(function, values, WORKERS)
    rows = peer.rows(call(), ["y"])
    check(rows == bare(), rows[:3])
    return Paired(Steady(call), Steady(bare))


def _run(peer: Peer, loops: int) -> Paired:
    graph = busy_dag(loops)
    functions = graph.load_from_file()
    expected = PlainDict().runner(functions, graph.inputs)()
    call = peer.process_runner(functions, graph.inputs, WORKERS)
    result = call()
    check(expected.items() <= result.items(), result)
    plain = Plain().process_runner(functions, graph.inputs, WORKERS)
    return Paired(Steady(call), Steady(plain))
