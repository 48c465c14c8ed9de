"""The opening and closing of workers, as the callbacks of the run see it that needed them first."""

from __future__ import annotations

import atexit
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from weakref import WeakSet

from hypernodes._engine.observing.runs import SCENE
from hypernodes._engine.observing.script import calls
from hypernodes._engine.observing.witness import clock
from hypernodes.callbacks import CallbackContext

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypernodes._engine.observing.runs import Run
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
    scene, table = SCENE.get(), config.table
    options: dict[str, Any] = {}
    if scene is None or table is None:
        return open_workers(options)
    run, place = scene.run, _Opening(scene.run.path, config)
    starts, stops = calls(table, "on_executor_start"), calls(table, "on_executor_stop")
    run.session.fire_and_wait(starts, _context(run, place), executor, options)
    workers = open_workers(options)
    if stops:
        workers.farewell = partial(_tell_stop, stops, run, place, executor, options)
        _open.add(workers)
    return workers


def _tell_stop(
    stops: Calls, run: Run, place: _Opening, executor: object, options: dict[str, Any]
) -> None:
    run.session.fire_late(stops, _context(run, place), executor, options)


def _context(run: Run, place: _Opening) -> CallbackContext:
    return CallbackContext(run, place, clock(), run.item_index)
