"""Runs as the driver follows them: their own events, and the end of all that is open inside."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

from hypernodes._dispatch.needs import COUNTER
from hypernodes._engine.observing.passes import Pass, abandoned
from hypernodes._engine.observing.script import calls
from hypernodes._engine.observing.tally import Tally
from hypernodes.callbacks import CallbackContext

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hypernodes._dispatch.session import Session
    from hypernodes._dispatch.table import Table
    from hypernodes._engine.observing.follower import Site
    from hypernodes._engine.observing.watched import Watched
    from hypernodes.abc import RunContext
    from hypernodes.config import RuntimeConfig
    from hypernodes.pipeline import Pipeline


class Run:
    """A run, a map, or a nested pipeline's run, on its way.

    Args:
        session: The outermost run.
        pipeline: What runs.
        ctx: The config in force and the place.
        run_id: What tells it from all others.
        parent_run_id: That of the run around it.
        item_index: The index of the item that it belongs to, in a map around it.
        is_map: Whether it is a map.
    """

    def __init__(
        self,
        session: Session,
        pipeline: Pipeline,
        ctx: RunContext,
        run_id: str,
        parent_run_id: str | None = None,
        *,
        item_index: int | None = None,
        is_map: bool = False,
    ) -> None:
        self.session: Session = session
        self.pipeline: Pipeline = pipeline
        self.path: tuple[str, ...] = ctx.path
        self.node: None = None
        self.config: RuntimeConfig = ctx.config
        self.run_id: str = run_id
        self.parent_run_id: str | None = parent_run_id
        self.item_index: int | None = item_index
        self.mode: str = "map" if is_map else "run"
        self.table: Table | None = ctx.config.table
        self.engine: Watched | None = None
        self.is_open: bool = False
        self._admits = False
        self.has_failed: bool = False
        self.has_replaced: bool = False
        self.fatal: BaseException | None = None
        self.tally: Tally = Tally()
        self._passes: dict[int | None, Pass] = {}
        self._inputs: Mapping[str, Any] | None = None
        self._started = 0.0
        self._map_started: float | None = None

    @property
    def run(self) -> Run:
        """Itself, as a site."""
        return self

    @property
    def label(self) -> str:
        """What messages call it."""
        return f"pipeline {self.path[-1]!r}"

    @property
    def state(self) -> dict[str, Any]:
        """What the callbacks of the outermost run share."""
        return self.session.state

    @property
    def fatal_error(self) -> BaseException | None:
        """What a node inside has raised that ends the outermost run."""
        return next(filter(None, (part.fatal_error for part in tuple(self._passes.values()))), None)

    def told(self) -> tuple[Any, ...]:
        """Return what workers elsewhere are told of it; of its state, the texts."""
        state = {key: value for key, value in tuple(self.state.items()) if isinstance(value, str)}
        return self.run_id, self.parent_run_id, self.mode, state

    # ------------------------------------------------------------ its own events

    def begin(self, when: float, inputs: Mapping[str, Any] | None) -> None:
        """Tell of the start."""
        self.is_open, self._started, self._inputs = True, when, inputs
        self._admits = True
        self._fire("on_pipeline_start", when, self.pipeline, inputs)

    def begin_map(self, when: float, count: int | None) -> None:
        """Tell of the start of the map, of `count` items if that is known."""
        self._map_started = when
        self._fire("on_map_start", when, self.pipeline, count)
        self._fire(COUNTER, when, self.tally)

    def end(self, when: float, outputs: Any) -> None:
        """Tell of the end."""
        with self.session.lock:
            if self.is_open:
                self._end_passes(when)
                self._end_map(when)
                self.is_open = False
                duration = max(0.0, when - self._started)
                self._fire("on_pipeline_end", when, outputs, duration, outputs=outputs)

    def fail(self, when: float, error: BaseException) -> None:
        """Tell of the failure, after the ends of all that is still open inside."""
        with self.session.lock:
            if not self.is_open:
                return
            self._end_passes(when)
            self._end_map(when, error)
            self.is_open = False
            duration = max(0.0, when - self._started)
            self._fire("on_pipeline_error", when, error, duration, error=error)

    def _end_passes(self, when: float) -> None:
        self._admits = False  # first: none begins any more
        for part in reversed(list(self._passes.values())):
            part.failed(when, part.fatal_error or abandoned(f"item {part.index}"))

    def _end_map(self, when: float, error: BaseException | None = None) -> None:
        if self._map_started is not None:
            started, self._map_started = self._map_started, None
            self._fire("on_map_end", when, max(0.0, when - started), during=error)

    def _fire(
        self,
        hook: str,
        when: float,
        *values: Any,
        outputs: Any = None,
        error: BaseException | None = None,
        during: BaseException | None = None,
    ) -> None:
        made = calls(self.table, hook)
        if not made:
            return
        ctx = self.context(when)
        ctx.inputs, ctx.outputs, ctx.exception = self._inputs, outputs, error
        under_way = error if during is None else during
        with self.session.lock:
            self.session.fire(made, ctx, *values, during=under_way)

    def context(self, when: float) -> CallbackContext:
        """Return a context that tells of the run."""
        return CallbackContext(self, self, when, self.item_index)

    # ------------------------------------------------------------ what goes on inside

    def enter(self, engine: Watched, index: int | None = None) -> Pass:
        """Return the pass for an item, or that of the run itself; the same until it is over."""
        found = self._passes.get(index)
        if found is None:  # no lock: who holds it may wait for the thread that asks
            made = Pass(self, engine.script, index, is_item=self.mode == "map")
            found = self._passes.setdefault(index, made)
            if not self._admits:  # it is over: whatever is told now goes nowhere
                found.is_over = True
        return found

    @property
    def passes(self) -> tuple[Pass, ...]:
        """What is open inside."""
        return tuple(self._passes.values())

    def number(self, index: int) -> int:
        """Return what an item is called: its index."""
        return index

    def leave(self, part: Pass) -> None:
        """Forget a pass that is over."""
        if self._passes.get(part.index) is part:
            del self._passes[part.index]

    def nested(
        self,
        pipeline: Pipeline,
        ctx: RunContext,
        run_id: str,
        item_index: int | None,
        *,
        is_map: bool = False,
    ) -> Run:
        """Return a run of a pipeline inside this one."""
        facts = pipeline, ctx, run_id, self.run_id
        return Run(self.session, *facts, item_index=item_index, is_map=is_map)


SCENE: Final[ContextVar[Site | None]] = ContextVar("hypernodes_scene", default=None)
"""The run that the current code belongs to, or starts, if it is observed."""


def tell_aside(engine: Watched) -> None:
    """Have a thread tell of what `engine` runs, if that is observed: nobody on a loop may wait."""
    scene = SCENE.get() if engine.is_observed else None
    if scene is not None:
        scene.run.session.tell_aside()
