"""Maps on processes: `python -m benchmarks.processes [--rounds N]`.

Each round runs every contender once, in turning order, so that noise of the machine hits all alike.
Functions live in this module: no contender has to ship code by value.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
from concurrent import futures
from contextlib import ExitStack
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any

from benchmarks.measure import check

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Contender = Callable[[], Any]

WORKERS = 2
TRIVIAL_ITEMS, CHUNK = 10_000, 500
CPU_ITEMS, CPU_SECONDS = 400, 0.005


def successor(x):
    return x + 1


def successors(xs):
    return [x + 1 for x in xs]


def busy(x, loops):
    total = 0
    for number in range(loops):
        total += number * number
    return x


def busy_share(taken: Any, loops: int) -> None:
    """Take items from a common counter until there are no more."""
    while True:
        with taken.get_lock():
            item = taken.value
            taken.value += 1
        if item >= CPU_ITEMS:
            return
        busy(item, loops)


def calibrated() -> int:
    """Return how many loops keep one core busy for `CPU_SECONDS`."""
    loops = 10_000
    busy(0, loops)
    start = perf_counter()
    busy(0, loops)
    return int(loops * CPU_SECONDS / (perf_counter() - start))


def ours(stack: ExitStack, function: Callable[..., Any], count: int, **shared: Any) -> Contender:
    """Return a map on warm workers of `ProcessPoolExecutor`."""
    from hypernodes import Pipeline, ProcessPoolExecutor, RuntimeConfig, node

    executor = stack.enter_context(ProcessPoolExecutor(max_workers=WORKERS))
    pipeline = Pipeline([node("y")(function)])
    config = RuntimeConfig(executor=executor)
    return lambda: pipeline.map({"x": range(count), **shared}, map_over="x", config=config)


def trivial(stack: ExitStack) -> Iterator[tuple[str, Contender]]:
    """Yield the contenders for items that cost nothing."""
    yield "hypernodes", ours(stack, successor, TRIVIAL_ITEMS)
    context = multiprocessing.get_context("forkserver")
    pool = stack.enter_context(futures.ProcessPoolExecutor(WORKERS, context))
    chunks = [range(i, i + CHUNK) for i in range(0, TRIVIAL_ITEMS, CHUNK)]
    yield (
        "concurrent.futures, chunks by hand",
        lambda: [y for chunk in pool.map(successors, chunks) for y in chunk],
    )
    yield from joblib(stack)
    yield from pipefunc(pool)


def joblib(stack: ExitStack) -> Iterator[tuple[str, Contender]]:
    try:
        from joblib import Parallel, delayed
    except ImportError:
        return
    parallel = stack.enter_context(Parallel(n_jobs=WORKERS))
    yield "joblib", lambda: parallel(delayed(successor)(x) for x in range(TRIVIAL_ITEMS))


def pipefunc(pool: futures.Executor) -> Iterator[tuple[str, Contender]]:
    try:
        from pipefunc import PipeFunc, Pipeline
    except ImportError:
        return
    pipeline = Pipeline([PipeFunc(successor, "y", mapspec="x[i] -> y[i]")])
    inputs = {"x": list(range(TRIVIAL_ITEMS))}
    yield (
        "pipefunc",
        lambda: pipeline.map(inputs, executor=pool, storage="dict", show_progress=False),
    )


def cpu(stack: ExitStack) -> Iterator[tuple[str, Contender]]:
    """Yield the contenders for items that keep a core busy."""
    loops = calibrated()
    yield "hypernodes", ours(stack, busy, CPU_ITEMS, loops=loops)
    yield "bare processes that share the list", partial(bare, loops)
    try:
        from joblib import Parallel, delayed
    except ImportError:
        return
    parallel = stack.enter_context(Parallel(n_jobs=WORKERS))
    yield "joblib", lambda: parallel(delayed(busy)(x, loops) for x in range(CPU_ITEMS))


def bare(loops: int) -> None:
    context = multiprocessing.get_context("forkserver")
    taken = context.Value("q", 0)
    processes = [context.Process(target=busy_share, args=(taken, loops)) for _ in range(WORKERS)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()


def race(contenders: Sequence[tuple[str, Contender]], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each contender in each round."""
    seconds: dict[str, list[float]] = {name: [] for name, _ in contenders}
    for _, call in contenders:
        call()
    for turn in range(rounds):
        shift = turn % len(contenders)
        for name, call in (*contenders[shift:], *contenders[:shift]):
            start = perf_counter()
            call()
            seconds[name].append(perf_counter() - start)
    return seconds


def show(title: str, seconds: dict[str, list[float]], factor: float, unit: str) -> None:
    print(title)
    for name, found in seconds.items():
        best, typical = min(found) * factor, statistics.median(found) * factor
        print(f"  {name:36} best {best:9.2f}  median {typical:9.2f} {unit}")
    print()


def main() -> None:
    """Race, and print the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.processes", description=__doc__)
    parser.add_argument("--rounds", type=int, default=11)
    rounds = parser.parse_args().rounds
    with ExitStack() as stack:
        contenders = list(trivial(stack))
        rows = contenders[0][1]()
        check(rows == [{"y": x + 1} for x in range(TRIVIAL_ITEMS)], rows[:3])
        title = f"{TRIVIAL_ITEMS:,} trivial items on {WORKERS} warm workers"
        show(title, race(contenders, rounds), 1e6 / TRIVIAL_ITEMS, "us an item")
    with ExitStack() as stack:
        title = f"{CPU_ITEMS} items of {CPU_SECONDS * 1e3:g} ms of CPU on {WORKERS} warm workers"
        show(title, race(list(cpu(stack)), max(3, rounds // 2)), 1e3, "ms in all")


if __name__ == "__main__":
    main()
