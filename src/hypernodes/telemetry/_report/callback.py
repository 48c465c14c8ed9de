"""`RunReport`: notes what happens in a run, and writes it down when it is over."""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING, Any, Final

from hypernodes._dispatch.place import Worker
from hypernodes._extras import import_extra
from hypernodes.callbacks import Callback
from hypernodes.telemetry._report.file import check_pattern, path_of, write_whole
from hypernodes.telemetry._report.open_run import OpenRun
from hypernodes.telemetry._report.page import render
from hypernodes.telemetry._report.record import Call, Item, Record, described, is_given_up

if TYPE_CHECKING:
    import os
    from pathlib import Path

    from hypernodes._node import BaseNode
    from hypernodes.callbacks import CallbackContext
    from hypernodes.config import RuntimeConfig
    from hypernodes.pipeline import Pipeline

_logger: Final = logging.getLogger("hypernodes.callbacks")


class RunReport(Callback):
    """Writes one HTML file of each run, complete in itself, when the run ends, however it ends.

    The page shows the graph coloured by time, who worked when, the slowest nodes, calls and items,
    what was found in the cache, and what failed with which inputs. It loads nothing from anywhere.
    Its size is bounded: of a big map it has the figures of all items, and the slowest ones.

    Where the file cannot be written there is a `RuntimeWarning`, and the run goes on.

    Args:
        path: The file; folders on the way are made. `{run_id}` and `{pipeline}` stand for those of
            the run. Without them, the next run replaces the page of the one before.
        slowest: How many of the slowest calls and items are listed.
        failures: How many failures are told in full; the others are counted.

    Attributes:
        pattern: The path as it was given.
        written: The file that was written last, or None.

    Raises:
        ValueError: `path` has an unknown field, or a number is below zero.
        MissingDependencyError: The extra `telemetry` is not installed.

    Example:
        >>> import tempfile
        >>> from hypernodes import Pipeline, RuntimeConfig, node
        >>> double = Pipeline([node("double")(lambda x: 2 * x)], name="doubling")
        >>> report = RunReport(tempfile.mkdtemp() + "/{pipeline}.html")
        >>> double.run({"x": 4}, config=RuntimeConfig(callbacks=[report]))
        {'double': 8}
        >>> report.written.name
        'doubling.html'
    """

    def __init__(
        self,
        path: str | os.PathLike[str] = "run-report.html",
        *,
        slowest: int = 20,
        failures: int = 50,
    ) -> None:
        import_extra("jinja2", extra="telemetry", user="RunReport")
        numbers: dict[str, Any] = {"slowest": slowest, "failures": failures}
        for name, number in numbers.items():
            if not isinstance(number, int) or number < 0:
                raise ValueError(f"{name} is {number!r}; it is how many are shown, 0 or more")
        self.pattern: str = check_pattern(path)
        self.slowest: int = slowest
        self.failures: int = failures
        self.written: Path | None = None
        self._open: dict[str, OpenRun] = {}

    def __repr__(self) -> str:
        return f"RunReport({self.pattern!r})"

    # ------------------------------------------------------------ runs

    def on_pipeline_start(self, ctx: CallbackContext, pipeline: Pipeline) -> None:
        """Begin a record, or note a pipeline inside."""
        around = self._open.get(ctx.parent_run_id or "")
        if around is None:
            record = Record(
                ctx.run_id,
                pipeline,
                ctx.path,
                is_map=ctx.mode == "map",
                epoch=ctx.time,
                origin=ctx.started,
                config=_facts(ctx.config),
                most_slowest=self.slowest,
                most_faults=self.failures,
            )
            items: tuple[int, ...] = ()
        elif around.state is ctx.state:
            record, items = around.record, around.items_at(ctx.item_index)
        else:  # the code of a node asks for it: it is part of that node
            return
        is_map, state = ctx.mode == "map", ctx.state
        self._open[ctx.run_id] = OpenRun(
            record, ctx.path, around=around, items=items, is_map=is_map, state=state
        )

    def on_pipeline_end(self, ctx: CallbackContext, duration: float) -> None:
        """Note the end of a pipeline, and write the page if it is the outermost."""
        run = self._open.pop(ctx.run_id, None)
        if run is not None:
            run.end(duration)
            if run.around is None:
                run.record.status = "completed"
                self._write(run.record)

    def on_pipeline_error(
        self, ctx: CallbackContext, error: BaseException, duration: float
    ) -> None:
        """Note a pipeline's failure, and write the page if it is the outermost."""
        run = self._open.pop(ctx.run_id, None)
        if run is None:
            return
        run.end(duration)
        if not (run.has_failed or is_given_up(error) or not isinstance(error, Exception)):
            run.fail(None)
            run.record.fault(
                run.fault(error, duration, ctx.when, Worker(ctx.worker, ctx.process, ctx.host))
            )
        if run.around is None:
            run.record.status = _status(error)
            run.record.error = error
            self._write(run.record)

    # ------------------------------------------------------------ items

    def on_map_start(self, ctx: CallbackContext, count: int | None) -> None:
        """Note how many items there are."""
        run = self._open.get(ctx.run_id)
        if run is not None and run.around is None:
            run.record.count = count

    def on_item_end(self, ctx: CallbackContext, index: int, duration: float) -> None:
        """Note an item."""
        run = self._open.get(ctx.run_id)
        if run is None:
            return
        for stats in run.item_stats():
            stats.done += 1
        slowest = run.record.slowest_items
        if slowest.wants(duration):
            items = run.items_at(index)
            slowest.add(duration, Item(run.path, items, duration, described(ctx.inputs)))

    def on_item_error(
        self, ctx: CallbackContext, index: int, error: BaseException, duration: float
    ) -> None:
        """Note the failure of an item, by itself if none of its nodes is to blame."""
        run = self._open.get(ctx.run_id)
        if run is None:
            return
        if is_given_up(error):
            for stats in run.item_stats():
                stats.cancelled += 1
            return
        for stats in run.item_stats():
            stats.failed += 1
        record, items = run.record, run.items_at(index)
        if index not in run.faulty:
            run.fail(index)
            worker = Worker(ctx.worker, ctx.process, ctx.host)
            fault = run.fault(error, duration, ctx.when, worker)
            fault.items = items
            record.fault(fault)
        run.faulty.discard(index)
        inputs = described(ctx.inputs)
        for fault in record.faults:
            if run.holds(fault, items) and not fault.item_inputs:
                fault.item_inputs = inputs
        if record.slowest_items.wants(duration):
            item = Item(run.path, items, duration, inputs, has_failed=True)
            record.slowest_items.add(duration, item)

    # ------------------------------------------------------------ nodes

    def on_node_end(self, ctx: CallbackContext, node: BaseNode, duration: float) -> None:
        """Note a call, or a result that was found."""
        run = self._open.get(ctx.run_id)
        if run is None:
            return
        key = ctx.path, node.output_names
        if ctx.cache_hit:
            run.record.node(key).cached += 1
            return
        start = ctx.started - run.record.origin
        items = run.items_at(ctx.item_index)
        run.record.called(
            Call(key, items, start, duration, Worker(ctx.worker, ctx.process, ctx.host))
        )

    def on_node_error(
        self, ctx: CallbackContext, node: BaseNode, error: BaseException, duration: float
    ) -> None:
        """Note the failure of a node."""
        run = self._open.get(ctx.run_id)
        if run is None:
            return
        record, key = run.record, (ctx.path, node.output_names)
        if is_given_up(error):
            record.node(key).cancelled += 1
            return
        run.fail(ctx.item_index)
        items, worker = run.items_at(ctx.item_index), Worker(ctx.worker, ctx.process, ctx.host)
        start = ctx.started - record.origin
        record.called(Call(key, items, start, duration, worker, has_failed=True))
        fault = run.fault(error, duration, ctx.when, worker)
        fault.path, fault.key, fault.items = ctx.path, key, items
        fault.start, fault.attempt = start, ctx.attempt
        if ctx.inputs is not None and record.wants_faults:
            fault.inputs = described(ctx.inputs)
        record.fault(fault)

    def on_node_retry(self, ctx: CallbackContext, node: BaseNode) -> None:
        """Note a failed attempt that is made again."""
        run = self._open.get(ctx.run_id)
        if run is not None:
            run.record.node((ctx.path, node.output_names)).retries += 1

    def on_cache_miss(self, ctx: CallbackContext, node: BaseNode) -> None:
        """Note a result that was not found."""
        run = self._open.get(ctx.run_id)
        if run is not None:
            run.record.node((ctx.path, node.output_names)).missed += 1

    # ------------------------------------------------------------ the file

    def _write(self, record: Record) -> None:
        try:
            name = record.path[-1]
            path = path_of(self.pattern, run_id=record.run_id, pipeline=name)
            write_whole(path, render(record))
            self.written = path
        except Exception as error:  # noqa: BLE001 - a report is never worth a run
            _warn(f"the report of this run could not be written to {self.pattern!r}", error)


def _warn(what: str, error: Exception) -> None:
    message = (
        f"{what} ({type(error).__name__}: {error}); the run itself is not affected. "
        f"Give RunReport a path that can be written"
    )
    try:
        warnings.warn(message, RuntimeWarning, stacklevel=2)
    except RuntimeWarning:  # the user has made errors of warnings
        _logger.error("%s", message)  # noqa: TRY400 - the message has all that there is to know


def _status(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    return "stopped" if is_given_up(error) else "failed"


def _facts(config: RuntimeConfig) -> tuple[tuple[str, str], ...]:
    """Return what is said of a config: kinds and numbers only, since options may hold secrets."""
    executor = config.executor
    sizes = {name: getattr(executor, name, None) for name in ("max_workers", "max_concurrency")}
    shown = ", ".join(f"{name}={size}" for name, size in sizes.items() if size)
    facts = [("Executor", type(executor).__name__ + (f"({shown})" if shown else ""))]
    if type(config.backend).__name__ != "LocalBackend":
        facts.append(("Backend", type(config.backend).__name__))
    if config.cache is not None:
        kind = getattr(config.cache, "kind", None)
        facts.append(("Cache", kind if isinstance(kind, str) else type(config.cache).__name__))
    return tuple(facts)
