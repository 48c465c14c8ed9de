"""How pipelines run: one module for each executor, and their contract."""

from hypernodes.abc import Executor
from hypernodes.executors.asynchronous import AsyncExecutor
from hypernodes.executors.composite import CompositeExecutor
from hypernodes.executors.dask import DaskExecutor
from hypernodes.executors.process import ProcessPoolExecutor
from hypernodes.executors.ray import RayExecutor
from hypernodes.executors.sequential import SequentialExecutor
from hypernodes.executors.thread import ThreadPoolExecutor

__all__ = [
    "AsyncExecutor",
    "CompositeExecutor",
    "DaskExecutor",
    "Executor",
    "ProcessPoolExecutor",
    "RayExecutor",
    "SequentialExecutor",
    "ThreadPoolExecutor",
]
