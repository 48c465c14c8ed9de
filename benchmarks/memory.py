"""The memory that a map takes beside that of its results, and what a stream takes with time."""

from __future__ import annotations

import gc
import os
import sys
import tracemalloc
from dataclasses import dataclass
from itertools import islice
from resource import RUSAGE_SELF, getrusage
from typing import TYPE_CHECKING

from benchmarks import graphs
from benchmarks.report import Limit, Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.arena import Arena
    from benchmarks.measure import Call
    from benchmarks.peers import Peer

KEYS = ("plain", "hypernodes-sequential", "hypernodes", "ancestor", "joblib", "pipefunc")
QUICK_SIZES = {10_000: KEYS}
SIZES = {50_000: KEYS, 1_000_000: KEYS[:2]}
# The results alone count as 1; a list that grows holds an eighth of its own size in reserve.
LIMIT = Limit(1.05, of="ratio")

STREAMS = {
    "hypernodes-sequential": "def",
    "hypernodes-threads": "def",
    "hypernodes-async": "async def",
    "hypernodes-processes": "def",
}
STREAMED, QUICK_STREAMED, EARLY = 1_000_000, 50_000, 1_000
STREAM_LIMIT = Limit(30, of="total")
# An item says in which process it was, and what was the most memory that this one had so far.
WEIGHED = "return getpid(), getrusage(RUSAGE_SELF).ru_maxrss"
HEADER = "from os import getpid; from resource import RUSAGE_SELF, getrusage"
MAXRSS_BYTES = 1 if sys.platform == "darwin" else 1024


@dataclass
class Allocated:
    """Bytes that a call allocates at its height, and those that its result keeps."""

    call: Call

    def sample(self) -> dict[str, float]:
        """Return `peak` and `kept` in bytes."""
        gc.collect()
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        result = self.call()
        gc.collect()
        kept, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        del result
        return {"seconds": float(peak - before), "kept": float(kept - before)}


@dataclass
class Grown:
    """Bytes by which the resident memory of a process grows after the first items of a stream."""

    stream: Callable[[], Iterator[tuple[int, int]]]

    def sample(self) -> dict[str, float]:
        """Return what this process grew by, and what the worker did that grew most."""
        items = self.stream()
        early = dict(islice(items, EARLY)) | {os.getpid(): peak()}
        late = early.copy()
        for pid, most in items:
            early.setdefault(pid, most)
            late[pid] = max(late.get(pid, 0), most)
        late[os.getpid()] = peak()
        grown = {pid: float(late[pid] - early[pid]) * MAXRSS_BYTES for pid in late}
        own = grown.pop(os.getpid())
        return {"seconds": own, "worker": max(grown.values(), default=0.0)}


def peak() -> int:
    """Return the most resident memory that this process had so far, in the system's unit."""
    return getrusage(RUSAGE_SELF).ru_maxrss


def trial(peer: Peer, items: int, keyword: str = "") -> Allocated | Grown:
    """Return the map of `maps`, once warmed up on a few items; with a keyword, a stream."""
    if keyword:
        return _streamed(peer, items, keyword)
    functions = graphs.chain(3).load()
    peer.mapper(functions, "x", list(range(10)))()
    return Allocated(peer.mapper(functions, "x", list(range(items))))


def tables(arena: Arena, *, quick: bool) -> Iterator[Table]:
    """Measure each contender in a fresh process."""
    yield maps(arena, QUICK_SIZES if quick else SIZES)
    yield streams(arena, QUICK_STREAMED if quick else STREAMED)


def maps(arena: Arena, sizes: dict[int, tuple[str, ...]]) -> Table:
    """Compare maps; plain Python's result is what results take."""
    table = Table("memory", "allocated at the height of the map of `maps`", "bytes an item")
    for items, keys in sizes.items():
        results = [arena.alone("memory", key, {"items": items}) for key in keys]
        for result in results:
            for sample in result.samples:
                sample["plain"] = results[0].samples[0]["kept"]
        table.add(f"{items:,}", results, factor=1 / items, limit={"hypernodes-sequential": LIMIT})
    table.remarks.append('"plain" is what the list of results takes, and "over" what comes on top.')
    return table


def streams(arena: Arena, items: int) -> Table:
    """Compare the peaks of `map_iter` over a generator, after a thousand items and at the end."""
    table = Table("memory", f"growth of `map_iter` over a generator of {items:,} items", "MB")
    for key, keyword in STREAMS.items():
        result = arena.alone("memory", key, {"items": items, "keyword": keyword})
        table.add("driver", [result], factor=1e-6, limit=STREAM_LIMIT)
        if key == "hypernodes-processes":
            for sample in result.samples:
                sample["seconds"] = sample["worker"]
            table.add("worker", [result], factor=1e-6, limit=STREAM_LIMIT)
    table.remarks.append(
        f"Peak of resident memory less that after {EARLY:,} items; of the worker that grew most."
    )
    return table


def _streamed(peer: Peer, items: int, keyword: str) -> Grown:
    source = graphs.NodeSource("weighed", ("x",), WEIGHED, keyword)
    (function,) = graphs.Graph((source,), header=HEADER).load_from_file()
    return Grown(lambda: (row["weighed"] for row in peer.stream(function, iter(range(items)))))
