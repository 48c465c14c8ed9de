"""Dask and Ray: `python -m benchmarks.clusters [--engine dask|ray] [--rounds N] [--stream N]`.

Every contender of a table uses the same cluster, of two processes on this machine, started by the
engine itself. Each table has a new one: workers that have run ten thousands of tasks do the same
work slower. Each round runs every contender once, in turning order. In each table the first line is
what the others are compared with.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from concurrent import futures
from contextlib import contextmanager
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from benchmarks.measure import check, time_once
from benchmarks.observers import in_turns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hypernodes import RuntimeConfig
    from hypernodes.abc import Executor

    Calls = dict[str, Callable[[], Any]]

WORKERS = 2
TRIVIAL = 10_000
HAND_CHUNKS = (2 * WORKERS, 20, 100)
BUSY, BUSY_SECONDS = 400, 0.005
BEST_SHARE = 0.9
LARGE = 50_000_000
EARLY = 20_000
MEGABYTE = 1e6


class Engine(Protocol):
    """A cluster, and what its own users write by hand."""

    executor: Executor
    config: RuntimeConfig

    def by_hand(self, items: range) -> Calls:
        """Return maps of `successor` over `items`, checked."""


def successor(x: int) -> int:
    """Compute next to nothing."""
    return x + 1


def looped(x: int) -> int:
    """Keep a core busy."""
    total = 0
    for number in range(x):
        total += number * number
    return total


def zeros(size: int) -> Any:
    """Make an array of `size` bytes."""
    import numpy as np

    return np.zeros(size, dtype=np.uint8)


def first(array: Any) -> int:
    """Take one number of an array."""
    return int(array[0])


class Dask:
    """A `LocalCluster`, and bags on it."""

    def __init__(self) -> None:
        from hypernodes import DaskExecutor, RuntimeConfig

        self.executor = DaskExecutor()
        self.config = RuntimeConfig(executor=self.executor)

    def by_hand(self, items: range) -> Calls:
        """Return bags: of as many partitions as Dask chooses, and of other numbers."""
        from dask import bag

        def call(count: int | None) -> Callable[[], Any]:
            return lambda: bag.from_sequence(items, npartitions=count).map(successor).compute()

        calls = {"dask.bag as it comes": call(None)}
        return calls | {f"dask.bag, {count} partitions": call(count) for count in HAND_CHUNKS}


@contextmanager
def dask() -> Iterator[Dask]:
    """Start a cluster, and make its client the program's."""
    from distributed import Client, LocalCluster

    options = {"n_workers": WORKERS, "threads_per_worker": 1, "dashboard_address": ":0"}
    with LocalCluster(**options) as cluster, Client(cluster):
        engine = Dask()
        with engine.executor:
            yield engine


class Ray:
    """An initialised Ray, and tasks of chunks by hand."""

    def __init__(self) -> None:
        from hypernodes import RayExecutor, RuntimeConfig

        self.executor = RayExecutor()
        self.config = RuntimeConfig(executor=self.executor)

    def by_hand(self, items: range) -> Calls:
        """Return tasks that take a list of items each, in several sizes."""
        import ray

        each = ray.remote(lambda chunk: [successor(x) for x in chunk])

        def call(count: int) -> Callable[[], Any]:
            size = -(-len(items) // count)
            starts = range(0, len(items), size)

            def chunked() -> list[int]:
                tasks = [each.remote(list(items[start : start + size])) for start in starts]
                return [y for chunk in ray.get(tasks) for y in chunk]

            return chunked

        return {f"tasks by hand, {count} chunks": call(count) for count in reversed(HAND_CHUNKS)}


@contextmanager
def ray() -> Iterator[Ray]:
    """Initialise Ray on this machine."""
    import ray as engine

    engine.init(num_cpus=WORKERS, include_dashboard=False, log_to_driver=False)
    try:
        used = Ray()
        with used.executor:
            yield used
    finally:
        engine.shutdown()


ENGINES = {"dask": dask, "ray": ray}


def trivial(engine: Engine) -> tuple[str, Calls]:
    """Return maps of items that cost nothing."""
    from hypernodes import Pipeline, node

    items = range(TRIVIAL)
    pipeline = Pipeline([node("y")(successor)])
    calls = engine.by_hand(items)
    for call in calls.values():
        check(call() == [x + 1 for x in items], call)
    calls["hypernodes"] = lambda: pipeline.map({"x": items}, map_over="x", config=engine.config)
    check([row["y"] for row in calls["hypernodes"]()] == [x + 1 for x in items], "rows")
    return f"{TRIVIAL:,} trivial items", calls


def busy(engine: Engine) -> tuple[str, Calls]:
    """Return maps of items that keep a core busy, and what two bare processes make of them."""
    from hypernodes import Pipeline, node

    config = engine.config
    rate = 100_000 / min(time_once(lambda: looped(100_000)) for _ in range(10))
    items = [int(rate * BUSY_SECONDS)] * BUSY
    pipeline = Pipeline([node("y")(looped)])
    pool = futures.ProcessPoolExecutor(WORKERS, get_context("forkserver"))
    calls: Calls = {
        "the ideal: two bare processes": lambda: list(pool.map(looped, items, chunksize=1)),
        "hypernodes": lambda: pipeline.map({"x": items}, map_over="x", config=config),
    }
    check([row["y"] for row in calls["hypernodes"]()] == list(pool.map(looped, items)), "rows")
    title = (
        f"{BUSY} items of {BUSY_SECONDS * 1e3:g} ms, {BUSY * BUSY_SECONDS / WORKERS:.2f} s ideal"
    )
    return f"{title}; at least {BEST_SHARE:.0%} of it", calls


def large(engine: Engine) -> tuple[str, Calls]:
    """Return runs with a large array between two nodes, that is or is not asked for."""
    from hypernodes import Pipeline, node

    config = engine.config
    pipeline = Pipeline([node("array")(zeros), node("y")(first)])
    parts = Pipeline([pipeline.as_node(name="both")])
    inputs = {"size": LARGE}
    calls: Calls = {
        "asked for, too": lambda: pipeline.run(inputs, config=config),
        "stays on the workers": lambda: pipeline.run(inputs, output_name="y", config=config),
        "nested": lambda: parts.run(inputs, output_name="y", config=config),
        "no array": lambda: pipeline.run({"size": 1}, output_name="y", config=config),
    }
    for call in calls.values():
        check(call()["y"] == 0, call)
    return f"{LARGE / MEGABYTE:.0f} MB between two nodes", calls


def print_race(title: str, calls: Calls, rounds: int) -> None:
    """Print the seconds of each call, and how the first one compares with it."""
    print(f"\n{title}, {rounds} rounds [ms]", flush=True)
    for _ in range(2):
        for call in calls.values():
            call()
    samples = in_turns(calls, rounds, lambda call: time_once(call) * 1e3)
    base = next(iter(samples.values()))
    for name, values in samples.items():
        share = statistics.median(a / b for a, b in zip(base, values, strict=True))
        middle = statistics.median(values)
        print(f"  {name:32} {middle:9.1f} (min {min(values):.1f})  {share:6.2f} times as fast")


def print_stream(engine: Engine, count: int) -> None:
    """Print what the memory of this process grows by over a streamed map."""
    from hypernodes import Pipeline, node

    pipeline = Pipeline([node("y")(successor)])
    rows = pipeline.map_iter({"x": iter(range(count))}, map_over="x", config=engine.config)
    started = time.perf_counter()
    check(sum(1 for _ in islice(rows, EARLY)) == EARLY, "rows")
    early = resident()
    check(sum(1 for _ in rows) == count - EARLY, "rows")
    seconds = time.perf_counter() - started
    grown = (resident() - early) / MEGABYTE
    print(f"\n{count:,} items streamed, {seconds / count * 1e6:.1f} us an item")
    print(f"  the driver's resident memory grows by {grown:.1f} MB after the first {EARLY:,}")


def resident() -> int:
    """Return the bytes of memory that this process has now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    """Race and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", action="append", choices=ENGINES)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--stream", type=int, default=1_000_000, metavar="ITEMS")
    options = parser.parse_args()
    for name in options.engine or ENGINES:
        print(f"\n=== {name}, {WORKERS} worker processes")
        for race in (trivial, busy, large):
            with ENGINES[name]() as engine:
                print_race(*race(engine), options.rounds)
        with ENGINES[name]() as engine:
            print_stream(engine, options.stream)


if __name__ == "__main__":
    main()
