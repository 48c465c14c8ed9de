"""A program of its own that drives an executor until it is interrupted; see `_suite.drivers`.

Usage: `python -m hypernodes.testing._driver WAY FOLDER EXECUTOR`, the executor pickled and in hex.
Each call of a node leaves a mark with its process id; when it is interrupted, it says so.
"""

from __future__ import annotations

import os
import pickle
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hypernodes._node import node
from hypernodes.config import RuntimeConfig
from hypernodes.pipeline import Pipeline
from hypernodes.testing._work import Marks

if TYPE_CHECKING:
    from collections.abc import Callable

WAYS: Final = ("run", "map", "mapped run", "nested map", "mapped nested map")
ENDS: Final = "ends"
MANY: Final = 10_000


def main(way: str, folder: str, executor: str) -> None:
    """Run until interrupted, or to the end."""
    config = RuntimeConfig(executor=pickle.loads(bytes.fromhex(executor)))  # noqa: S301 - our own
    work = working(Marks(Path(folder)))
    try:
        leave_much_open(work, config) if way == ENDS else run(way, work, config)
    except KeyboardInterrupt:
        print("interrupted", time.time(), flush=True)  # noqa: T201 - whoever started this reads it


def working(marks: Marks) -> Callable[[int], int]:
    """Return the function of all nodes."""

    def work(x: int) -> int:
        marks.leave(os.getpid())
        time.sleep(0.05)
        return x

    return work


def run(way: str, work: Callable[[int], int], config: RuntimeConfig) -> None:
    """Run `work` for very long, in one of the `WAYS`."""
    one = Pipeline([node("y")(work)], name="one")
    each = Pipeline([one.as_node(map_over="x")], name="each")
    if way == "run":
        chains(work).run({"x": 1}, config=config)
    elif way == "map":
        one.map({"x": range(MANY)}, map_over="x", config=config)
    elif way == "mapped run":
        chains(work).map({"x": range(MANY)}, map_over="x", config=config)
    elif way == "nested map":
        each.run({"x": range(MANY)}, config=config)
    else:
        each.map({"x": [range(100)] * 100}, map_over="x", config=config)


def chains(work: Callable[[int], int]) -> Pipeline:
    """Return a pipeline of twenty chains of fifty nodes."""
    nodes = []
    for chain in range(20):
        taken = "x"
        for place in range(50):
            made = f"y{chain}_{place}"
            nodes.append(node(made)(work).rename(inputs={"x": taken}))
            taken = made
    return Pipeline(nodes, name="chains")


def leave_much_open(work: Callable[[int], int], config: RuntimeConfig) -> None:
    """Run in many ways, and leave open what was opened."""

    async def later(x: int) -> int:
        return x

    nodes = [node("y")(work), node("z", timeout=60.0)(lambda x: x), node("later")(later)]
    pipeline = Pipeline(nodes)
    pipeline.run({"x": 1}, config=config)
    next(pipeline.map_iter({"x": range(MANY)}, map_over="x", config=config))
    results = pipeline.map_iter({"x": range(MANY)}, map_over="x", config=config)
    next(results)
    globals()["left"] = results  # until the interpreter lets go of it


if __name__ == "__main__":
    main(*sys.argv[1:])
