"""The opening and closing of workers, as the callbacks of the run see it that needed them first."""

from __future__ import annotations

import atexit
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakSet

from hypernodes._engine.observing.passes import Guest
from hypernodes._engine.observing.runs import SCENE
from hypernodes._engine.observing.script import calls
from hypernodes._engine.observing.witness import clock

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypernodes._engine.observing.runs import Run
    from hypernodes._engine.workers import Workers

_open: Final[WeakSet[Workers]] = WeakSet()


@atexit.register
def _say_farewell() -> None:
    """Tell of the workers that end with the interpreter."""
    for workers in tuple(_open):
        workers.part()


def opened(executor: object, open_workers: Callable[[dict[str, Any]], Workers]) -> Workers:
    """Open workers, with the options that callbacks of the current run fill in.

    Args:
        executor: Whose workers they are.
        open_workers: Opens them, given the options.
    """
    scene = SCENE.get()
    run = scene.run if isinstance(scene, Guest) else scene
    options: dict[str, Any] = {}
    if run is None or run.table is None:
        return open_workers(options)
    starts, stops = calls(run.table, "on_executor_start"), calls(run.table, "on_executor_stop")
    with run.session.lock:
        run.session.fire(starts, run.context(clock()), executor, options)
    workers = open_workers(options)
    if stops:
        workers.farewell = partial(_tell_stop, run, executor, options)
        _open.add(workers)
    return workers


def _tell_stop(run: Run, executor: object, options: dict[str, Any]) -> None:
    stops = calls(run.table, "on_executor_stop")
    run.session.fire_late(stops, run.context(clock()), executor, options)
