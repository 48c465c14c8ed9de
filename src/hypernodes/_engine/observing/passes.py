"""Passes through plans as the driver follows them: every start gets one end, nothing comes late."""

from __future__ import annotations

from concurrent import futures
from typing import TYPE_CHECKING, Any

from hypernodes._engine.observing.follower import LODGER, Follower
from hypernodes._engine.observing.script import calls
from hypernodes._engine.observing.stage import Stage, nested_id
from hypernodes._engine.observing.tally import Tally
from hypernodes._engine.observing.witness import Record, Recorder
from hypernodes.callbacks import CallbackContext

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from hypernodes._dispatch.place import Worker
    from hypernodes._engine.observing.follower import Site
    from hypernodes._engine.observing.runs import Run
    from hypernodes._engine.observing.script import Part, Script
    from hypernodes._engine.observing.watched import Watched
    from hypernodes._engine.observing.witness import Place, Witness
    from hypernodes._engine.plan import Slot, Step


class Pass(Follower):
    """One pass through a plan: that of a run, or of an item of a map.

    Args:
        run: What it belongs to.
        script: Who is to be called.
        index: The item's index.
        is_item: Whether it is an item of the run, which is a map.
    """

    _inputs: Mapping[str, Any] | None = None
    _started: float | None = None
    _worker: Worker | None = None
    _fatal: BaseException | None = None
    _has_hit: bool = False
    _has_missed: bool = False
    _losses: int = 0
    is_over: bool = False

    def __init__(self, run: Run, script: Script, index: int | None, *, is_item: bool) -> None:
        self._run = run
        self._index = index
        self.item_index: int | None = index if index is not None else run.item_index
        self._script = script
        self._parts = script.parts
        self._session = run.session
        self._lock = run.session.lock
        self._is_item = is_item
        self._nodes: dict[int, CallbackContext] = {}
        self._lent: list[Pass] = []
        self._missed: dict[int, str] = {}
        self._held: dict[int, tuple[float, Any, int]] = {}
        self._replaced: set[int] = set()
        self._guests: dict[int, Pass] = {}
        self._lodgers: dict[int, Pass] = {}
        if script.has_runs:
            self._runs: dict[int, Run] = {}
            self._left: dict[int, int] = {}
            self._values: dict[Slot, Any] = {}

    @property
    def run(self) -> Run:
        return self._run

    @property
    def index(self) -> int | None:
        return self._index

    # ------------------------------------------------------------ the pass itself

    def started(
        self,
        when: float,
        item: Mapping[str, Any] | None,
        given: Mapping[Slot, Any],
        worker: Worker | None = None,
    ) -> None:
        with self._lock:
            if self.is_over:
                return
            if given:
                self._values.update(given)
            if self._started is not None:  # by who has handed all of the item on
                return
            self._started, self._inputs, self._worker = when, item, worker
            if self._is_item:
                self._fire("on_item_start", when, self.index, item)

    def ended(self, when: float, outputs: Mapping[str, Any] | None) -> None:
        with self._lock:
            if self.is_over:
                return
            if self._losses:  # what was told before one of them need not be told again
                self._end_nodes(when, abandoned(self.run.label))
            self._end_runs(when)
            self._close()
            if self._has_hit and not self._has_missed:
                self.run.tally.cached += 1
            if self._is_item and self._started is not None:
                duration = max(0.0, when - self._started)
                self._fire("on_item_end", when, self.index, outputs, duration, outputs=outputs)

    def failed(self, when: float, error: BaseException) -> None:
        with self._lock:
            if self.is_over:
                return
            self._end_nodes(when, error)
            for run in reversed(self._open_runs()):
                run.fail(when, error if run.has_failed else run.fatal_error or abandoned(run.label))
            self._close()
            if self._is_item and self._started is not None:
                duration = max(0.0, when - self._started)
                self._fire("on_item_error", when, self.index, error, duration, error=error)

    def _end_nodes(self, when: float, error: BaseException) -> None:
        """Tell of the end of nodes that are open; `error` is that of those that run elsewhere."""
        for index in reversed(list(self._nodes)):
            name = self._parts[index].node.name
            self._fail_node(index, when, abandoned(f"node {name!r}"))
        for part in self._lent:
            part.failed(when, error)

    def lost(self, when: float, error: BaseException, delay: float) -> None:
        with self._lock:
            self._losses += 1
            for index, ctx in list(self._nodes.items()):
                self.node_retried(index, when, error, ctx.attempt, delay)
            for part in self._lent:
                part.lost(when, error, delay)
            inside = self._runs if self._script.has_runs else {}
            for index in [index for index in inside if index >= 0]:
                run = inside.pop(index)
                run.fail(when, abandoned(run.label, "its worker is gone, and it runs again"))

    @property
    def fatal_error(self) -> BaseException | None:
        """What a node of it, or inside it, has raised that ends the run."""
        inside: tuple[Pass | Run, ...] = (*self._lent, *self._open_runs())
        return self._fatal or next(filter(None, (part.fatal_error for part in inside)), None)

    def _end_runs(self, when: float) -> None:
        """End the dissolved pipelines some of whose steps were not needed."""
        if self._script.has_runs and self._runs:
            for number in sorted((-1 - key for key in self._runs if key < 0), reverse=True):
                run = self._runs.pop(-1 - number)
                run.end(when, self._there(self._script.plan.scopes[number].outputs))

    def _close(self) -> None:
        self.is_over = True
        self.run.leave(self)

    def _fire(
        self,
        hook: str,
        when: float,
        *values: Any,
        outputs: Any = None,
        error: BaseException | None = None,
    ) -> None:
        made = calls(self.run.table, hook)
        if made:
            ctx = CallbackContext(
                self.run, self.run, when, self.index, self._inputs, worker=self._worker
            )
            ctx.outputs, ctx.exception = outputs, error
            self._session.fire(made, ctx, *values, during=error)

    # ------------------------------------------------------------ nodes

    def node_started(
        self,
        index: int,
        when: float,
        inputs: Mapping[str, Any] | None,
        worker: Worker | None = None,
    ) -> None:
        part = self._parts[index]
        step = part.step
        with self._lock:
            if self.is_over or index in self._nodes:  # it has been told, and lost with its worker
                return
            scene = self.run if step.scope is None else self._opened(index, when)
            ctx = CallbackContext(scene, step, when, self.item_index, inputs, worker=worker)
            self._nodes[index] = ctx
            if part.starts:
                self._session.fire(part.starts, ctx, part.node, inputs)
            if index in self._missed:
                self._check(part, ctx, self._missed[index])
                self._session.fire(part.misses, ctx, part.node, ctx.signature)

    def node_ended(self, index: int, when: float, value: Any, attempt: int = 1) -> None:
        with self._lock:
            if index in self._missed:
                self._held[index] = when, value, attempt
            else:
                self._end_node(index, when, when, value, attempt)

    def _end_node(self, index: int, now: float, when: float, value: Any, attempt: int) -> None:
        """Tell that a node has ended; `when` its work had."""
        part, ctx = self._parts[index], self._nodes.pop(index, None)
        if ctx is not None:
            if part.ends:
                ctx.when = now
                if part.gives:
                    ctx.outputs = _by_name(part.step, value)
                if attempt > 1:
                    ctx.attempt = attempt
                duration = when - ctx.started if when > ctx.started else 0.0
                self._session.fire(part.ends, ctx, part.node, value, duration)
            if part.step.scope is not None:
                self._settle(index, now, value)

    def node_failed(
        self,
        index: int,
        when: float,
        error: BaseException,
        attempt: int,
        inputs: Mapping[str, Any] | None = None,
    ) -> None:
        with self._lock:
            self._missed.pop(index, None)
            if index in self._nodes:
                ctx = self._nodes[index]
                ctx.attempt = attempt
                if inputs is not None:
                    ctx.inputs = inputs
                self._mark(index)
                if not isinstance(error, Exception):
                    self._fatal = error
                self._fail_node(index, when, error)

    def _fail_node(self, index: int, when: float, error: BaseException) -> None:
        ctx, part = self._nodes.pop(index), self._parts[index]
        ctx.when, ctx.exception = when, error
        duration = max(0.0, when - ctx.started)
        self._session.fire(part.errors, ctx, part.node, error, duration, during=error)

    def node_retried(
        self, index: int, when: float, error: BaseException, attempt: int, delay: float
    ) -> None:
        with self._lock:
            if index not in self._nodes:
                return
            part, ctx = self._parts[index], self._nodes[index]
            ctx.when, ctx.attempt, ctx.exception = when, attempt, error
            try:
                self._session.fire(part.retries, ctx, part.node, error, attempt, delay)
            finally:
                ctx.attempt, ctx.exception = attempt + 1, None

    def node_noted(self, index: int, note: str) -> None:
        with self._lock:
            if index in self._nodes:
                self._nodes[index].note = note

    # ------------------------------------------------------------ caches

    def node_replaced(self, index: int) -> None:
        with self._lock:
            self._replaced.add(index)
            self.run.has_replaced = True

    def has_replaced(self, index: int) -> bool:
        guest = self._guests.get(index)
        return index in self._replaced or (guest is not None and guest.has_replaced(0))

    def found(
        self,
        index: int,
        when: float,
        signature: str,
        shown: tuple[Mapping[str, Any] | None, Any],
        worker: Worker | None = None,
    ) -> None:
        with self._lock:
            inputs, value = shown
            is_new = index not in self._nodes  # else it has missed, and was lost with its worker
            self._missed.pop(index, None)
            self.node_started(index, when, inputs, worker)
            ctx, part = self._nodes.get(index), self._parts[index]
            if ctx is None:
                return
            if is_new:
                self._check(part, ctx, signature)
                ctx.cache_hit = self._has_hit = True
                self._session.fire(part.hits, ctx, part.node, signature)
            self._end_node(index, when, when, value, 1)

    def missed(self, index: int, signature: str) -> None:
        with self._lock:
            self._missed[index] = signature
            self._has_missed = True

    def kept(self, index: int, when: float, signature: str | None) -> None:
        with self._lock:
            guest = self._guests.pop(index, None)
            self._missed.pop(index, None)
            if guest is not None:
                guest.kept(0, when, signature)
                return
            held, ctx = self._held.pop(index, None), self._nodes.get(index)
            if held is None or ctx is None:
                return
            if signature is not None:
                part, ctx.when = self._parts[index], when
                self._session.fire(part.stores, ctx, part.node, signature)
            self._end_node(index, when, *held)

    def _check(self, part: Part, ctx: CallbackContext, signature: str) -> None:
        ctx.signature = signature
        self._session.fire(part.checks, ctx, part.node, signature)

    def reported(self, index: int, when: float, kind: str, data: dict[str, Any]) -> None:
        with self._lock:
            ctx = self._nodes.get(index)  # a thread of the user's may outlive its node
            if ctx is not None:
                ctx.when = when
                self._session.fire(self._parts[index].reports, ctx, kind, data)

    # ------------------------------------------------------------ dissolved pipelines

    def _opened(self, index: int, when: float) -> Run:
        """Return the innermost pipeline around a step; the first step starts it."""
        run = self.run
        for number in self._script.chains[index]:
            scope = self._script.plan.scopes[number]
            found = self._runs.get(-1 - number)
            if found is None:
                run_id = nested_id(self.run, self.index, f"p{number}")
                found = run.nested(scope.pipeline, scope.ctx, run_id, self.item_index)
                self._runs[-1 - number] = found
                self._left[number] = self._script.counts[number]
                found.begin(when, self._there(scope.inputs))
            run = found
        return run

    def _open_runs(self) -> list[Run]:
        return list(self._runs.values()) if self._script.has_runs else []

    def _there(self, slots: Mapping[str, Slot]) -> dict[str, Any]:
        return {name: self._values[slot] for name, slot in slots.items() if slot in self._values}

    def _settle(self, index: int, when: float, value: Any) -> None:
        """Take note of a step's end for the pipelines around it; the last step ends them."""
        step = self._parts[index].step
        values = value if step.unpacks else (value,)
        if values is not None:
            made = zip(step.outputs, values, strict=False)
            self._values.update(pair for pair in made if pair[0] in self._script.watched)
        for number in reversed(self._script.chains[index]):
            self._left[number] -= 1
            if not self._left[number]:
                run = self._runs.pop(-1 - number)
                run.end(when, self._there(self._script.plan.scopes[number].outputs))

    def _mark(self, index: int) -> None:
        """Remember which pipelines the failure of a step is a failure of."""
        for number in self._script.chains[index]:
            if -1 - number in self._runs:
                self._runs[-1 - number].has_failed = True

    @property
    def stage(self) -> Stage:
        return Stage(self._script.plan, self.run, self.index)

    @property
    def signatures(self) -> dict[int, str]:
        return dict(self._missed)

    def signature(self, index: int) -> str | None:
        return self._missed.get(index)

    # ------------------------------------------------------------ pipelines inside a step

    def inner_started(
        self, index: int, when: float, count: int | None, inputs: Mapping[str, Any] | None
    ) -> None:
        with self._lock:
            if not self.is_over:
                run = self._nest(index, when, inputs, is_map=True)
                run.begin_map(when, count)

    def inner_run_started(self, index: int, when: float, inputs: Mapping[str, Any] | None) -> None:
        with self._lock:
            if not self.is_over:
                self._nest(index, when, inputs, is_map=False)

    def _nest(
        self, index: int, when: float, inputs: Mapping[str, Any] | None, *, is_map: bool
    ) -> Run:
        """Start the run, or map, of the pipeline inside a step."""
        inner = self._parts[index].step.inner
        assert inner is not None  # noqa: S101 - only asked of such steps
        outer = self._opened(index, when)
        again = f"-{self._losses}" if self._losses else ""
        facts = (
            inner.pipeline,
            inner.ctx,
            nested_id(self.run, self.index, f"s{index}{again}"),
            self.item_index,
        )
        run = self._runs[index] = outer.nested(*facts, is_map=is_map)
        run.begin(when, inputs)
        return run

    def inside(self, step: int) -> Run | None:
        return self._runs.get(step) if self._script.has_runs else None

    def inner_went(self, index: int, ended: int, failed: int) -> None:
        with self._lock:
            tally = self.tally(index)
            tally.ended += ended
            tally.failed += failed

    def news(self, place: Place = ()) -> Iterator[Record]:
        """Yield, as records, how many items of the maps inside have ended since that was asked."""
        runs = self._runs if self._script.has_runs else {}
        for index, run in tuple(runs.items()):
            if index >= 0:
                ended, failed = run.tally.news()
                if ended:
                    yield place, "inner_went", (index, ended, failed)
                for part in run.passes:
                    yield from part.news((*place, (index, part.index)))

    def tally(self, index: int) -> Tally:
        run = self._runs.get(index)
        return Tally() if run is None else run.tally

    def inner_ended(self, index: int, when: float, outputs: Mapping[str, Any] | None) -> None:
        with self._lock:
            run = self._runs.pop(index, None)
            if run is not None:
                if run.has_replaced:
                    self.node_replaced(index)
                run.end(when, outputs)
                values = None if outputs is None else tuple(outputs.values())
                self._settle(index, when, values)

    def inner_failed(self, index: int, when: float, error: BaseException) -> None:
        with self._lock:
            self._mark(index)
            run = self._runs.pop(index, None)
            if run is not None:
                run.fail(when, error)

    def item(self, step: int, index: int | None) -> Witness:
        if index == LODGER and step in self._lodgers:
            return self._lodgers[step]
        inner = self._parts[step].step.inner
        run = self._runs.get(step)
        if inner is None or run is None:  # it is over: whatever is told now goes nowhere
            return Recorder(_forget, self.stage.item(step, index), index)
        run.engine = run.engine or inner.item_engine
        return run.enter(run.engine, index)

    def entrance(self, step: int, engine: Watched) -> Entrance | None:
        run = self._runs.get(step)
        return None if run is None or not engine.is_observed else Entrance(run, engine)

    # ------------------------------------------------------------ a node that runs elsewhere

    def touch(self, index: int, when: float) -> Guest:
        with self._lock:
            run = self.run if self.is_over else self._opened(index, when)
            return Guest(run, self, index)

    def touched(self, index: int, when: float) -> None:
        inner = self._parts[index].step.inner
        assert inner is not None  # noqa: S101 - only told of such steps
        if index in self._lodgers:  # it has been told, and lost with its worker
            return
        site = self.touch(index, when)
        self._lodgers[index] = site.enter(inner.item_engine)

    def within(self) -> Guest:
        return Guest(self.run, self)

    def lend(self, run: Run, engine: Watched, index: int | None = None) -> Pass:
        """Return a further pass, inside this one: that of what runs elsewhere.

        Args:
            run: The run that it belongs to.
            engine: What runs it.
            index: The step, if it is a node.
        """
        part = Pass(run, engine.script, self.index, is_item=False)
        part.item_index = self.item_index
        with self._lock:
            part.is_over = self.is_over
            self._lent.append(part)
            if index is not None and index in self._missed:
                part.missed(0, self._missed[index])
                self._guests[index] = part
        return part

    def release(self, index: int, when: float, value: Any) -> None:
        self.released(index, when, value)

    def released(self, index: int, when: float, value: Any) -> None:
        with self._lock:
            self._lodgers.pop(index, None)
            if not self.is_over:
                self._settle(index, when, value)


class Entrance:
    """What gives, for an item by its index, who is told of it.

    Args:
        site: The map, or what stands for it.
        engine: What runs an item.
    """

    __slots__ = ("_engine", "_site")

    def __init__(self, site: Site, engine: Watched) -> None:
        self._site = site
        self._engine = engine

    @property
    def run(self) -> Run:
        """The run that the items belong to."""
        return self._site.run

    def __call__(self, index: int | None) -> Follower:
        return self._site.enter(self._engine, index)

    def number(self, index: int) -> int:
        """Return what an item is called in the driver."""
        return self._site.number(index)


class Guest:
    """The site of what runs elsewhere, and belongs to the run, and the pass, around it.

    Args:
        run: That run.
        around: That pass.
        step: The step, if it is a node; None for all of an item.
    """

    def __init__(self, run: Run, around: Pass, step: int | None = None) -> None:
        self.run: Run = run
        self._around = around
        self._step = step

    def enter(self, engine: Watched, index: int | None = None) -> Pass:
        """Return a pass for the node."""
        del index
        return self._around.lend(self.run, engine, self._step)

    def number(self, index: int) -> int:
        """Return what an item is called: its index."""
        return self.run.number(index)


def _forget(record: Record) -> None:
    """Tell nobody."""
    del record


def abandoned(what: str, why: str = "the run around it had ended") -> futures.CancelledError:
    """Return the error for `what` has ended because something around it has."""
    return futures.CancelledError(f"{what} was abandoned: {why}")


def _by_name(step: Step, value: Any) -> dict[str, Any]:
    names = step.node.output_names
    if len(names) == 1 and not step.unpacks:
        return {names[0]: value}
    return {} if value is None else dict(zip(names, value, strict=False))
