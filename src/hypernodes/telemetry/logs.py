"""What happens, as records of the standard library's logging."""

from __future__ import annotations

import logging
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any, Final

from hypernodes.callbacks import Callback
from hypernodes.exceptions import CallbackError
from hypernodes.telemetry._shared import spelled

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hypernodes.callbacks import CallbackContext

__all__ = ["LoggingCallback"]

_FACTS: Final = ("run_id", "parent_run_id", "depth", "mode", "item_index", "attempt", "worker")


class LoggingCallback(Callback):
    """Logs runs with `logging`: pipelines and maps as `INFO`, what is inside them as `DEBUG`.

    Attempts that failed and are made again are a `WARNING`; a node that has failed for good is an
    `ERROR`, with its traceback, and so is the pipeline around it, without. What was given up
    because something else had failed is `DEBUG`.

    Records have the attributes `hypernodes_event` (the hook without its `on_`), `hypernodes_path`,
    `hypernodes_node`, `hypernodes_pipeline`, `hypernodes_run_id`, `hypernodes_parent_run_id`,
    `hypernodes_depth`, `hypernodes_mode`, `hypernodes_item_index`, `hypernodes_attempt`,
    `hypernodes_cache_hit`, `hypernodes_worker`, and `hypernodes_duration` (seconds) where something
    has ended, for formatters and handlers that look for them.

    Args:
        logger: A logger or its name.

    Raises:
        CallbackError: It is neither.

    Example:
        >>> import logging, sys
        >>> from hypernodes import Pipeline, RuntimeConfig, node
        >>> logger = logging.getLogger("example")
        >>> logger.addHandler(logging.StreamHandler(sys.stdout))
        >>> logger.setLevel("DEBUG")
        >>> double = Pipeline([node("double")(lambda x: 2 * x)], name="doubles")
        >>> config = RuntimeConfig(executor="sequential", callbacks=[LoggingCallback("example")])
        >>> results = double.run({"x": 4}, config=config)  # doctest: +ELLIPSIS
        doubles starts
        doubles > double starts
        doubles > double has ended after 0.0... s
        doubles has ended after 0.0... s
    """

    reads: tuple[()] = ()

    def __init__(self, logger: logging.Logger | str = "hypernodes.runs") -> None:
        if not isinstance(logger, logging.Logger | str):
            message = f"logger={logger!r} has to be a logger of the logging module, or its name"
            raise CallbackError(message, callback="LoggingCallback")
        self._logger: logging.Logger = (
            logging.getLogger(logger) if isinstance(logger, str) else logger
        )

    # ------------------------------------------------------------ pipelines, maps and items

    def on_pipeline_start(self, ctx: CallbackContext) -> None:
        self._log(logging.INFO, "pipeline_start", ctx, "starts")

    def on_pipeline_end(self, ctx: CallbackContext, duration: float) -> None:
        self._log_end(logging.INFO, "pipeline_end", ctx, duration)

    def on_pipeline_error(
        self, ctx: CallbackContext, error: BaseException, duration: float
    ) -> None:
        self._log_error("pipeline_error", ctx, error, duration)

    def on_map_start(self, ctx: CallbackContext, count: int | None) -> None:
        items = "of items" if count is None else f"of {count} items"
        self._log(logging.INFO, "map_start", ctx, f"map {items} starts")

    def on_map_end(self, ctx: CallbackContext, duration: float) -> None:
        self._log_end(logging.INFO, "map_end", ctx, duration, "map ")

    def on_item_start(self, ctx: CallbackContext) -> None:
        self._log(logging.DEBUG, "item_start", ctx, "starts")

    def on_item_end(self, ctx: CallbackContext, duration: float) -> None:
        self._log_end(logging.DEBUG, "item_end", ctx, duration)

    def on_item_error(self, ctx: CallbackContext, error: BaseException, duration: float) -> None:
        self._log_error("item_error", ctx, error, duration)

    # ------------------------------------------------------------ nodes and their values

    def on_node_start(self, ctx: CallbackContext) -> None:
        self._log(logging.DEBUG, "node_start", ctx, "starts")

    def on_node_end(self, ctx: CallbackContext, duration: float) -> None:
        self._log_end(logging.DEBUG, "node_end", ctx, duration)

    def on_node_error(self, ctx: CallbackContext, error: BaseException, duration: float) -> None:
        self._log_error("node_error", ctx, error, duration, trace=True)

    def on_node_retry(
        self, ctx: CallbackContext, error: BaseException, attempt: int, delay: float
    ) -> None:
        what = f"attempt {attempt} failed, the next one is made in {delay:.3g} s: {spelled(error)}"
        self._log(logging.WARNING, "node_retry", ctx, what)

    def on_cache_hit(self, ctx: CallbackContext) -> None:
        self._log(logging.DEBUG, "cache_hit", ctx, "is in the cache")

    def on_cache_miss(self, ctx: CallbackContext) -> None:
        self._log(logging.DEBUG, "cache_miss", ctx, "is not in the cache")

    def on_cache_store(self, ctx: CallbackContext) -> None:
        self._log(logging.DEBUG, "cache_store", ctx, "is stored in the cache")

    def on_report(self, ctx: CallbackContext, kind: str, data: Mapping[str, Any]) -> None:
        facts = ", ".join(f"{name}={spelled(value)}" for name, value in data.items())
        self._log(logging.INFO, "report", ctx, f"reports {kind}: {facts}")

    # ------------------------------------------------------------ executors

    def on_executor_start(self, ctx: CallbackContext, executor: object) -> None:
        self._log(logging.DEBUG, "executor_start", ctx, f"opens workers of {executor}")

    def on_executor_stop(self, ctx: CallbackContext, executor: object) -> None:
        self._log(logging.DEBUG, "executor_stop", ctx, f"has closed workers of {executor}")

    # ------------------------------------------------------------ records

    def _log_end(
        self, level: int, event: str, ctx: CallbackContext, duration: float, what: str = ""
    ) -> None:
        text = f"{what}has ended after {duration:.3f} s"
        self._log(level, event, ctx, text, hypernodes_duration=duration)

    def _log_error(
        self,
        event: str,
        ctx: CallbackContext,
        error: BaseException,
        duration: float,
        *,
        trace: bool = False,
    ) -> None:
        is_given_up = isinstance(error, CancelledError)
        level = logging.DEBUG if is_given_up else logging.ERROR
        what = "was given up" if is_given_up else "failed"
        text = f"{what} after {duration:.3f} s: {spelled(error)}"
        shown = error if trace and not is_given_up else None
        self._log(level, event, ctx, text, shown, hypernodes_duration=duration)

    def _log(
        self,
        level: int,
        event: str,
        ctx: CallbackContext,
        text: str,
        error: BaseException | None = None,
        **facts: Any,
    ) -> None:
        if not self._logger.isEnabledFor(level):
            return
        place = " > ".join(ctx.path)
        item = "" if ctx.item_index is None else f", item {ctx.item_index}"
        extra = {f"hypernodes_{name}": getattr(ctx, name) for name in _FACTS} | facts
        extra |= {
            "hypernodes_event": event,
            "hypernodes_path": place,
            "hypernodes_node": None if ctx.node is None else ctx.node.name,
            "hypernodes_pipeline": ctx.pipeline.name,
            "hypernodes_cache_hit": ctx.cache_hit,
        }
        self._logger.log(level, "%s%s %s", place, item, text, exc_info=error, extra=extra)
