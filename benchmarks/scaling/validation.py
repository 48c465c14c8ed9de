"""The same maps simulated and run: `python -m benchmarks.scaling validate`."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest.mock import patch

from benchmarks.measure import check
from benchmarks.scaling import rules
from benchmarks.scaling.clusters import dask
from benchmarks.scaling.costs import DASK, PROCESSES
from benchmarks.scaling.parts import Work
from benchmarks.scaling.simulation import Simulation
from hypernodes import DaskExecutor, Pipeline, ProcessPoolExecutor, RuntimeConfig, node

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.scaling.parts import Costs
    from hypernodes.abc import Executor

ROUNDS = 5
DASK_ROUNDS = 3


@dataclass(frozen=True)
class Case:
    """A map that is run and simulated.

    Attributes:
        name: What its items do.
        seconds: For how long.
        items: How many there are.
        workers: How many do it.
        body: What an item runs.
    """

    name: str
    seconds: float
    items: int
    workers: int
    body: Callable[[float, Any], Any]

    @property
    def pipeline(self) -> Pipeline:
        """What an item runs."""
        return Pipeline([node("y")(partial(self.body, self.seconds))])


class Verdict(NamedTuple):
    """How long a map took and how many chunks it had, run and simulated."""

    case: Case
    seconds: float
    chunks: int
    simulated_seconds: float
    simulated_chunks: int


def idle(seconds, x):  # noqa: ARG001 - takes what the others take
    """Do nothing."""
    return x


def busy(seconds, x):
    """Use a processor for so many seconds."""
    end = process_time() + seconds
    while process_time() < end:
        pass
    return x


def asleep(seconds, x):
    """Use none."""
    time.sleep(seconds)
    return x


CASES = (
    Case("nothing", 0.0, 1_000_000, 2, idle),
    Case("compute 20 us", 20e-6, 500_000, 2, busy),
    Case("compute 100 us", 100e-6, 100_000, 2, busy),
    Case("compute 1 ms", 1e-3, 10_000, 2, busy),
    Case("sleep 10 ms", 10e-3, 20_000, 32, asleep),
    Case("sleep 50 ms", 50e-3, 5_000, 32, asleep),
)


DASK_CASES = (
    Case("nothing", 0.0, 100_000, 2, idle),
    Case("sleep 1 ms", 1e-3, 5_000, 2, asleep),
    Case("sleep 10 ms", 10e-3, 1_000, 2, asleep),
    Case("sleep 1 s", 1.0, 20, 2, asleep),
)


def verdicts() -> Iterator[Verdict]:
    """Run and simulate each case."""
    for case in CASES:
        yield verdict(case, min(on_processes(case) for _ in range(ROUNDS)), PROCESSES)
    with dask():
        for case in DASK_CASES:
            on_dask = replace(case, name=f"{case.name}, Dask")
            yield verdict(on_dask, min(on_cluster(case) for _ in range(DASK_ROUNDS)), DASK)


def verdict(case: Case, found: tuple[float, int], costs: Costs) -> Verdict:
    """Simulate what was run."""
    work = Work(items=case.items, seconds=case.seconds, known=True)
    simulated = Simulation(work, case.workers, costs).run()
    return Verdict(case, *found, simulated.seconds, simulated.chunks)


def on_processes(case: Case) -> tuple[float, int]:
    """Run a map on warm processes; return the time by the clock, and how many chunks it had."""
    with ProcessPoolExecutor(max_workers=case.workers) as executor:
        return ran(case, executor, rules.hand.Hand, "give")


def on_cluster(case: Case) -> tuple[float, int]:
    """Run a map on the cluster of the program's Dask client; return what `on_processes` does."""
    from hypernodes._engine.clusters.dask import DaskCluster

    with DaskExecutor() as executor:
        return ran(case, executor, DaskCluster, "submit")


def ran(case: Case, executor: Executor, giver: type, name: str) -> tuple[float, int]:
    """Run a map; count the calls of the method that sends a chunk."""
    given: list[Any] = []
    give = getattr(giver, name)

    def counted(*args: Any) -> None:
        given.append(name)
        give(*args)

    config = RuntimeConfig(executor=executor)
    case.pipeline.map({"x": range(20 * case.workers)}, map_over="x", config=config)
    with patch.object(giver, name, counted):
        before = perf_counter()
        results = case.pipeline.map({"x": range(case.items)}, map_over="x", config=config)
        seconds = perf_counter() - before
    check([result["y"] for result in results] == list(range(case.items)), results[:3])
    return seconds, len(given)
