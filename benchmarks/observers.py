"""What an observer adds to a node, and to an item: `python -m benchmarks.observers [--rounds N]`.

A chain of trivial nodes, run plainly, with a config that nobody observes, and with observers of the
starts and ends of nodes. Then maps of short items, without and with progress, and with an observer
of items. Each round runs every contender once, in turning order.
"""

from __future__ import annotations

import argparse
import io
import statistics
from time import perf_counter
from typing import TYPE_CHECKING, Any

from benchmarks.measure import check, time_once

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LENGTH = 1_000
REPEATS = 5
MOST = 2.0  # us a node
ITEMS = 10_000
MOST_OF_MAPS = 0.05  # of the time without progress


def successor(x):
    return x


def contenders() -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield runs of one chain under configs that differ in their callbacks."""
    from hypernodes import Callback, Pipeline, RuntimeConfig, node

    class Starts(Callback):
        def on_node_start(self, node):
            """Note a start."""

        def on_node_end(self, node, duration):
            """Note an end."""

    class Contexts(Callback):
        def on_node_start(self, ctx, node):
            """Note a start, and where."""

        def on_node_end(self, ctx, node, duration):
            """Note an end, and where."""

    class Elsewhere(Callback):
        def on_cache_hit(self, node):
            """Never called here."""

    nodes = [node(f"n{i + 1}")(successor).rename({"x": f"n{i}"}) for i in range(LENGTH)]
    pipeline = Pipeline(nodes)
    callbacks = {
        "nobody": (),
        "nobody, again": (),
        "of other events": (Elsewhere(),),
        "starts and ends": (Starts(),),
        "with contexts": (Contexts(),),
    }
    for title, observers in callbacks.items():
        config = RuntimeConfig(executor="sequential", callbacks=observers)
        yield title, lambda c=config: pipeline.run({"n0": 1}, output_name=f"n{LENGTH}", config=c)


def summed(x):
    """Compute for some 50 us."""
    total = 0
    for number in range(2_000):
        total += number ^ x
    return total


def map_contenders(executor: Any) -> dict[str, Callable[[], Any]]:
    """Return maps of short items that differ in their callbacks."""
    from hypernodes import Callback, Pipeline, RuntimeConfig, node
    from hypernodes.telemetry import ProgressCallback

    class Ends(Callback):
        def on_item_end(self, index, duration):
            """Note an end."""

    pipeline = Pipeline([node("y")(summed)])
    progress = ProgressCallback(io.StringIO())
    callbacks = {"nobody": (), "progress": (progress,), "ends of items": (Ends(),)}
    configs = {t: RuntimeConfig(executor=executor, callbacks=c) for t, c in callbacks.items()}
    items = {"x": range(ITEMS)}
    return {t: lambda c=c: pipeline.map(items, map_over="x", config=c) for t, c in configs.items()}


def in_turns(
    calls: dict[str, Callable[[], Any]], rounds: int, time: Callable[[Callable[[], Any]], float]
) -> dict[str, list[float]]:
    """Return what `time` gives for each call, in each round."""
    samples: dict[str, list[float]] = {title: [] for title in calls}
    for turn in range(rounds):
        order = list(calls)[turn % len(calls) :] + list(calls)[: turn % len(calls)]
        for title in order:
            samples[title].append(time(calls[title]))
    return samples


def race_maps(rounds: int) -> None:
    """Print what observers add to the items of maps."""
    from hypernodes import ProcessPoolExecutor, SequentialExecutor, ThreadPoolExecutor

    print(f"\nus an item, {ITEMS} items, {rounds} rounds; progress adds at most {MOST_OF_MAPS:.0%}")
    executors = {
        "sequential": SequentialExecutor(),
        "2 threads": ThreadPoolExecutor(max_workers=2),
        "2 processes": ProcessPoolExecutor(max_workers=2),
    }
    for name, executor in executors.items():
        calls = map_contenders(executor)
        for call in calls.values():
            check(len(call()) == ITEMS, call)
        samples = in_turns(calls, rounds, lambda call: time_once(call) / ITEMS * 1e6)
        plain = samples["nobody"]
        for title, values in samples.items():
            ratio = statistics.median(a / b for a, b in zip(values, plain, strict=True)) - 1
            added = f"adds {ratio:6.1%} (min {min(values) / min(plain) - 1:.1%})"
            middle = statistics.median(values)
            print(f"{name:12} {title:14} {middle:7.2f} (min {min(values):.2f})  {added}")
        executor.close()


def timed(call: Callable[[], Any]) -> float:
    """Return the microseconds a node takes."""
    start = perf_counter()
    for _ in range(REPEATS):
        call()
    return (perf_counter() - start) / REPEATS / LENGTH * 1e6


def main() -> None:
    """Race and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=31)
    rounds = parser.parse_args().rounds
    calls = dict(contenders())
    for call in calls.values():
        check(call() == {f"n{LENGTH}": 1}, call())
    samples = in_turns(calls, rounds, timed)
    plain, least = statistics.median(samples["nobody"]), min(samples["nobody"])
    print(f"us a node, {LENGTH} nodes, {rounds} rounds; at most {MOST} more for starts and ends")
    for title, values in samples.items():
        median = statistics.median(values)
        added = f"adds {median - plain:6.3f} (min {min(values) - least:.3f})"
        print(f"{title:16} {median:7.3f} (min {min(values):.3f})  {added}")
    race_maps(rounds)


if __name__ == "__main__":
    main()
