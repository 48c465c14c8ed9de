"""Caches that hold much: what an entry costs, however many there are."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections import deque
from typing import TYPE_CHECKING, Any

from benchmarks.caches import SMALL, Kept, missed, signature
from benchmarks.measure import Paired, Steady, check
from benchmarks.peers.plain import Plain
from benchmarks.report import Limit, Table, figure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.arena import Arena
    from benchmarks.measure import Call
    from benchmarks.peers import Peer, Store

KEYS = ("hypernodes", "diskcache")
SMALLEST = 10_000
LARGER = 100_000
MILLION = 1_000_000
STRIDE = 7_919  # a prime: entries are looked for all over the cache, each as often as the others
CASES = {
    "find": Limit(8, of="total"),
    "miss": Limit(8, of="total"),
    "store": Limit(70, of="total"),
    "evict": Limit(70, of="total"),
}

# What a worker has filled, by the number of entries; it takes its time.
_filled: dict[int, tempfile.TemporaryDirectory[str]] = {}


def trial(peer: Peer, case: str, entries: int) -> Kept:
    """Return a call of a store that holds much, beside plain Python's.

    Args:
        peer: The contender.
        case: "find", "miss", "store", or "evict": to store where something has to go for it.
        entries: How many there are.
    """
    beside = tempfile.TemporaryDirectory(prefix="filled-")
    directory = filled(peer, entries)
    store = peer.full_store(directory) if case == "evict" else peer.disk_store(directory)
    plain = Plain().disk_store(beside.name)
    for number in range(SMALLEST):
        plain.put(signature(number), SMALL)
    least = entries // 100 if case == "evict" else 1  # what makes room does so for many at once
    calls = Steady(call(store, case, entries), least), Steady(call(plain, case, SMALLEST))
    return Kept(Paired(*calls), [beside])


def filled(peer: Peer, entries: int) -> str:
    """Return a directory with so many entries; it is made once in a process."""
    if entries not in _filled:
        _filled[entries] = tempfile.TemporaryDirectory(prefix="filled-")
        store = peer.disk_store(_filled[entries].name)
        for number in range(entries):
            store.put(signature(number), SMALL)
    deque(os.walk(_filled[entries].name), 0)  # what the system has forgotten of it meanwhile
    return _filled[entries].name


def call(store: Store, case: str, entries: int) -> Call:
    """Return one call; each has a signature of its own, or takes its turn among those there are."""
    fresh = itertools.count(entries + id(store))
    if case == "miss":
        return lambda: missed(store, signature(next(fresh)))
    if case != "find":
        return lambda: store.put(signature(next(fresh)), SMALL)
    check(store.get(signature(0)) == SMALL, store.get(signature(0)))
    turns = itertools.count(1, STRIDE)
    return lambda: store.get(signature(next(turns) % entries))


def tables(arena: Arena, *, quick: bool) -> Iterator[Table]:
    """Race with 10,000 and with 100,000 entries."""
    del quick
    yield table(arena, LARGER)


def million(arena: Arena, *, quick: bool) -> Iterator[Table]:
    """Race with 10,000 and with a million entries, which take a minute to be made, or several."""
    del quick
    yield table(arena, MILLION)


def table(arena: Arena, larger: int) -> Table:
    """Return a table of all cases at two sizes."""
    name = "filled" if larger == LARGER else "million"
    made = Table(name, f"a small dict on disk, beside {SMALLEST:,} and {larger:,} others", "us")
    for case, limit in CASES.items():
        medians: dict[str, list[float]] = {}
        for entries in (SMALLEST, larger):
            arguments = {"case": case, "entries": entries}
            results = arena.race("filled", like=f"{case} {entries}").run(KEYS, arguments)
            made.add(f"{case}, {entries:,}", results, factor=1e6, limit=limit)
            for result in results:
                if result.samples:
                    medians.setdefault(result.title, []).append(result.median())
        made.remarks.append(growth(case, medians))
    return made


def growth(case: str, medians: dict[str, list[float]]) -> str:
    """Say how much more the larger one takes."""
    ratios: dict[str, Any] = {
        title: seconds[1] / seconds[0] for title, seconds in medians.items() if len(seconds) > 1
    }
    shown = ", ".join(f"{title} {figure(ratio)}" for title, ratio in ratios.items())
    return f"{case}, times the cost in the smaller one: {shown}"
