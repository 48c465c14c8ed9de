"""What chunks cost on Dask and on Ray, and what a thousand places cost their pool."""

from __future__ import annotations

import math
import os
import time
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from benchmarks.scaling import rules
from benchmarks.scaling.measure import CROWD, LOOPS, ON_DRIVER, Figure, by_parts, least, timed
from benchmarks.scaling.standin import BUSY, StandIn, StandInExecutor
from hypernodes import DaskExecutor, Pipeline, RayExecutor, RuntimeConfig, node
from hypernodes._engine.clusters.fitness import workers_of
from hypernodes.abc import RunContext

if TYPE_CHECKING:
    from collections.abc import Iterator

FEW, MANY = 2_000, 100_000
TASKS = 2_000
NAPS = 500
CHUNKS = 5_000
NEVER = 3600.0
OFTEN = 0.02
"""Seconds after which workers are asked how far they are, so that it is seen what that costs."""


def of_clusters() -> Iterator[Figure]:
    """Yield what engines and their pool cost."""
    yield from of_pool()
    yield from of_dask()
    yield from of_ray()


# ---------------------------------------------------------------- the pool


def of_pool() -> Iterator[Figure]:
    """Yield what places add to the driver's cost of a chunk, and of a turn."""
    for places in (2, CROWD):
        seconds = least(lambda: through_pool(places)) / CHUNKS  # noqa: B023 - called at once
        yield Figure(f"pool of {places:,} places, a chunk", seconds * 1e6, "us")
    for places in (100, CROWD):
        yield from of_crowd(places)


def of_crowd(places: int) -> Iterator[Figure]:
    """Yield what it takes to choose one of so many places, and to look at all of them."""
    pool = crowded(places)
    for name, call, loops in (
        ("chosen", lambda: (pool._allotment.candidate(), pool.size), LOOPS),  # noqa: SLF001 - parts
        ("a turn", lambda: (pool._tick(), pool._timeout()), 1),  # noqa: SLF001 - of the pool
    ):
        seconds = least(lambda: timed(lambda: [call() for _ in range(loops)])) / loops  # noqa: B023
        yield Figure(f"pool of {places:,} places, {name}", seconds * 1e6, "us")


def through_pool(places: int) -> float:
    """Return the driver's processor time of chunks that nobody computes."""
    pipeline = Pipeline([node("y")(same)])
    inputs: dict[str, Any] = {"inputs": {"x": range(CHUNKS)}, "map_over": "x"}
    with StandInExecutor(places=places, chunks=CHUNKS, chunksize=1) as executor:
        config = RuntimeConfig(executor=executor)
        return timed(lambda: pipeline.map(**inputs, config=config))


def same(x):
    """Return what comes."""
    return x


def crowded(places: int) -> rules.clusters.ClusterPool:
    """Return a pool that is closed, and looks as it did when each of its places had chunks."""
    pool = rules.clusters.ClusterPool(StandIn(places, 1), chunksize=1)
    pool.close()
    pipeline = Pipeline([node("y")(same)])
    engine = pipeline.engine(("x",), RunContext(RuntimeConfig(executor="sequential"), path=("y",)))
    source = SimpleNamespace(
        closed=False,
        is_new=False,
        waiting=1,
        due=None,
        engine=engine,
        steps_of=lambda _: engine.plan.steps,
    )
    chunk: Any = SimpleNamespace(source=source, entries=[0, 1], trouble=None)
    for place in pool._places.values():  # noqa: SLF001 - what is measured are parts of it
        for _ in range(BUSY):
            pool._flights.begin(chunk, place)  # noqa: SLF001
    return pool


# ---------------------------------------------------------------- Dask


@contextmanager
def dask() -> Iterator[tuple[Any, Any]]:
    """Start a Dask cluster of two workers; yield its client, and who meters its scheduler."""
    import psutil
    from distributed.deploy.subprocess import SubprocessCluster

    options = {"n_workers": 2, "worker_kwargs": {"nthreads": 1}}
    with SubprocessCluster(**options) as cluster, cluster.get_client() as client:
        client.wait_for_workers(2)
        process = psutil.Process(client.run_on_scheduler(os.getpid))
        yield client, lambda: sum(process.cpu_times()[:2])


def of_dask() -> Iterator[Figure]:
    """Yield what a chunk costs, what a bare task does, and what it costs to look after one."""
    with dask() as (client, scheduler):
        meters = ON_DRIVER | {"scheduler": scheduler}
        yield from by_parts(DaskExecutor, "Dask", FEW, MANY, meters)
        yield from of_tasks(client, meters)
        yield from of_looks(meters)


def of_tasks(client: Any, meters: Any) -> Iterator[Figure]:
    """Yield what a task of Dask costs without anything of hypernodes."""
    places = list(workers_of(client))
    for name, spent in meters.items():
        seconds = least(lambda: bare(client, places, spent)) / TASKS  # noqa: B023
        yield Figure(f"Dask, a bare task, {name}", seconds * 1e6, "us")


def bare(client: Any, places: list[str], spent: Any) -> float:
    """Return what pinned tasks cost."""
    before = spent()
    futures = [
        client.submit(math.sqrt, number, pure=False, workers=[places[number % 2]])
        for number in range(TASKS)
    ]
    client.gather(futures)
    seconds = spent() - before
    del futures
    time.sleep(0.5)
    return float(seconds)


def of_looks(meters: Any) -> Iterator[Figure]:
    """Yield what it costs to ask a worker how far it is."""
    never = [looked(meters, NEVER) for _ in range(2)]
    often = [looked(meters, OFTEN) for _ in range(2)]
    for name in meters:
        more = min(sample[name] for sample in often) - min(sample[name] for sample in never)
        asked = often[0]["looks"] - never[0]["looks"]
        yield Figure(f"Dask, a look, {name}", more / asked * 1e6, "us")
    yield Figure("Dask, looks, each worker and second", looked(meters, rules.FRESH)["rate"], "")


def looked(meters: Any, often: float) -> dict[str, float]:
    """Return what a map of items that sleep costs, where workers are looked after so often."""
    pipeline = Pipeline([node("y")(nap)])
    looks: list[str] = []
    with DaskExecutor(chunksize=50) as executor:
        config = RuntimeConfig(executor=executor)
        pipeline.map({"x": range(8)}, map_over="x", config=config)
        with patch.object(rules.underway, "FRESH", often), counted(looks):
            before = {name: spent() for name, spent in meters.items()}
            began = time.perf_counter()
            pipeline.map({"x": range(2 * NAPS)}, map_over="x", config=config)
            seconds = time.perf_counter() - began
            found = {name: spent() - before[name] for name, spent in meters.items()}
    return found | {"looks": len(looks), "rate": len(looks) / 2 / seconds}


def nap(x):
    """Sleep for 10 ms."""
    time.sleep(0.01)
    return x


@contextmanager
def counted(looks: list[str]) -> Iterator[None]:
    """Take note of who is asked."""
    from hypernodes._engine.clusters.dask import DaskCluster

    look = DaskCluster.look

    def noted(cluster: Any, place: str, *args: Any, **kwargs: Any) -> None:
        looks.append(place)
        look(cluster, place, *args, **kwargs)

    with patch.object(DaskCluster, "look", noted):
        yield


# ---------------------------------------------------------------- Ray


def of_ray() -> Iterator[Figure]:
    """Yield what a chunk costs on two workers."""
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        yield from by_parts(RayExecutor, "Ray", FEW, MANY)
    finally:
        ray.shutdown()
