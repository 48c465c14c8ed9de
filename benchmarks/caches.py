"""Caches alone: values stored and found under signatures, without any pipeline."""

from __future__ import annotations

import hashlib
import itertools
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.measure import Paired, Steady, check
from benchmarks.peers.plain import Plain
from benchmarks.report import Limit, Table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.arena import Arena
    from benchmarks.measure import Call
    from benchmarks.peers import Peer, Store

KEYS = ("plain", "hypernodes", "diskcache", "joblib")
SMALL = {"mean": 0.25, "rows": [1, 2, 3]}
FOUND = 1_000

# Names, limits for the store's share of a node, and what is asked of the contender.
SMALL_CASES = {
    "find": Limit(8, of="total"),
    "store": Limit(70, of="total"),
    "miss": Limit(8, of="total"),
}
LARGE_CASES = {"find": Limit(0.3, of="ratio"), "store": Limit(1.2, of="ratio")}
MEMORY_LIMIT = Limit(3, of="total")


@dataclass
class Kept:
    """A trial, and the directories that go with it."""

    paired: Paired
    directories: list[tempfile.TemporaryDirectory[str]]

    def sample(self) -> dict[str, float]:
        """Return the seconds per call of both."""
        return self.paired.sample()


def trial(peer: Peer, case: str, size: int, where: str) -> Kept:
    """Return a store's call beside that of plain Python.

    Args:
        peer: The contender.
        case: "find", "store" or "miss".
        size: Bytes of the array that is stored, or 0 for a small dict.
        where: "disk" or "memory".
    """
    directories = [tempfile.TemporaryDirectory(prefix="caches-") for _ in range(2)]
    value = np.random.default_rng(7).random(size // 8) if size else SMALL
    calls = [
        timed(
            each.disk_store(directory.name) if where == "disk" else each.memory_store(), case, value
        )
        for each, directory in zip((peer, Plain()), directories, strict=True)
    ]
    return Kept(Paired(*map(Steady, calls)), directories)


def timed(store: Store, case: str, value: Any) -> Call:
    """Return one call that stores, finds or misses; each call has a signature of its own."""
    numbers = itertools.count()
    if case == "store":
        return lambda: store.put(signature(next(numbers)), value)
    if case == "miss":
        return lambda: missed(store, signature(next(numbers)))
    stored = [signature(number) for number in range(FOUND if value is SMALL else 1)]
    for each in stored:
        store.put(each, value)
    check(np.array_equal(store.get(stored[0]), value), store.get(stored[0]))
    turns = itertools.cycle(stored)
    return lambda: store.get(next(turns))


def missed(store: Store, name: str) -> None:
    """Look for what is not there, in whichever way the contender says so."""
    try:
        store.get(name)
    except (LookupError, OSError):
        return


def signature(number: int) -> str:
    """Return 64 hexadecimal digits."""
    return hashlib.sha256(b"%d" % number).hexdigest()


def tables(arena: Arena, *, quick: bool) -> Iterator[Table]:
    """Race with small values, with an array, and in memory."""
    small = Table("caches", "a small dict on disk, by signature", "us")
    for case, limit in SMALL_CASES.items():
        results = arena.race("caches", like=case).run(KEYS, parameters(case), size=1)
        small.add(case, results, factor=1e6, limit=limit)
    small.remarks.append("joblib hashes its arguments, and makes a directory for each entry.")
    yield small
    size = 5_000_000 if quick else 50_000_000
    large = Table("caches, array", f"an array of {size // 10**6} MB on disk", "ms")
    for case, limit in LARGE_CASES.items():
        arguments = parameters(case, size=size)
        results = arena.race("caches", like=f"{case} array").run(KEYS, arguments, size=1)
        large.add(case, results, factor=1e3, limit=limit)
    yield large
    memory = Table("caches, memory", "a small dict in memory, by signature", "us")
    for case in ("find", "store"):
        arguments = parameters(case, where="memory")
        results = arena.race("caches", like="memory").run(KEYS[:2], arguments, size=1)
        memory.add(case, results, factor=1e6, limit=MEMORY_LIMIT)
    yield memory


def parameters(case: str, *, size: int = 0, where: str = "disk") -> dict[str, Any]:
    """Return the arguments of a trial."""
    return {"case": case, "size": size, "where": where}
