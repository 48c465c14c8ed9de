"""The spans of one run; imported only where OpenTelemetry is there."""

from __future__ import annotations

import os
from collections import defaultdict
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import context, trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from hypernodes.telemetry._shared import message_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from hypernodes.callbacks import CallbackContext

    Key = tuple[Any, ...]

_SCOPE: Final = "hypernodes"
_FIELDS: Final = ("traceparent", "tracestate")
_PROPAGATOR: Final[Any] = TraceContextTextMapPropagator()
_wanted: Final[ContextVar[int | None]] = ContextVar("hypernodes_wanted_span", default=None)


class Spans:
    """The spans of one outermost run and of all inside it.

    Args:
        provider: Where they go; None for the global one.
    """

    def __init__(self, provider: Any) -> None:
        self._tracer: Any = _tracer_of(provider)
        self._open: dict[Key, Any] = {}
        self._retries: defaultdict[Key, list[tuple[dict[str, Any], int]]] = defaultdict(list)

    def get(self, key: Key) -> Any:
        """Return an open span, or None."""
        return self._open.get(key)

    def around(self, run_id: str | None, item_index: int | None = None) -> Any:
        """Return the span of an item of a run, else that of the run; None for another's run."""
        return self.get(("item", run_id, item_index)) or self.get(("pipeline", run_id))

    def start(self, key: Key, name: str, ctx: CallbackContext, around: Any) -> None:
        """Start a span that stays open, inside another or inside what is current."""
        is_first = not self._open
        span = self._start(name, ctx, around, ctx.when)
        self._open[key] = span
        if is_first:  # workers are told by this which trace they are part of
            _PROPAGATOR.inject(ctx.state, trace.set_span_in_context(span))

    def end(self, key: Key, ctx: CallbackContext, error: BaseException | None = None) -> None:
        """End a span that was started."""
        span = self._open.pop(key, None)
        if span is not None:
            _end(span, _nanoseconds(ctx, ctx.when), error)

    def retried(self, ctx: CallbackContext, facts: dict[str, Any]) -> None:
        """Keep what there is to tell of a failed attempt until the node's end."""
        self._retries[_place(ctx)].append((facts, _nanoseconds(ctx, ctx.when)))

    def node(self, ctx: CallbackContext, error: BaseException | None = None) -> None:
        """Make the span of a node that is over, under the identifier that it has had."""
        around = self.around(ctx.run_id, ctx.item_index)
        token = _wanted.set(_noted(ctx.note))
        try:
            span = self._start(f"node {ctx.path[-1]}", ctx, around, ctx.started)
        finally:
            _wanted.reset(token)
        span.set_attribute("hypernodes.cache_hit", ctx.cache_hit)
        span.set_attribute("hypernodes.attempt", ctx.attempt)
        for facts, when in self._retries.pop(_place(ctx), ()):
            span.add_event("retry", facts, timestamp=when)
        _end(span, _nanoseconds(ctx, ctx.when), error)

    def _start(self, name: str, ctx: CallbackContext, around: Any, when: float) -> Any:
        inside = None if around is None else trace.set_span_in_context(around)
        facts = _attributes(ctx)
        start = _nanoseconds(ctx, when)
        return self._tracer.start_span(name, inside, attributes=facts, start_time=start)


def _attributes(ctx: CallbackContext) -> dict[str, Any]:
    facts: dict[str, Any] = {"hypernodes.run_id": ctx.run_id}
    if ctx.node is None:
        facts["hypernodes.pipeline"] = ctx.path[-1]
    else:
        facts |= {"hypernodes.pipeline": ctx.path[-2], "hypernodes.node": ctx.path[-1]}
    if ctx.item_index is not None:
        facts["hypernodes.item_index"] = ctx.item_index
    return facts


def _place(ctx: CallbackContext) -> Key:
    return ctx.run_id, ctx.item_index, ctx.path


def _nanoseconds(ctx: CallbackContext, when: float) -> int:
    """Return a time of the clock of events as nanoseconds since the epoch."""
    return int((ctx.time - ctx.when + when) * 1e9)


def _end(span: Any, when: int, error: BaseException | None) -> None:
    try:
        if error is not None:
            _record(span, when, error)
    finally:
        span.end(when)


def _record(span: Any, when: int, error: BaseException) -> None:
    description = f"{type(error).__name__}: {message_of(error)}"
    span.set_status(trace.Status(trace.StatusCode.ERROR, description))
    try:
        span.record_exception(error, timestamp=when)
    except Exception:  # noqa: BLE001 - an error that cannot say what it is
        span.add_event("exception", facts_of(error), timestamp=when)


# ---------------------------------------------------------------- where nodes run


def attach(ctx: CallbackContext) -> Callable[[], None]:
    """Make a node's span, of which only the identifier is known, the current one.

    Args:
        ctx: The node; gets the identifier as its note.

    Returns:
        What undoes that.
    """
    carrier = {field: ctx.state[field] for field in _FIELDS if field in ctx.state}
    outer = trace.get_current_span(_PROPAGATOR.extract(carrier) if carrier else None)
    known = outer.get_span_context()
    if not known.is_valid:
        return lambda: None
    span_id = _new_identifier(8)
    own = trace.SpanContext(
        known.trace_id,
        span_id,
        is_remote=False,
        trace_flags=known.trace_flags,
        trace_state=known.trace_state,
    )
    ctx.note = trace.format_span_id(span_id)
    token = context.attach(trace.set_span_in_context(trace.NonRecordingSpan(own)))
    return partial(context.detach, token)


# ---------------------------------------------------------------- identifiers


class _Prescribed:
    """Gives a span the identifier that is wanted, else one from the generator in whose place it is.

    The SDK's own generator uses the module `random`, which nodes may seed: then it repeats itself.

    Args:
        own: That generator.
    """

    def __init__(self, own: Any) -> None:
        self._own = own
        self._repeats = type(own).__name__ == "RandomIdGenerator"

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name)

    def generate_span_id(self) -> int:
        """Return an identifier of 64 bits."""
        wanted = _wanted.get()
        if wanted is not None:
            return wanted
        return _new_identifier(8) if self._repeats else int(self._own.generate_span_id())

    def generate_trace_id(self) -> int:
        """Return an identifier of 128 bits."""
        return _new_identifier(16) if self._repeats else int(self._own.generate_trace_id())


def _new_identifier(size: int) -> int:
    return int.from_bytes(os.urandom(size), "big") or 1


def _noted(note: str | None) -> int | None:
    return None if note is None else int(note, 16)


def _tracer_of(provider: Any) -> Any:
    """Return a tracer of ours whose spans may have identifiers that were known before.

    Tracers of others than OpenTelemetry's SDK, and of those around it, stay as they are.
    """
    tracer: Any = trace.get_tracer(_SCOPE, tracer_provider=provider)
    inside = getattr(tracer, "tracer", None), getattr(tracer, "_tracer", None)
    for found in filter(None, (tracer, *inside)):
        own = getattr(found, "id_generator", None)
        if own is not None and not isinstance(own, _Prescribed):
            found.id_generator = _Prescribed(own)
    return tracer


def facts_of(error: BaseException) -> Mapping[str, str]:
    """Return what events tell of an error."""
    kind = type(error)
    return {
        "exception.type": f"{kind.__module__}.{kind.__qualname__}",
        "exception.message": message_of(error),
    }
