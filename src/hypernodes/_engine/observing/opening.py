"""The opening and closing of workers, as the callbacks of the run see it that needed them first."""

from __future__ import annotations

import atexit
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from weakref import WeakSet

from hypernodes._dispatch.session import Session
from hypernodes._engine.observing.runs import SCENE
from hypernodes._engine.observing.script import calls
from hypernodes._engine.observing.stage import Scenery
from hypernodes._engine.observing.witness import clock
from hypernodes.callbacks import CallbackContext

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypernodes._engine.observing.script import Calls
    from hypernodes._engine.workers import Workers
    from hypernodes.config import RuntimeConfig

_open: Final[WeakSet[Workers]] = WeakSet()


@atexit.register
def _say_farewell() -> None:
    """Tell of the workers that end with the interpreter."""
    for workers in tuple(_open):
        workers.part()


class _Opening(NamedTuple):
    """Where workers are opened; see `Place`."""

    path: tuple[str, ...]
    config: RuntimeConfig
    node: None = None


def opened(
    executor: object, config: RuntimeConfig, open_workers: Callable[[dict[str, Any]], Workers]
) -> Workers:
    """Open workers, with the options that callbacks of what needs them first fill in.

    Args:
        executor: Whose workers they are.
        config: The config in force for what needs them.
        open_workers: Opens them, given the options.
    """
    current, table = SCENE.get(), config.table
    options: dict[str, Any] = {}
    if current is None or table is None:
        return open_workers(options)
    run, place = current.run, _Opening(current.run.path, config)
    starts, stops = calls(table, "on_executor_start"), calls(table, "on_executor_stop")
    ctx = CallbackContext(run, place, clock(), run.item_index)
    run.session.fire_and_wait(starts, ctx, executor, options)
    workers = open_workers(options)
    if stops:
        scene = Scenery(run.run_id, run.parent_run_id, run.mode, run.pipeline)
        workers.farewell = partial(_tell_stop, stops, scene, place, executor, options)
        _open.add(workers)
    return workers


def _tell_stop(
    stops: Calls, scene: Scenery, place: _Opening, executor: object, options: dict[str, Any]
) -> None:
    """Tell of the closing, which comes when the run may be long over: nothing is kept of it."""
    Session().fire_late(stops, CallbackContext(scene, place, clock()), executor, options)
