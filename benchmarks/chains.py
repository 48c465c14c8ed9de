"""Chains of trivial nodes: what the engine adds to a call."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks import graphs
from benchmarks.measure import Paired, Steady, check
from benchmarks.peers.plain import Plain, PlainDict
from benchmarks.report import Limit, Table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.arena import Arena
    from benchmarks.peers import Peer

KEYS = (
    "plain",
    "plain-dict",
    "hypernodes-sequential",
    "hypernodes",
    "ancestor",
    "hamilton",
    "pipefunc",
)
LIMITS = {10: 0.4, 100: 0.1, 1_000: 0.1}


def trial(peer: Peer, length: int) -> Paired:
    """Return a run of a chain of `length` nodes beside the same calls in straight-line code."""
    return compared(peer, graphs.chain(length))


def compared(peer: Peer, graph: graphs.Graph) -> Paired:
    """Return a run of `graph` beside the same calls in straight-line code."""
    functions = graph.load()
    expected = PlainDict().runner(functions, graph.inputs)()
    call = peer.runner(functions, graph.inputs)
    result = call()
    if isinstance(result, dict):
        check(expected.items() <= result.items(), result)
    else:
        check(result in expected.values(), result)
    return Paired(Steady(call), Steady(Plain().runner(functions, graph.inputs)))


def tables(arena: Arena, *, quick: bool) -> Iterator[Table]:
    """Race over chains of 10, 100 and 1,000 nodes."""
    del quick
    table = Table("chains", "run a chain, all outputs returned", "us a node")
    race = arena.race("chains")
    for length, most in LIMITS.items():
        results = race.run(KEYS, {"length": length}, size=length)
        table.add(f"{length:,}", results, factor=1e6 / length, limit=Limit(most))
    yield table
