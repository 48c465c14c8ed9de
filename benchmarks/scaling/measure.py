"""What a map costs driver, scheduler and cache on this machine.

Processor time, not time by the clock, wherever one process is meant: so what else the machine does
matters little. Each figure is the least of several rounds.
"""

from __future__ import annotations

import os
import socket
import tempfile
import time
import tracemalloc
from collections import deque
from functools import partial
from pathlib import Path
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest.mock import patch

from benchmarks.scaling import rules
from hypernodes import (
    Callback,
    DiskCache,
    Pipeline,
    ProcessPoolExecutor,
    RuntimeConfig,
    SequentialExecutor,
    node,
)
from hypernodes.cache._sweep import listed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from hypernodes.abc import Executor

    Meter = Callable[[], float]

ROUNDS = 5
MANY, LARGE = 200_000, 1_000
FEW = 10_000
CROWD = 1_000
MORE = 64
LOOPS = 100
SLEEPY = 50
ON_DRIVER = {"driver": process_time}
PAUSE = 0.5


class Figure(NamedTuple):
    """Something that was measured, in `unit`."""

    name: str
    value: float
    unit: str


def used(x):  # noqa: ARG001 - takes an item, as a node does
    """Return the processor time that this process has used, and which one it is."""
    return os.getpid(), process_time()


class Ends(Callback):
    def on_item_end(self, index, duration):
        """Note an end."""


class Nodes(Callback):
    def on_node_start(self, node):
        """Note a start."""

    def on_node_end(self, node, duration):
        """Note an end."""


class Failures(Callback):
    def on_node_error(self, node, error):
        """Note a failure; there is none."""


def least(sample: Callable[[], float], rounds: int = ROUNDS) -> float:
    """Return the least of what some calls return."""
    return min(sample() for _ in range(rounds))


def consumed(results: Iterable[Any]) -> None:
    """Take all there is."""
    deque(results, maxlen=0)


def figures() -> Iterator[Figure]:
    """Measure one thing after another."""
    from benchmarks.scaling.clusters import of_clusters

    yield from of_processes()
    yield from of_crowds()
    yield from of_events()
    yield from of_caches()
    yield from of_memory()
    yield from of_clusters()


# ---------------------------------------------------------------- processes


def of_processes() -> Iterator[Figure]:
    """Yield what items and chunks cost the driver and workers."""
    yield from by_parts(partial(ProcessPoolExecutor, max_workers=2), "process", FEW, MANY)


def by_parts(
    executor: Callable[..., Executor],
    name: str,
    few: int,
    many: int,
    meters: Mapping[str, Meter] = ON_DRIVER,
) -> Iterator[Figure]:
    """Yield what an item and a chunk cost the driver, a worker, and whatever else is metered.

    Args:
        executor: Makes where they run, for a `chunksize`.
        name: What it is called.
        few: How many items there are, in chunks of one.
        many: How many there are, in large chunks.
        meters: Of the processor time of those who take part.
    """
    bulk = [parts(executor(chunksize=LARGE), many, meters) for _ in range(ROUNDS)]
    single = [parts(executor(chunksize=1), few, meters) for _ in range(ROUNDS)]
    for part in bulk[0]:
        each = min(sample[part] for sample in bulk) / many
        alone = min(sample[part] for sample in single) / few
        chunk = (alone - each) / (1 - 1 / LARGE)
        yield Figure(f"{name}, {part}, an item", (each - chunk / LARGE) * 1e6, "us")
        yield Figure(f"{name}, {part}, a chunk", chunk * 1e6, "us")


def parts(executor: Executor, items: int, meters: Mapping[str, Meter]) -> dict[str, float]:
    """Return the processor time of a map of items that do nothing, by who has used it."""
    pipeline = Pipeline([node("y")(used)])
    with executor:
        config = RuntimeConfig(executor=executor)
        pipeline.map({"x": range(8)}, map_over="x", config=config)
        before = {name: spent() for name, spent in meters.items()}
        results = pipeline.map({"x": range(items)}, map_over="x", config=config)
        found = {name: spent() - before[name] for name, spent in meters.items()}
    seen: dict[int, list[float]] = {}
    for result in results:
        pid, clock = result["y"]
        seen.setdefault(pid, []).append(clock)
    return found | {"worker": sum(max(clocks) - min(clocks) for clocks in seen.values())}


def of_crowds() -> Iterator[Figure]:
    """Yield what every worker adds to the driver's cost of a chunk, and how long one starts."""
    yield Figure("driver, a chunk, each worker", least(chosen) / CROWD * 1e6, "us")
    starting = (least(started, 3) - PAUSE) / MORE
    yield Figure("start of a worker process", starting * 1e3, "ms")


def chosen() -> float:
    """Return what it takes to choose the next worker of a crowd, all of which are busy."""
    ends = socket.socketpair()
    boards = (memoryview(bytearray(1024)).cast("q") for _ in range(CROWD))
    hands = [rules.hand.Hand(ends[0], board) for board in boards]
    for hand in hands:
        hand.chunks.append(hand)
    pool = rules.pool.Pool.__new__(rules.pool.Pool)
    vars(pool).update(_size=CROWD, _hands=hands)
    choose = pool._candidate  # noqa: SLF001 - what is measured is this part of it
    seconds = timed(lambda: [choose() for _ in range(LOOPS)]) / LOOPS
    for end in ends:
        end.close()
    return seconds


def started() -> float:
    """Return the time by the clock until all of a crowd of workers have run an item."""
    pipeline = Pipeline([node("y")(waited)])
    with ProcessPoolExecutor(max_workers=MORE, chunksize=1) as executor:
        before = perf_counter()
        config = RuntimeConfig(executor=executor)
        consumed(pipeline.map({"x": range(MORE)}, map_over="x", config=config))
        return perf_counter() - before


def waited(x):
    """Wait, so that no worker gets the item of another."""
    time.sleep(PAUSE)
    return x


# ---------------------------------------------------------------- events


def of_events() -> Iterator[Figure]:
    """Yield what it costs the driver that somebody observes items or nodes."""
    plain = least(lambda: observed(())[0])
    for name, callback in (
        ("failures", Failures()),
        ("ends of items", Ends()),
        ("starts and ends of nodes", Nodes()),
    ):
        samples = [observed((callback,)) for _ in range(ROUNDS)]
        seconds = min(seconds for seconds, _ in samples) - plain
        yield Figure(f"{name}, driver, an item", seconds / FEW * 1e6, "us")
        yield Figure(f"{name}, sent, an item", samples[0][1] / FEW, "bytes")


def observed(callbacks: tuple[Callback, ...]) -> tuple[float, int]:
    """Return the driver's processor time of a map, and the bytes of the events that came."""
    pipeline = Pipeline([node("y")(used)])
    sizes: list[int] = []
    unpack = rules.crew.unpack_records

    def counted(parcel: Any) -> Any:
        sizes.append(parcel.size)
        return unpack(parcel)

    with ProcessPoolExecutor(max_workers=2, chunksize=500) as executor:
        config = RuntimeConfig(executor=executor, callbacks=callbacks)
        with patch.object(rules.crew, "unpack_records", counted):
            pipeline.map({"x": range(8)}, map_over="x", config=config)
            sizes.clear()
            before = process_time()
            pipeline.map({"x": range(FEW)}, map_over="x", config=config)
            return process_time() - before, sum(sizes)


# ---------------------------------------------------------------- caches


def of_caches() -> Iterator[Figure]:
    """Yield what a cache on disk costs, by the item and on the disk."""
    plain, cold, warm, absent = map(min, zip(*(cached() for _ in range(ROUNDS)), strict=True))
    yield Figure("cache, found", (warm - plain) / FEW * 1e6, "us")
    yield Figure("cache, missed, the store alone", absent / FEW * 1e6, "us")
    yield Figure("cache, missed and stored", (cold - plain) / FEW * 1e6, "us")
    with tempfile.TemporaryDirectory(prefix="scaling-") as path:
        cache = DiskCache(path)
        names = [f"{number % 16:x}{number:063x}" for number in range(FEW)]
        for name in names:
            cache.put(name, 1.5)
        yield from on_disk(path, FEW, "in a burst")
        seconds = least(lambda: timed(cache.stats))
        yield Figure("cache, an entry listed", seconds / FEW * 1e6, "us")
        kept, _ = allocated(lambda: [*listed(f"{path}/0")])
        yield Figure("cache, an entry listed", kept / FEW * 16, "bytes")
    with tempfile.TemporaryDirectory(prefix="scaling-") as path:
        cache = DiskCache(path)
        for name in names[:SLEEPY]:
            cache.put(name, 1.5)
            time.sleep(0.05)
        yield from on_disk(path, SLEEPY, "one by one")


def cached() -> tuple[float, ...]:
    """Return the seconds of a map in one process without a cache, with an empty one and a full one.

    And what it takes to look for as many entries that are not there.
    """
    pipeline = Pipeline([node("y")(used)])
    missing = [f"{number:064x}" for number in range(FEW)]
    with tempfile.TemporaryDirectory(prefix="scaling-") as path:
        cache = DiskCache(path)
        configs = [RuntimeConfig(executor=SequentialExecutor(), cache=c) for c in (None, cache)]
        maps = (
            timed(lambda c=config: pipeline.map({"x": range(FEW)}, map_over="x", config=c))
            for config in (*configs, configs[1])
        )
        return *maps, timed(lambda: cache.get_many(missing))


def on_disk(path: str, entries: int, how: str) -> Iterator[Figure]:
    """Yield the files and the bytes of a cache's entries."""
    shards = (entry for shard in "0123456789abcdef" for entry in Path(path, shard).glob("*"))
    facts = {stat.st_ino: stat for stat in map(os.stat, shards)}
    blocks = sum(stat.st_blocks for stat in facts.values())
    yield Figure(f"cache, files an entry, {how}", len(facts) / entries, "")
    yield Figure(f"cache, disk an entry, {how}", blocks * 512 / entries, "bytes")


def timed(call: Callable[[], Any]) -> float:
    """Return the processor time of a call."""
    before = process_time()
    call()
    return process_time() - before


# ---------------------------------------------------------------- memory


def of_memory() -> Iterator[Figure]:
    """Yield what the results of a map take, and what a stream takes for all its items ahead."""
    pipeline = Pipeline([node("y")(float)])
    with ProcessPoolExecutor(max_workers=2) as executor:
        config = RuntimeConfig(executor=executor)
        inputs: dict[str, Any] = {"inputs": {"x": range(MANY)}, "map_over": "x", "config": config}
        pipeline.map(**inputs)
        kept, peak = allocated(lambda: pipeline.map(**inputs))
        yield Figure("results of map, an item", kept / MANY, "bytes")
        yield Figure("map at its height, an item", peak / MANY, "bytes")
        _, peak = allocated(lambda: consumed(pipeline.map_iter(**inputs)))
        yield Figure("map_iter at its height", peak / 1e6, "MB")


def allocated(call: Callable[[], Any]) -> tuple[int, int]:
    """Return the bytes that the result of a call takes, and those at the height of the call."""
    tracemalloc.start()
    result = call()
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    del result
    return kept, peak
