"""What things cost: as `measure` has found it on a machine with two cores, and what is assumed."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from benchmarks.scaling.parts import Costs

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

CLUSTER: Final = replace(
    PROCESSES,
    driver_chunk=(41 + 192) * US,
    scheduler_chunk=370 * US,
    latency=500 * US,  # assumed
    hides=0.04,
    verdict=4.0,
    restart=30.0,  # assumed
    is_isolating=False,
)
"""Workers behind a Dask scheduler: a task for each chunk, on top of what processes cost."""

FIND: Final = 6.3 * US
"""To sign an item and look for it in a `DiskCache`, found or not."""
STORE: Final = 40.0 * US
TELL_ITEMS: Final = 4.7 * US
TELL_NODES: Final = 7.3 * US
"""What an item of one node costs the driver where its start and end are asked for."""
