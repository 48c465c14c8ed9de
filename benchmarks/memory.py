"""The memory that a map takes, beside that of its results."""

from __future__ import annotations

import gc
import tracemalloc
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks import graphs
from benchmarks.report import Limit, Table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.arena import Arena
    from benchmarks.measure import Call
    from benchmarks.peers import Peer

KEYS = ("plain", "hypernodes-sequential", "hypernodes", "ancestor", "joblib", "pipefunc")
QUICK_SIZES = {10_000: KEYS}
SIZES = {50_000: KEYS, 1_000_000: KEYS[:2]}
# The results alone count as 1; a list that grows holds an eighth of its own size in reserve.
LIMIT = Limit(1.05, of="ratio")


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


def trial(peer: Peer, items: int) -> Allocated:
    """Return the map of `maps`, once warmed up on a few items."""
    functions = graphs.chain(3).load()
    peer.mapper(functions, "x", list(range(10)))()
    return Allocated(peer.mapper(functions, "x", list(range(items))))


def tables(arena: Arena, *, quick: bool) -> Iterator[Table]:
    """Measure each contender in a fresh process; plain Python's result is what results take."""
    table = Table("memory", "allocated at the height of the map of `maps`", "bytes an item")
    for items, keys in (QUICK_SIZES if quick else SIZES).items():
        results = [arena.alone("memory", key, {"items": items}) for key in keys]
        for result in results:
            for sample in result.samples:
                sample["plain"] = results[0].samples[0]["kept"]
        table.add(f"{items:,}", results, factor=1 / items, limit={"hypernodes-sequential": LIMIT})
    table.remarks.append('"plain" is what the list of results takes, and "over" what comes on top.')
    yield table
