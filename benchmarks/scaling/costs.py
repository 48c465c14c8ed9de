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
    driver_item=1.5 * US,
    driver_chunk=41 * US,
    driver_worker=0.08 * US,
    worker_item=1.6 * US,
    worker_chunk=25 * US,
    restart=0.03,
)
"""Worker processes of one machine."""

DASK: Final = replace(
    PROCESSES,
    driver_item=2.0 * US,
    driver_chunk=1200 * US,
    driver_worker=0.12 * US,
    driver_turn=0.42 * US,
    driver_look=700 * US,
    scheduler_chunk=1470 * US,
    scheduler_look=450 * US,
    worker_item=2.3 * US,
    worker_chunk=1970 * US,
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

BARE_DRIVER: Final = 225 * US
BARE_SCHEDULER: Final = 485 * US
"""What a task of Dask costs without anything of hypernodes."""

RAY: Final = replace(
    DASK,
    driver_item=2.5 * US,
    driver_chunk=420 * US,
    driver_look=420 * US,  # assumed: a call of an actor, as a chunk is
    scheduler_chunk=0.0,
    scheduler_look=0.0,
    worker_item=1.8 * US,
    worker_chunk=415 * US,
    hides=rules.HIDES * RAY_COST,
)
"""Workers that are actors of Ray: nobody is between them and the driver."""

FIND: Final = 6.3 * US
"""To sign an item and look for it in a `DiskCache`, found or not."""
STORE: Final = 40.0 * US
TELL_ITEMS: Final = 4.7 * US
TELL_NODES: Final = 7.3 * US
"""What an item of one node costs the driver where its start and end are asked for."""
