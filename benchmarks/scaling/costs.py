"""What things cost: as `measure` has found it on a machine with two cores, and what is assumed."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from benchmarks.scaling import rules
from benchmarks.scaling.parts import Costs
from hypernodes._engine.clusters.dask import COST as DASK_COST
from hypernodes._engine.clusters.ray import COST as RAY_COST

US: Final = 1e-6

PROCESSES: Final = Costs(
    driver_item=0.7 * US,
    driver_chunk=46 * US,
    driver_worker=0.086 * US,
    worker_item=1.4 * US,
    worker_chunk=25 * US,
    restart=0.037,
)
"""Worker processes of one machine."""

DASK: Final = replace(
    PROCESSES,
    driver_item=1.2 * US,
    driver_chunk=780 * US,
    driver_worker=0.36 * US,
    driver_turn=1.4 * US,
    driver_look=1040 * US,
    scheduler_chunk=930 * US,
    scheduler_look=660 * US,
    worker_item=2.1 * US,
    worker_chunk=1330 * US,
    latency=500 * US,  # assumed
    looks=rules.LOOK,
    fresh=rules.FRESH,
    hides=rules.HIDES * DASK_COST,
    patience=rules.CLUSTER_PATIENCE,
    verdict=4.0,  # assumed
    restart=30.0,  # assumed
    is_isolating=False,
)
"""Workers behind a Dask scheduler: a task for each chunk."""

BARE_DRIVER: Final = 180 * US
BARE_SCHEDULER: Final = 360 * US
"""What a task of Dask costs without anything of hypernodes."""

RAY: Final = replace(
    DASK,
    driver_item=1.1 * US,
    driver_chunk=580 * US,
    driver_look=580 * US,  # assumed: a call of an actor, as a chunk is
    scheduler_chunk=0.0,
    scheduler_look=0.0,
    worker_item=1.5 * US,
    worker_chunk=480 * US,
    hides=rules.HIDES * RAY_COST,
)
"""Workers that are actors of Ray: nobody is between them and the driver."""

FIND: Final = 7.0 * US
"""To sign an item and look for it in a `DiskCache`, found or not."""
STORE: Final = 44.0 * US
TELL_ITEMS: Final = 5.6 * US
TELL_NODES: Final = 10.5 * US
"""What an item of one node costs the driver where its start and end are asked for."""
