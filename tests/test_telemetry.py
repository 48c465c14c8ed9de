"""Ready-made callbacks that gather facts: caches, times, errors, logs; on every executor."""

from __future__ import annotations

import doctest
import importlib
import logging
import pickle
import subprocess
import sys
from concurrent.futures import CancelledError

import pytest

import hypernodes.telemetry
from hypernodes import (
    AsyncExecutor,
    CallbackError,
    CompositeExecutor,
    MemoryCache,
    Pipeline,
    ProcessPoolExecutor,
    RetryPolicy,
    RuntimeConfig,
    SequentialExecutor,
    ThreadPoolExecutor,
    node,
    report,
)
from hypernodes.telemetry import (
    CacheStatsCallback,
    ErrorCollector,
    LoggingCallback,
    ProgressCallback,
    RunReport,
    TelemetryCallback,
    TimingCallback,
)
from speechless import SpeechlessError

EXECUTORS = {
    "sequential": SequentialExecutor(),
    "thread": ThreadPoolExecutor(max_workers=3),
    "async": AsyncExecutor(max_concurrency=3),
    "process": ProcessPoolExecutor(max_workers=2),
    "composite": CompositeExecutor(
        map_executor=ThreadPoolExecutor(max_workers=2),
        node_executor=AsyncExecutor(max_concurrency=2),
    ),
    "composite-process": CompositeExecutor(
        map_executor=ThreadPoolExecutor(max_workers=2),
        node_executor=ProcessPoolExecutor(max_workers=2),
    ),
}


@pytest.fixture(params=EXECUTORS.values(), ids=EXECUTORS.keys())
def executor(request):
    return request.param


@node
def double(x):
    return 2 * x


@node
async def plus(double, y=1):
    return double + y


@node
def inverse(plus):
    return 6 / (plus - 5)


@node(cache=False)
def told(x):
    report("seen", x=x)
    return x


@node
def n(plus):
    return len(plus)


ALL = Pipeline([double, plus, inverse], name="all")
INNER = Pipeline([double, plus], name="inner")
NESTED = Pipeline([INNER.as_node(map_over="x"), n], name="outer")


# ---------------------------------------------------------------- the package


def test_the_ready_made_callbacks_are_these():
    assert {
        "CacheStatsCallback",
        "ErrorCollector",
        "LoggingCallback",
        "ProgressCallback",
        "TelemetryCallback",
        "TimingCallback",
    } <= {*hypernodes.telemetry.__all__}
    for name in hypernodes.telemetry.__all__:
        assert getattr(hypernodes.telemetry, name).__name__ == name
    assert {*hypernodes.telemetry.__all__} <= {*dir(hypernodes.telemetry)}
    with pytest.raises(AttributeError, match="no attribute 'Progress'"):
        _ = hypernodes.telemetry.Progress


def test_importing_them_imports_no_extra():
    code = (
        "import sys, hypernodes.telemetry as t; [getattr(t, name) for name in t.__all__]; "
        "print([m for m in ('tqdm', 'opentelemetry', 'logfire', 'rich') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout == "[]\n"


@pytest.mark.parametrize(
    ("name", "module"),
    [("ProgressCallback", "tqdm"), ("TelemetryCallback", "opentelemetry"), ("RunReport", "jinja2")],
)
def test_without_its_extra_a_callback_says_how_to_get_it(monkeypatch, name, module):
    for loaded in [m for m in sys.modules if m.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, module, None)
    place = f"hypernodes.telemetry:{name}"
    for build in (
        getattr(hypernodes.telemetry, name),
        lambda: RuntimeConfig(callbacks=[place]),
        lambda: RuntimeConfig(callbacks=[getattr(hypernodes.telemetry, name)]),
    ):
        with pytest.raises(ImportError, match=r'pip install "hypernodes\[telemetry\]"'):
            build()


@pytest.mark.parametrize("name", hypernodes.telemetry.__all__)
def test_callbacks_pickle_and_can_be_named(name, tmp_path, monkeypatch):
    if name == "CollectedError":
        return
    monkeypatch.chdir(tmp_path)  # there, a report is written
    made = getattr(hypernodes.telemetry, name)()
    assert type(pickle.loads(pickle.dumps(made))) is type(made)
    config = RuntimeConfig(executor="sequential", callbacks=[f"hypernodes.telemetry:{name}"])
    assert INNER.run({"x": 2}, config=config) == {"double": 4, "plus": 5}


# ---------------------------------------------------------------- caches


def test_cache_stats_count_hits_misses_and_stores(executor):
    stats = CacheStatsCallback()
    config = RuntimeConfig(executor=executor, cache=MemoryCache(), callbacks=[stats])
    INNER.map({"x": [1, 2, 3]}, map_over="x", output_name="plus", config=config)
    assert (stats.hits, stats.misses, stats.stores) == (0, 6, 6)
    INNER.map({"x": [1, 2, 4]}, map_over="x", output_name="plus", config=config)
    assert (stats.hits, stats.misses, stats.stores) == (2, 8, 8)
    assert stats.by_node == {
        "double": {"hits": 0, "misses": 4, "stores": 4},
        "plus": {"hits": 2, "misses": 4, "stores": 4},
    }
    again = pickle.loads(pickle.dumps(stats))
    assert again.by_node == stats.by_node
    stats.reset()
    assert (stats.hits, stats.by_node, again.hits) == (0, {}, 2)


# ---------------------------------------------------------------- times


def test_timing_adds_up_what_nodes_take(executor):
    timing = TimingCallback()
    config = RuntimeConfig(executor=executor, callbacks=[timing])
    ALL.map({"x": [1, 2, 3]}, map_over="x", on_error="return", config=config)
    assert timing.counts == {"double": 3, "plus": 3, "inverse": 3}  # one of them failed
    assert {*timing.durations} == {"double", "plus", "inverse"}
    assert all(0 <= seconds < 30 for seconds in timing.durations.values())
    NESTED.run({"x": [1, 2]}, config=config)
    assert timing.counts["double"] == 5
    timing.reset()
    assert timing.durations == timing.counts == {}


def test_timing_leaves_out_what_was_cached():
    timing = TimingCallback()
    config = RuntimeConfig(executor="sequential", cache=MemoryCache(), callbacks=[timing])
    for _ in range(2):
        INNER.run({"x": 1}, config=config)
    assert timing.counts == {"double": 1, "plus": 1}


# ---------------------------------------------------------------- errors


def test_errors_are_collected_with_their_place_and_inputs(executor):
    collector = ErrorCollector()
    config = RuntimeConfig(executor=executor, callbacks=[collector], retries=1)
    ALL.map({"x": [1, 2, 3]}, map_over="x", on_error="return", config=config)
    (found,) = collector.errors
    assert (found.path, found.item_index, found.inputs) == (("all", "inverse"), 1, {"plus": 5})
    assert isinstance(found.exception, ZeroDivisionError)
    assert str(found).startswith("all > inverse, item 1: ZeroDivisionError")
    with pytest.raises(ZeroDivisionError):
        ALL.run({"x": 2}, config=config)
    assert [error.item_index for error in collector.errors] == [1, None]
    collector.reset()
    assert collector.errors == []


def test_what_was_given_up_is_no_error_and_what_no_node_raised_is_one():
    collector = ErrorCollector()
    config = RuntimeConfig(executor="sequential", callbacks=[collector])

    def stop(x):
        raise KeyboardInterrupt

    pipeline = Pipeline([node("y")(stop)], name="stopped")
    with pytest.raises(KeyboardInterrupt):
        pipeline.run({"x": 1}, config=config)
    (found,) = collector.errors
    assert (found.path, type(found.exception)) == (("stopped", "stop"), KeyboardInterrupt)
    assert found.inputs == {"x": 1}


def test_what_one_collector_has_another_one_still_collects():
    inside, outside = ErrorCollector(), ErrorCollector()
    configs = [RuntimeConfig(executor="sequential", callbacks=[c]) for c in (inside, outside)]
    nested = Pipeline([inverse], name="nested", config=configs[0])
    with pytest.raises(ZeroDivisionError):
        Pipeline([nested], name="around", config=configs[1]).run({"plus": 5})
    assert [error.path for error in inside.errors] == [("around", "nested", "inverse")]
    assert [error.path for error in outside.errors][-1:] == [("around",)]


def test_what_ends_a_run_is_collected_after_failed_items(executor):
    def inputs():
        yield from (1, 2)
        raise RuntimeError("the source is broken")

    collector = ErrorCollector()
    config = RuntimeConfig(executor=executor, callbacks=[collector])
    with pytest.raises(RuntimeError, match="broken"):
        list(ALL.map_iter({"x": inputs()}, map_over="x", on_error="return", config=config))
    kinds = [type(error.exception) for error in collector.errors]
    assert kinds == [ZeroDivisionError, RuntimeError]


def test_an_error_of_a_node_is_collected_once(executor):
    collector = ErrorCollector()
    config = RuntimeConfig(executor=executor, callbacks=[collector])
    with pytest.raises(ZeroDivisionError):
        Pipeline([ALL.as_node(map_over="x")], name="outer").run({"x": [2]}, config=config)
    assert [error.path for error in collector.errors] == [("outer", "all", "inverse")]


def test_a_lazy_map_that_is_left_early_is_no_error(executor):
    collector = ErrorCollector()
    config = RuntimeConfig(executor=executor, callbacks=[collector])
    with INNER.map_iter({"x": range(100)}, map_over="x", config=config) as results:
        next(results)
    assert collector.errors == []


# ---------------------------------------------------------------- logs


@pytest.fixture
def records(caplog):
    caplog.set_level("DEBUG", logger="hypernodes.runs")
    return lambda: [r for r in caplog.records if r.name == "hypernodes.runs"]


def test_logs_tell_of_pipelines_maps_and_nodes(executor, records):
    config = RuntimeConfig(executor=executor, callbacks=[LoggingCallback()])
    NESTED.run({"x": [1, 2]}, config=config)
    told_of = {(r.levelname, r.getMessage().partition(" after ")[0]) for r in records()}
    assert told_of >= {
        ("INFO", "outer starts"),
        ("INFO", "outer > inner starts"),
        ("INFO", "outer > inner map of 2 items starts"),
        ("INFO", "outer > inner map has ended"),
        ("DEBUG", "outer > inner, item 1 starts"),
        ("DEBUG", "outer > inner > double, item 1 starts"),
        ("DEBUG", "outer > inner > double, item 1 has ended"),
        ("INFO", "outer has ended"),
    }
    ends = [r for r in records() if r.hypernodes_event == "node_end"]
    assert {(r.hypernodes_node, r.hypernodes_item_index) for r in ends} == {
        ("double", 0),
        ("double", 1),
        ("plus", 0),
        ("plus", 1),
        ("n", None),
    }
    assert all(r.hypernodes_duration >= 0 and r.hypernodes_attempt == 1 for r in ends)
    starts = [r for r in records() if r.hypernodes_event == "pipeline_start"]
    assert starts[1].hypernodes_parent_run_id == starts[0].hypernodes_run_id
    assert (starts[1].hypernodes_depth, starts[1].hypernodes_pipeline) == (1, "inner")


def test_logs_tell_of_failures(executor, records):
    retries = RetryPolicy(max_retries=1, initial_delay=0.001)
    config = RuntimeConfig(executor=executor, callbacks=[LoggingCallback()], retries=retries)
    ALL.map({"x": [1, 2]}, map_over="x", on_error="return", config=config)
    (warning,) = [r for r in records() if r.levelname == "WARNING"]
    assert warning.hypernodes_event == "node_retry"
    assert "all > inverse, item 1 attempt 1 failed" in warning.getMessage()
    errors = [r for r in records() if r.levelname == "ERROR"]
    assert [r.hypernodes_event for r in errors] == ["node_error", "item_error"]
    assert errors[0].exc_info[0] is ZeroDivisionError
    assert errors[1].exc_info is None
    assert errors[0].hypernodes_attempt == 2


def test_logs_tell_of_caches_and_reports_and_executors(executor, records):
    config = RuntimeConfig(executor=executor, cache=MemoryCache(), callbacks=[LoggingCallback()])
    pipeline = Pipeline([double, told], name="pair")
    for _ in range(2):
        pipeline.map({"x": [1, 2, 3, 4]}, map_over="x", config=config)
    events = [r.hypernodes_event for r in records()]
    assert events.count("cache_hit") == events.count("cache_store") == 4
    assert [r.hypernodes_cache_hit for r in records() if r.hypernodes_event == "cache_hit"] == [
        True
    ] * 4
    assert "pair > told, item 3 reports seen: x=4" in {r.getMessage() for r in records()}


def test_logs_go_where_they_are_told(caplog):
    caplog.set_level("INFO", logger="mine")
    for logger in ("mine", logging.getLogger("mine")):
        caplog.clear()
        config = RuntimeConfig(executor="sequential", callbacks=[LoggingCallback(logger)])
        INNER.run({"x": 1}, config=config)
        assert [r.name for r in caplog.records] == ["mine", "mine"]  # nothing below INFO
    with pytest.raises(CallbackError, match="logger=3 has to be a logger"):
        LoggingCallback(3)


@node
def speechless(x):
    report("seen", error=SpeechlessError())
    raise SpeechlessError


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_errors_that_cannot_say_what_they_are_are_logged_and_collected(executor, records):
    collector = ErrorCollector()
    config = RuntimeConfig(executor=executor, callbacks=[LoggingCallback(), collector])
    with pytest.raises(SpeechlessError):
        Pipeline([speechless], name="p").run({"x": 1}, config=config)
    errors = [r for r in records() if r.levelname == "ERROR"]
    assert [r.hypernodes_event for r in errors] == ["node_error", "pipeline_error"]
    assert errors[0].getMessage().endswith("s: <a SpeechlessError, whose repr fails>")
    assert str(collector.errors[0]) == "p > speechless: <a SpeechlessError, whose repr fails>"


def test_what_is_given_up_is_logged_quietly(records):
    config = RuntimeConfig(executor="sequential", callbacks=[LoggingCallback()])
    results = INNER.map_iter({"x": range(100)}, map_over="x", config=config)
    next(results)
    results.close()
    last = records()[-1]
    assert (last.levelname, last.hypernodes_event) == ("DEBUG", "pipeline_error")
    assert CancelledError.__name__ in last.getMessage()


# ---------------------------------------------------------------- examples


@pytest.mark.parametrize("name", ["caches", "errors", "logs", "progress", "timing", "tracing"])
def test_examples_in_docstrings_hold(name):
    module = importlib.import_module(f"hypernodes.telemetry.{name}")
    found = doctest.testmod(module)
    assert (found.failed, found.attempted > 0) == (0, True)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: ProgressCallback("out.log"), "file='out.log' cannot be written to"),
        (lambda: TelemetryCallback("jaeger"), "tracer_provider='jaeger' is none"),
        (lambda: TelemetryCallback(worker_setup="setup"), "worker_setup='setup' cannot be called"),
    ],
)
def test_wrong_arguments_are_refused_when_callbacks_are_made(build, words):
    with pytest.raises(CallbackError, match=words):
        build()


@pytest.mark.parametrize("wrong", ["20", -1, None])
def test_a_report_shows_a_number_of_items(wrong):
    with pytest.raises(ValueError, match="slowest is"):
        RunReport(slowest=wrong)
