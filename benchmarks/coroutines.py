"""Coroutines that wait, beside bare `asyncio.gather`: `python -m benchmarks.coroutines`.

Both take turns in one process; each figure is the median of its samples.
"""

from __future__ import annotations

import asyncio
from statistics import median
from time import perf_counter

from hypernodes import AsyncExecutor, Pipeline, RuntimeConfig, node

ITEMS, NODES, SECONDS, SAMPLES, LIMIT = 1_000, 200, 0.01, 25, 1.5


async def slept(x):
    await asyncio.sleep(SECONDS)
    return x


async def gathered(count):
    return await asyncio.gather(*[slept(x) for x in range(count)])


def main():
    """Measure a map and a DAG, and print one line for each."""
    config = RuntimeConfig(executor=AsyncExecutor())
    one = Pipeline([node("y")(slept)], config=config)
    wide = Pipeline([node(f"n{i}")(slept) for i in range(NODES)], config=config)
    assert one.map({"x": range(3)}, map_over="x") == [{"y": x} for x in range(3)]
    assert wide.run({"x": 1}) == {f"n{i}": 1 for i in range(NODES)}
    compare(f"map, {ITEMS:,} items", ITEMS, lambda: one.map({"x": range(ITEMS)}, map_over="x"))
    compare(f"run, {NODES} nodes", NODES, lambda: wide.run({"x": 1}))


def compare(title, count, call):
    """Print how long `call` takes beside `count` bare coroutines."""
    ours, bare = [], []
    for _ in range(SAMPLES):
        bare.append(timed(lambda: asyncio.run(gathered(count))))
        ours.append(timed(call))
    ratio = median(ours) / median(bare)
    print(
        f"{title}: {1e3 * median(ours):.1f} ms; gather {1e3 * median(bare):.1f} ms;"
        f" ratio {ratio:.2f} (limit {LIMIT}); of the minima {min(ours) / min(bare):.2f}"
    )


def timed(call):
    """Return the seconds of one call."""
    start = perf_counter()
    call()
    return perf_counter() - start


if __name__ == "__main__":
    main()
