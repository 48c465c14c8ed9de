"""Spans: what they are called, what they lie in, what they tell; on every executor."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import Counter

import pytest

from hypernodes import (
    AsyncExecutor,
    CompositeExecutor,
    MemoryCache,
    Pipeline,
    ProcessPoolExecutor,
    RetryPolicy,
    RuntimeConfig,
    SequentialExecutor,
    ThreadPoolExecutor,
    node,
)
from hypernodes.telemetry import TelemetryCallback
from speechless import SpeechlessError

trace = pytest.importorskip("opentelemetry.trace")
sdk = pytest.importorskip("opentelemetry.sdk.trace")
export = pytest.importorskip("opentelemetry.sdk.trace.export")
memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")
sampling = pytest.importorskip("opentelemetry.sdk.trace.sampling")

EXECUTORS = {
    "sequential": SequentialExecutor(),
    "thread": ThreadPoolExecutor(max_workers=3),
    "async": AsyncExecutor(max_concurrency=3),
    "process": ProcessPoolExecutor(max_workers=2),
    "composite": CompositeExecutor(
        map_executor=ThreadPoolExecutor(max_workers=2),
        node_executor=ProcessPoolExecutor(max_workers=2),
    ),
}


@pytest.fixture(params=EXECUTORS.values(), ids=EXECUTORS.keys())
def executor(request):
    return request.param


class Traces:
    """A provider, and the spans that it got."""

    def __init__(self, **options):
        self.exporter = memory.InMemorySpanExporter()
        self.provider = sdk.TracerProvider(**options)
        self.provider.add_span_processor(export.SimpleSpanProcessor(self.exporter))
        self.tracer = self.provider.get_tracer("test")

    @property
    def spans(self):
        return self.exporter.get_finished_spans()

    def named(self, name):
        return [span for span in self.spans if span.name == name]

    def one(self, name):
        (span,) = self.named(name)
        return span

    def parent_of(self, span):
        if span.parent is None:
            return None
        (found,) = [s for s in self.spans if s.context.span_id == span.parent.span_id]
        assert found.context.trace_id == span.context.trace_id
        return found

    def line_of(self, span):
        names = []
        while span is not None:
            names.append(span.name)
            span = self.parent_of(span)
        return " < ".join(names)

    def lines(self):
        return Counter(map(self.line_of, self.spans))


@pytest.fixture
def traces():
    return Traces()


@node
def double(x):
    return 2 * x


@node
async def plus(double, y=1):
    return double + y


@node
def inverse(plus):
    return 6 / (plus - 5)


@node
def n(plus):
    return len(plus)


INNER = Pipeline([double, plus], name="inner")
NESTED = Pipeline([INNER.as_node(), inverse], name="outer")
MAPPED = Pipeline([INNER.as_node(map_over="x"), n], name="outer")


def config_for(traces, executor, **options):
    return RuntimeConfig(
        executor=executor, callbacks=[TelemetryCallback(traces.provider)], **options
    )


# ---------------------------------------------------------------- names, and what lies in what


def test_spans_of_a_run_lie_in_one_another(traces, executor):
    NESTED.run({"x": 1}, config=config_for(traces, executor))
    assert traces.lines() == {
        "pipeline outer": 1,
        "pipeline inner < pipeline outer": 1,
        "node double < pipeline inner < pipeline outer": 1,
        "node plus < pipeline inner < pipeline outer": 1,
        "node inverse < pipeline outer": 1,
    }


def test_spans_of_a_map_lie_in_one_another(traces, executor):
    NESTED.map({"x": [1, 3]}, map_over="x", config=config_for(traces, executor))
    around = "map outer < pipeline outer"
    expected = {"pipeline outer": 1, around: 1}
    for item in ("item 0", "item 1"):
        expected |= {
            f"{item} < {around}": 1,
            f"pipeline inner < {item} < {around}": 1,
            f"node double < pipeline inner < {item} < {around}": 1,
            f"node plus < pipeline inner < {item} < {around}": 1,
            f"node inverse < {item} < {around}": 1,
        }
    assert traces.lines() == expected


def test_spans_of_maps_inside_items_lie_in_their_item(traces, executor):
    MAPPED.map({"x": [[1, 2], [3]]}, map_over="x", config=config_for(traces, executor))
    inside = "map inner < pipeline inner"
    around = "map outer < pipeline outer"
    lines = traces.lines()
    assert lines[f"node double < item 1 < {inside} < item 0 < {around}"] == 1
    assert lines[f"node plus < item 0 < {inside} < item 1 < {around}"] == 1
    assert lines[f"node n < item 1 < {around}"] == 1
    assert lines.total() == 2 + 2 * 4 + 3 * 3


def test_a_run_lies_in_the_span_that_is_current(traces, executor):
    with traces.tracer.start_as_current_span("around"):
        INNER.run({"x": 1}, config=config_for(traces, executor))
        asyncio.run(INNER.arun({"x": 1}, config=config_for(traces, executor)))
    assert traces.lines()["pipeline inner < around"] == 2


def test_attributes_say_what_it_is_about(traces, executor):
    NESTED.map({"x": [1, 3]}, map_over="x", config=config_for(traces, executor))
    span = next(s for s in traces.named("node plus") if s.attributes["hypernodes.item_index"] == 1)
    assert dict(span.attributes) == {
        "hypernodes.pipeline": "inner",
        "hypernodes.node": "plus",
        "hypernodes.item_index": 1,
        "hypernodes.cache_hit": False,
        "hypernodes.attempt": 1,
        "hypernodes.run_id": span.attributes["hypernodes.run_id"],
    }
    outer = traces.one("pipeline outer")
    assert outer.attributes["hypernodes.pipeline"] == "outer"
    assert "hypernodes.item_index" not in outer.attributes
    assert traces.one("item 1").attributes["hypernodes.item_index"] == 1


# ---------------------------------------------------------------- caches, errors, retries, times


def test_what_was_cached_says_so(traces, executor):
    config = config_for(traces, executor, cache=MemoryCache())
    for _ in range(2):
        INNER.run({"x": 1}, output_name="plus", config=config)
    assert [s.attributes["hypernodes.cache_hit"] for s in traces.named("node plus")] == [
        False,
        True,
    ]
    assert len(traces.named("node double")) == 1


def test_errors_and_retries_are_told(traces, executor):
    retries = RetryPolicy(max_retries=2, initial_delay=0.001)
    config = config_for(traces, executor, retries=retries)
    NESTED.map({"x": [1, 2]}, map_over="x", on_error="return", config=config)
    span = next(s for s in traces.named("node inverse") if s.status.status_code.name == "ERROR")
    assert span.status.description == "ZeroDivisionError: division by zero"
    assert span.attributes["hypernodes.attempt"] == 3
    assert [event.name for event in span.events] == ["retry", "retry", "exception"]
    retry, _, exception = span.events
    assert retry.attributes["hypernodes.attempt"] == 1
    assert retry.attributes["exception.type"] == "builtins.ZeroDivisionError"
    assert exception.attributes["exception.type"] == "ZeroDivisionError"
    assert span.start_time <= retry.timestamp <= exception.timestamp == span.end_time
    statuses = {s.name: s.status.status_code.name for s in traces.spans}
    assert statuses["item 1"] == "ERROR"
    assert statuses["item 0"] == statuses["map outer"] == statuses["pipeline outer"] == "UNSET"


@node
def speechless(x):
    raise SpeechlessError


def test_errors_that_cannot_say_what_they_are_end_their_spans(traces, executor):
    config = config_for(traces, executor, retries=RetryPolicy(max_retries=1, initial_delay=0.001))
    with pytest.raises(SpeechlessError):
        Pipeline([speechless], name="p").map({"x": [1]}, map_over="x", config=config)
    told = [
        (span.name, span.status.description, event.attributes["exception.type"])
        for span in traces.spans
        for event in span.events
        if event.name == "exception"
    ]
    kind = f"{SpeechlessError.__module__}.SpeechlessError"
    names = ["node speechless", "item 0", "pipeline p"]
    assert told == [(name, "SpeechlessError: ", kind) for name in names]
    assert "retry" in {event.name for event in traces.one("node speechless").events}
    assert traces.one("map p").end_time


def test_a_run_that_fails_ends_all_its_spans(traces, executor):
    config = config_for(traces, executor)
    with pytest.raises(ZeroDivisionError):
        NESTED.map({"x": [2, 2, 2]}, map_over="x", config=config)
    assert traces.one("pipeline outer").status.status_code.name == "ERROR"
    for span in traces.spans:
        traces.line_of(span)  # what it lies in has ended, too


@node
def timed(x):
    start = time.time_ns()
    time.sleep(0.02)
    return start, time.time_ns()


def test_times_are_those_of_where_it_ran(traces, executor):
    pipeline = Pipeline([timed], name="p")
    results = pipeline.map({"x": [1, 2, 3]}, map_over="x", config=config_for(traces, executor))
    slack = 10_000_000  # ns; clocks are read one after another, and floats have their limits
    for index, result in enumerate(results):
        (span,) = [
            s for s in traces.named("node timed") if s.attributes["hypernodes.item_index"] == index
        ]
        began, ended = result["timed"]
        assert span.start_time - slack <= began <= ended <= span.end_time + slack
        item = traces.parent_of(span)
        assert item.start_time <= span.start_time <= span.end_time <= item.end_time + slack


# ---------------------------------------------------------------- what user code traces


def exporting(path):
    """Return a provider that appends a line to a file for each span."""

    class Lines(export.SpanExporter):
        def export(self, spans):
            with open(path, "a", encoding="utf-8") as file:  # noqa: PTH123 - one write a line
                file.writelines(
                    f"{s.name} {s.context.trace_id:x} {s.parent.span_id:x}\n" for s in spans
                )
            return export.SpanExportResult.SUCCESS

    provider = sdk.TracerProvider()
    provider.add_span_processor(export.SimpleSpanProcessor(Lines()))
    return provider


def spans_in(path):
    return [line.split() for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("is_async", [False, True])
def test_spans_of_user_code_are_children_of_the_node(traces, executor, tmp_path, is_async):
    path = tmp_path / "spans.txt"
    make = exporting
    made = []

    def inner_span(name):
        if not made:
            made.append(make(path).get_tracer("user"))
        with made[0].start_as_current_span(name):
            pass

    if is_async:

        async def traced(x):
            inner_span(f"before{x}")
            await asyncio.sleep(0)
            inner_span(f"after{x}")
            return x

    else:

        def traced(x):
            inner_span(f"before{x}")
            inner_span(f"after{x}")
            return x

    inner = Pipeline([node("y")(traced)], name="inner")
    pipeline = Pipeline([inner.as_node()], name="p")
    pipeline.map({"x": [0, 1, 2]}, map_over="x", config=config_for(traces, executor))
    nodes = {
        s.attributes["hypernodes.item_index"]: s for s in traces.spans if s.name.startswith("node")
    }
    found = spans_in(path)
    assert sorted(name for name, *_ in found) == sorted(
        f"{when}{x}" for when in ("before", "after") for x in (0, 1, 2)
    )
    for name, trace_id, parent in found:
        span = nodes[int(name[-1])]
        assert (trace_id, parent) == (f"{span.context.trace_id:x}", f"{span.context.span_id:x}")


def test_worker_processes_can_be_set_up(traces, tmp_path):
    path = tmp_path / "spans.txt"
    make = exporting

    def set_up():
        trace.set_tracer_provider(make(path))

    @node
    def traced(x):
        with trace.get_tracer("user").start_as_current_span(f"in{x}"):
            return x

    config = RuntimeConfig(
        executor=ProcessPoolExecutor(max_workers=1, start_method="spawn"),
        callbacks=[TelemetryCallback(traces.provider, worker_setup=set_up)],
    )
    with config.executor:
        Pipeline([traced], name="p").map({"x": [0, 1]}, map_over="x", config=config)
    ids = {
        f"in{s.attributes['hypernodes.item_index']}": f"{s.context.span_id:x}"
        for s in traces.named("node traced")
    }
    assert {name: parent for name, _, parent in spans_in(path)} == ids


def test_each_callback_sets_workers_up_for_itself(traces, tmp_path):
    def breaks():
        raise ValueError

    def works():
        with (tmp_path / "works").open("a") as file:
            file.write("x")

    executor = ProcessPoolExecutor(max_workers=1)
    with executor:
        for setup in (breaks, works):
            callback = TelemetryCallback(traces.provider, worker_setup=setup)
            config = RuntimeConfig(executor=executor, callbacks=[callback])
            INNER.map({"x": [1, 2, 3]}, map_over="x", config=config)
    assert (tmp_path / "works").read_text() == "x"


def test_runs_inside_nodes_lie_in_the_node(traces):
    config = config_for(traces, SequentialExecutor())

    @node
    def outer(x):
        return INNER.run({"x": x}, config=config)["plus"]

    Pipeline([outer], name="p").run({"x": 1}, config=config)
    assert traces.lines()["node double < pipeline inner < node outer < pipeline p"] == 1


def test_what_is_not_sampled_is_not_traced(executor, tmp_path):
    traces = Traces(sampler=sampling.ParentBased(sampling.ALWAYS_OFF))
    NESTED.run({"x": 1}, config=config_for(traces, executor))
    assert traces.spans == ()


def test_a_seeded_generator_does_not_repeat_spans(traces):
    import random

    def seeded(x):
        random.seed(1)
        return x

    pipeline = Pipeline([node("y")(seeded)], name="p")
    config = config_for(traces, ThreadPoolExecutor(max_workers=1))
    pipeline.map({"x": range(5)}, map_over="x", config=config)
    assert len({s.context.span_id for s in traces.spans}) == len(traces.spans)


def test_runs_at_the_same_time_have_traces_of_their_own(traces, executor):
    config = config_for(traces, executor)
    threads = [
        threading.Thread(target=INNER.run, args=({"x": x},), kwargs={"config": config})
        for x in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({s.context.trace_id for s in traces.spans}) == 4
    assert len(traces.spans) == 12


def test_the_callback_of_one_node_makes_its_span(traces):
    config = config_for(traces, SequentialExecutor())
    pipeline = Pipeline([double.with_config(config), plus], name="p")
    with traces.tracer.start_as_current_span("around"):
        pipeline.run({"x": 1}, config=None)
    assert traces.lines() == {"around": 1, "node double < around": 1}


def test_without_a_provider_nothing_happens(executor):
    config = RuntimeConfig(
        executor=executor, callbacks=[TelemetryCallback(trace.NoOpTracerProvider())]
    )
    assert INNER.run({"x": 1}, config=config) == {"double": 2, "plus": 3}


# ---------------------------------------------------------------- Logfire


def test_logfire_gets_the_spans(run_script):
    pytest.importorskip("logfire")
    run_script(
        """
from logfire.testing import TestExporter
import logfire
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from hypernodes import Pipeline, RuntimeConfig, node
from hypernodes.telemetry import TelemetryCallback

exporter = TestExporter()
logfire.configure(
    send_to_logfire=False,
    console=False,
    additional_span_processors=[SimpleSpanProcessor(exporter)],
)

@node
def double(x):
    with logfire.span("inside {x}", x=x):
        return 2 * x

config = RuntimeConfig(executor="thread", callbacks=[TelemetryCallback()])
with logfire.span("around"):
    Pipeline([double], name="p").map({"x": [1, 2]}, map_over="x", config=config)

spans = {s["context"]["span_id"]: s for s in exporter.exported_spans_as_dict()}
lines = set()
for span in spans.values():
    names = []
    while span:
        names.append(span["name"])
        span = spans[span["parent"]["span_id"]] if span["parent"] else None
    lines.add(" < ".join(names))
assert lines == {
    "around",
    "pipeline p < around",
    "map p < pipeline p < around",
    "item 0 < map p < pipeline p < around",
    "item 1 < map p < pipeline p < around",
    "node double < item 0 < map p < pipeline p < around",
    "node double < item 1 < map p < pipeline p < around",
    "inside {x} < node double < item 0 < map p < pipeline p < around",
    "inside {x} < node double < item 1 < map p < pipeline p < around",
}, lines
"""
    )


def test_a_callback_that_cannot_trace_changes_no_result(traces, executor):
    class Broken(sdk.SpanProcessor):
        def on_end(self, span):
            raise RuntimeError("disk full")

    traces.provider.add_span_processor(Broken())
    with contextlib.suppress(RuntimeError):
        result = INNER.run({"x": 1}, config=config_for(traces, executor))
    assert result == {"double": 2, "plus": 3}
