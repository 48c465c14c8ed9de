"""A program of its own that runs an executor until it is interrupted; see `_suite.interrupts`.

Usage: `python -m hypernodes.testing._driver WAY FOLDER EXECUTOR`, the executor pickled and in hex.
It leaves a mark with its process id for each call of a node, and says when it was interrupted.
"""

from __future__ import annotations

import os
import pickle
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hypernodes._node import node
from hypernodes.config import RuntimeConfig
from hypernodes.pipeline import Pipeline
from hypernodes.testing._work import Marks

if TYPE_CHECKING:
    from collections.abc import Callable

WAYS: Final = ("run", "map", "map_iter", "nested map")
ITEMS: Final = 20_000


def main(way: str, folder: str, executor: str) -> None:
    """Run until interrupted."""
    config = RuntimeConfig(executor=pickle.loads(bytes.fromhex(executor)))  # noqa: S301 - our own
    try:
        run(way, working(Marks(Path(folder))), config)
    except KeyboardInterrupt:
        print("interrupted", time.time(), flush=True)  # noqa: T201 - whoever started this reads it


def working(marks: Marks) -> Callable[[int], int]:
    """Return the function of all nodes."""

    def work(x: int) -> int:
        marks.leave(os.getpid())
        time.sleep(0.05)
        return x

    return work


def run(way: str, work: Callable[[int], int], config: RuntimeConfig) -> Any:
    """Run `work` for very long, in one of the `WAYS`."""
    pipeline = Pipeline([node("y")(work)], name="long")
    items = range(ITEMS)
    if way == "map":
        return pipeline.map({"x": items}, map_over="x", config=config)
    if way == "map_iter":
        return list(pipeline.map_iter({"x": items}, map_over="x", config=config))
    if way == "nested map":
        return Pipeline([pipeline.as_node(map_over="x")]).run({"x": items}, config=config)
    wide = Pipeline([node(f"y{number}")(work) for number in range(ITEMS // 10)])
    return wide.run({"x": 1}, config=config)


if __name__ == "__main__":
    main(*sys.argv[1:])
