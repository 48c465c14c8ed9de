"""What an observer adds to a node: `python -m benchmarks.observers [--rounds N]`.

A chain of trivial nodes, run plainly, with a config that nobody observes, and with observers of the
starts and ends of nodes. Each round runs every contender once, in turning order.
"""

from __future__ import annotations

import argparse
import statistics
from time import perf_counter
from typing import TYPE_CHECKING, Any

from benchmarks.measure import check

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LENGTH = 1_000
REPEATS = 5
MOST = 2.0  # us a node


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
    samples: dict[str, list[float]] = {title: [] for title in calls}
    for turn in range(rounds):
        order = list(calls)[turn % len(calls) :] + list(calls)[: turn % len(calls)]
        for title in order:
            samples[title].append(timed(calls[title]))
    plain, least = statistics.median(samples["nobody"]), min(samples["nobody"])
    print(f"us a node, {LENGTH} nodes, {rounds} rounds; at most {MOST} more for starts and ends")
    for title, values in samples.items():
        median = statistics.median(values)
        added = f"adds {median - plain:6.3f} (min {min(values) - least:.3f})"
        print(f"{title:16} {median:7.3f} (min {min(values):.3f})  {added}")


if __name__ == "__main__":
    main()
