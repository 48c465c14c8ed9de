"""What things cost: as `measure` has found it on a machine with two cores, and what is assumed."""

from __future__ import annotations

from typing import Final

from benchmarks.scaling.parts import Costs

US: Final = 1e-6

PROCESSES: Final = Costs(
    driver_item=1.83 * US,
    driver_chunk=40.8 * US,
    driver_worker=0.12 * US,
    worker_item=1.65 * US,
    worker_chunk=23.1 * US,
    restart=0.05,
)
"""Worker processes of one machine."""

CLUSTER: Final = Costs(
    driver_item=1.83 * US,
    driver_chunk=(40.8 + 192) * US,
    driver_worker=0.12 * US,
    scheduler_chunk=370 * US,
    latency=500 * US,  # assumed
    worker_item=1.65 * US,
    worker_chunk=23.1 * US,
    hides=0.04,
    verdict=4.0,
    restart=30.0,  # assumed
    is_isolating=False,
)
"""Workers behind a Dask scheduler: a task for each chunk, on top of what processes cost."""

FIND: Final = 6.5 * US
"""To sign an item and look for it in a `DiskCache`, found or not."""
STORE: Final = 40.0 * US
TELL_ITEMS: Final = 4.7 * US
TELL_NODES: Final = 7.3 * US
"""What an item of one node costs the driver where its start and end are asked for."""
