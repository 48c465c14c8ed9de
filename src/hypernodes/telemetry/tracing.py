"""Runs as spans of OpenTelemetry, which Logfire shows, too.

A node's span begins and ends where the node ran, but is made in the driver, when its end is known:
so workers need no exporter for it. What the node's own code traces is to be its child all the same.
Therefore the identifier of the span is chosen where the node runs, stands in the current context
there while it does, and travels to the driver, which makes the span under that identifier.
"""

from __future__ import annotations

import logging
import os
import threading
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from hypernodes._dispatch.session import log_error
from hypernodes._extras import import_extra
from hypernodes.callbacks import Callback
from hypernodes.exceptions import CallbackError

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypernodes.callbacks import CallbackContext
    from hypernodes.telemetry._spans import Spans

__all__ = ["TelemetryCallback"]

_STATE: Final = "hypernodes.telemetry.tracing"
_logger: Final = logging.getLogger("hypernodes.telemetry")
_lock: Final = threading.Lock()
_set_up: Final[set[str]] = set()


class TelemetryCallback(Callback):
    """Makes spans of OpenTelemetry: `pipeline NAME`, `map NAME`, `item INDEX` and `node NAME`.

    They lie in one another as pipelines, maps, items and nodes do, the outermost one in the span
    that is current where the run is started. Their times are those of where things happened, on
    threads and in worker processes too. Errors are recorded, attempts that failed are events
    (`retry`). Attributes are `hypernodes.pipeline`, `hypernodes.node`, `hypernodes.item_index`,
    `hypernodes.cache_hit`, `hypernodes.attempt` and `hypernodes.run_id`, as they apply.

    Spans that user code opens in a node are children of the node's span. In worker processes that
    takes a tracer provider there, to export them: see `worker_setup`.

    Args:
        tracer_provider: Where spans go; None for the global provider of OpenTelemetry, which
            `logfire.configure()` sets, too.
        worker_setup: Called in each worker process before its first node, to configure a tracer
            provider there. Workers may end at any time: spans should be exported one by one.

    Raises:
        MissingDependencyError: OpenTelemetry is not installed.

    Example:
        >>> from hypernodes import Pipeline, RuntimeConfig, node
        >>> from opentelemetry.sdk.trace import TracerProvider
        >>> from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        >>> from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
        >>> exporter, provider = InMemorySpanExporter(), TracerProvider()
        >>> provider.add_span_processor(SimpleSpanProcessor(exporter))
        >>> double = Pipeline([node("double")(lambda x: 2 * x)], name="doubles")
        >>> config = RuntimeConfig(callbacks=[TelemetryCallback(provider)])
        >>> double.run({"x": 4}, config=config)
        {'double': 8}
        >>> [span.name for span in exporter.get_finished_spans()]
        ['node double', 'pipeline doubles']
    """

    reads: tuple[()] = ()

    def __init__(
        self,
        tracer_provider: Any = None,
        *,
        worker_setup: Callable[[], object] | None = None,
    ) -> None:
        import_extra("opentelemetry.trace", extra="telemetry", user="TelemetryCallback")
        if tracer_provider is not None and not hasattr(tracer_provider, "get_tracer"):
            message = (
                f"tracer_provider={tracer_provider!r} is none; give a TracerProvider that has your "
                f"exporter in a span processor, or leave it out for the global one"
            )
            raise CallbackError(message, callback="TelemetryCallback")
        if worker_setup is not None and not callable(worker_setup):
            message = f"worker_setup={worker_setup!r} cannot be called; give a function"
            raise CallbackError(message, callback="TelemetryCallback")
        self._provider = tracer_provider
        self._worker_setup = worker_setup
        self._home = os.getpid()
        self._name = uuid4().hex  # the same in workers

    def __getstate__(self) -> dict[str, Any]:
        # A provider has threads and sockets: it stays here. Workers have their own.
        return vars(self) | {"_provider": None}

    # ------------------------------------------------------------ pipelines, maps and items

    def on_pipeline_start(self, ctx: CallbackContext) -> None:
        spans = self._spans(ctx)
        around = spans.around(ctx.parent_run_id, ctx.item_index)
        spans.start(("pipeline", ctx.run_id), f"pipeline {ctx.path[-1]}", ctx, around)

    def on_pipeline_end(self, ctx: CallbackContext) -> None:
        self._spans(ctx).end(("pipeline", ctx.run_id), ctx)

    def on_pipeline_error(self, ctx: CallbackContext, error: BaseException) -> None:
        self._spans(ctx).end(("pipeline", ctx.run_id), ctx, error)

    def on_map_start(self, ctx: CallbackContext) -> None:
        spans = self._spans(ctx)
        around = spans.around(ctx.run_id)
        spans.start(("map", ctx.run_id), f"map {ctx.path[-1]}", ctx, around)

    def on_map_end(self, ctx: CallbackContext) -> None:
        self._spans(ctx).end(("map", ctx.run_id), ctx)

    def on_item_start(self, ctx: CallbackContext, index: int) -> None:
        spans = self._spans(ctx)
        around = spans.get(("map", ctx.run_id))
        spans.start(("item", ctx.run_id, index), f"item {index}", ctx, around)

    def on_item_end(self, ctx: CallbackContext, index: int) -> None:
        self._spans(ctx).end(("item", ctx.run_id, index), ctx)

    def on_item_error(self, ctx: CallbackContext, index: int, error: BaseException) -> None:
        self._spans(ctx).end(("item", ctx.run_id, index), ctx, error)

    # ------------------------------------------------------------ nodes

    def on_node_retry(
        self, ctx: CallbackContext, error: BaseException, attempt: int, delay: float
    ) -> None:
        facts = {"hypernodes.attempt": attempt, "hypernodes.delay": delay}
        self._spans(ctx).retried(ctx, facts | _traced().facts_of(error))

    def on_node_end(self, ctx: CallbackContext) -> None:
        self._spans(ctx).node(ctx)

    def on_node_error(self, ctx: CallbackContext, error: BaseException) -> None:
        self._spans(ctx).node(ctx, error)

    def _around_node(self, ctx: CallbackContext) -> Callable[[], None]:
        """Have the node's span be the current one for its code, where it runs, until it is over."""
        try:
            if self._worker_setup is not None and os.getpid() != self._home:
                _set_up_once(self._name, self._worker_setup)
            return _traced().attach(ctx)  # type: ignore[no-any-return]
        except Exception as error:  # noqa: BLE001 - tracing fails no node
            place = " > ".join(ctx.path)
            log_error(_logger, f"spans in {place} are not inside of its own", error)
            return _do_nothing

    def _spans(self, ctx: CallbackContext) -> Spans:
        """Return the spans of the run."""
        key = f"{_STATE} {id(self)}"
        found: Spans | None = ctx.state.get(key)
        if found is None:
            found = ctx.state[key] = _traced().Spans(self._provider)
        return found


def _do_nothing() -> None:
    """Undo nothing."""


def _traced() -> Any:
    """Return the module that needs OpenTelemetry."""
    return import_module("hypernodes.telemetry._spans")


def _set_up_once(name: str, worker_setup: Callable[[], object]) -> None:
    """Have a worker process get ready to export spans for a callback, if it has not yet."""
    with _lock:
        if name not in _set_up:
            _set_up.add(name)
            worker_setup()
