"""Callbacks: which events there are, in which order, and what failing observers do."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import pickle
import platform
import threading
import time

import pytest

from checker import Checker
from hypernodes import (
    AsyncExecutor,
    Callback,
    CallbackContext,
    CallbackError,
    Failure,
    Pipeline,
    ProcessPoolExecutor,
    RetryPolicy,
    RunContext,
    RuntimeConfig,
    SequentialExecutor,
    ThreadPoolExecutor,
    node,
    report,
)
from hypernodes._dispatch.place import current_worker
from hypernodes._engine.processes.depot import Depot
from hypernodes._engine.shipping.events import pack_records, unpack_records

EXECUTORS = {
    "sequential": SequentialExecutor(),
    "thread": ThreadPoolExecutor(max_workers=3),
    "one-thread": ThreadPoolExecutor(max_workers=1),
    "async": AsyncExecutor(max_concurrency=3),
    "process": ProcessPoolExecutor(max_workers=2),
}
HOOKS = [
    "on_pipeline_start",
    "on_pipeline_end",
    "on_pipeline_error",
    "on_node_start",
    "on_node_end",
    "on_node_error",
    "on_node_retry",
    "on_map_start",
    "on_map_end",
    "on_item_start",
    "on_item_end",
    "on_item_error",
    "on_report",
]


@pytest.fixture(params=EXECUTORS.values(), ids=EXECUTORS.keys())
def executor(request):
    return request.param


@pytest.fixture
def checker():
    made = Checker()
    yield made
    made.check()


@pytest.fixture
def observed(executor, checker):
    return RuntimeConfig(executor=executor, callbacks=(checker,))


class Log(Callback):
    """Keeps hooks with all that they were given."""

    def __init__(self):
        self.events = []

    def named(self, hook):
        return [facts for name, facts in self.events if name == hook]

    @property
    def hooks(self):
        return [name for name, _ in self.events]


def noting(name, arguments):
    """Return a hook that takes `arguments` and keeps them."""
    source = f"lambda self, {', '.join(arguments)}: self.events.append(({name!r}, locals()))"
    return eval(source)  # noqa: S307 - a hook's arguments are part of its code


ALL = {
    "on_pipeline_start": ("pipeline", "inputs"),
    "on_pipeline_end": ("outputs", "duration"),
    "on_pipeline_error": ("error", "duration"),
    "on_node_start": ("node", "inputs"),
    "on_node_end": ("node", "output", "duration"),
    "on_node_error": ("node", "error", "duration"),
    "on_node_retry": ("node", "error", "attempt", "delay"),
    "on_map_start": ("pipeline", "count"),
    "on_map_end": ("duration",),
    "on_item_start": ("index", "inputs"),
    "on_item_end": ("index", "outputs", "duration"),
    "on_item_error": ("index", "error", "duration"),
    "on_report": ("kind", "data"),
}
for hook, names in ALL.items():
    setattr(Log, hook, noting(hook, ("ctx", *names)))


@node
def double(x):
    return 2 * x


@node
def plus(double, y=1):
    return double + y


@node
def fails(x):
    raise KeyError(x)


@node
def fails_at_two(x):
    if x == 2:
        raise KeyError(x)
    return x


BOTH = Pipeline([double, plus], name="both")


def run(pipeline, inputs, config, **options):
    with contextlib.suppress(KeyError):
        return pipeline.run(inputs, config=config, **options)


# ---------------------------------------------------------------- which events, in which order


def test_a_run_tells_of_its_start_its_nodes_and_its_end(executor):
    log = Log()
    BOTH.run({"x": 3}, config=RuntimeConfig(executor=executor, callbacks=[log]))

    assert log.hooks == [
        "on_pipeline_start",
        "on_node_start",
        "on_node_end",
        "on_node_start",
        "on_node_end",
        "on_pipeline_end",
    ]
    start, first, first_end, second, second_end, end = [facts for _, facts in log.events]
    assert start["pipeline"] is BOTH
    assert start["inputs"] == start["ctx"].inputs == {"x": 3}
    assert (first["node"], first["inputs"]) == (double, {"x": 3})
    assert first_end["output"] == 6
    assert first_end["ctx"].outputs == {"double": 6}
    assert second["inputs"] == {"double": 6}
    assert second_end["output"] == 7
    assert end["outputs"] == end["ctx"].outputs == {"double": 6, "plus": 7}
    assert all(facts["duration"] >= 0 for facts in (first_end, second_end, end))


def test_the_context_says_where_an_event_happened(executor):
    log = Log()
    config = RuntimeConfig(executor=executor, callbacks=[log])
    BOTH.run({"x": 3}, config=config)

    pipeline_ctx, node_ctx = log.events[0][1]["ctx"], log.events[1][1]["ctx"]
    assert isinstance(node_ctx, CallbackContext)
    assert pipeline_ctx.path == ("both",)
    assert pipeline_ctx.node is None
    assert node_ctx.path == ("both", "double")
    assert node_ctx.node is double
    assert node_ctx.pipeline is BOTH
    assert node_ctx.config == config
    assert node_ctx.mode == "run"
    assert node_ctx.depth == 0
    assert node_ctx.item_index is None
    assert node_ctx.attempt == 1
    assert node_ctx.exception is None
    assert node_ctx.cache_hit is False
    assert node_ctx.signature is None
    assert node_ctx.worker
    assert abs(node_ctx.time - time.time()) < 60
    assert node_ctx.run_id == pipeline_ctx.run_id
    assert node_ctx.parent_run_id is None
    assert node_ctx.state is pipeline_ctx.state


class Places(Callback):
    """Keeps where events happened."""

    reads = ()

    def __init__(self):
        self.of_nodes, self.of_items, self.of_runs = set(), set(), set()

    def on_node_end(self, ctx):
        self.of_nodes.add((ctx.host, ctx.process, ctx.worker))

    def on_item_end(self, ctx):
        self.of_items.add((ctx.host, ctx.process, ctx.worker))

    def on_pipeline_end(self, ctx):
        self.of_runs.add((ctx.host, ctx.process, ctx.worker))


@node
def stands(x):
    return platform.node(), os.getpid(), threading.current_thread().name


INSIDE = Pipeline([stands]).as_node(map_over="xs", input_mapping={"xs": "x"}, name="inside")


def test_the_context_says_in_which_thread_and_process_an_event_happened(executor):
    places = Places()
    config = RuntimeConfig(executor=executor, callbacks=[places])
    results = Pipeline([stands]).map({"x": range(20)}, map_over="x", config=config)

    assert places.of_nodes == {result["stands"] for result in results}
    assert places.of_items == places.of_nodes
    here = platform.node(), os.getpid(), threading.current_thread().name
    assert places.of_runs == {here}


def test_it_says_so_of_items_inside_of_items_too(executor):
    places = Places()
    config = RuntimeConfig(executor=executor, callbacks=[places])
    items = {"xs": [[1, 2], [3], []]}
    results = Pipeline([INSIDE]).map(items, map_over="xs", config=config)

    assert places.of_nodes == {place for result in results for place in result["stands"]}


def test_a_worker_is_one_object_until_it_is_renamed(monkeypatch):
    first = current_worker()
    assert current_worker() is first
    monkeypatch.setattr(threading.current_thread(), "name", "renamed")
    assert current_worker() == first._replace(thread="renamed")


def test_records_of_a_chunk_name_their_worker_once():
    records = [[((), "node_started", (n, 1.0, None, current_worker()))] for n in range(1000)]
    depot = Depot.opened()
    try:
        one, many = (pack_records(told, depot) for told in (records[:1], records))
    finally:
        depot.close()
    name = platform.node().encode()
    assert [parcel.data.count(name) for parcel in (one, many)] == [1, 1]
    assert unpack_records(many) == records


def test_the_inputs_of_a_failure_are_there_where_nothing_else_asks_for_them(executor):
    class Failures(Callback):
        def __init__(self):
            self.seen, self.ends = [], []

        def on_node_error(self, ctx):
            self.seen.append(dict(ctx.inputs))

        def on_node_end(self, node):
            self.ends.append(node.name)

    failures = Failures()
    config = RuntimeConfig(executor=executor, callbacks=[failures])
    pipeline = Pipeline([double, node("failed")(lambda double, y=1: double / (double - 4))])
    pipeline.map({"x": [1, 2, 3]}, map_over="x", on_error="return", config=config)
    assert failures.seen == [{"double": 4}]
    assert failures.ends.count("double") == 3


def test_inputs_do_not_travel_where_only_failures_ask_for_them():
    class Failures(Callback):
        def on_node_error(self, ctx):
            return ctx.inputs

    config = RuntimeConfig(callbacks=[Failures()])
    engine = BOTH.engine(["x"], RunContext(config, path=("both",), audience=1))
    assert [(cue.inputs, cue.inputs_of_errors) for cue in engine.audience.cues] == [
        (False, True)
    ] * 2


def test_the_items_that_a_callback_reads_are_those_that_were_given(executor):
    class Items(Callback):
        def __init__(self):
            self.seen = {}

        def on_item_end(self, ctx, index):
            self.seen[index] = ctx.inputs["x"]

    given, items = [object(), object()], Items()
    config = RuntimeConfig(executor=executor, callbacks=[items])
    Pipeline([node("kind")(lambda x: type(x).__name__)]).map(
        {"x": given}, map_over="x", config=config
    )
    assert [items.seen[n] is each for n, each in enumerate(given)] == [True, True]


def test_a_failing_node_ends_with_an_error_and_so_does_its_run(executor, checker):
    log = Log()
    config = RuntimeConfig(executor=executor, callbacks=[log, checker])
    with pytest.raises(KeyError) as caught:
        Pipeline([fails]).run({"x": 3}, config=config)

    (failed,), (over,) = log.named("on_node_error"), log.named("on_pipeline_error")
    assert repr(failed["error"]) == repr(failed["ctx"].exception) == "KeyError(3)"
    assert over["error"] is caught.value
    assert log.hooks[-1] == "on_pipeline_error"
    assert not log.named("on_node_end")
    assert not log.named("on_pipeline_end")


def test_a_map_lies_inside_a_pipeline_and_its_items_inside_the_map(executor, checker):
    log = Log()
    config = RuntimeConfig(executor=executor, callbacks=[log, checker])
    BOTH.map({"x": [1, 2, 3]}, map_over="x", config=config)

    assert log.hooks[:2] == ["on_pipeline_start", "on_map_start"]
    assert log.hooks[-2:] == ["on_map_end", "on_pipeline_end"]
    assert log.named("on_map_start")[0]["count"] == 3
    items = log.named("on_item_start")
    assert sorted((e["index"], e["inputs"]["x"]) for e in items) == [(0, 1), (1, 2), (2, 3)]
    ends = {facts["index"]: facts["outputs"]["plus"] for facts in log.named("on_item_end")}
    assert ends == {0: 3, 1: 5, 2: 7}
    assert {facts["ctx"].mode for _, facts in log.events} == {"map"}
    assert len({facts["ctx"].run_id for _, facts in log.events}) == 1
    nodes = [(facts["node"].name, facts["ctx"].item_index) for facts in log.named("on_node_start")]
    assert sorted(nodes) == [(name, i) for name in ("double", "plus") for i in range(3)]


def test_a_map_tells_its_end_after_the_failure_of_an_item(executor, checker):
    log = Log()
    config = RuntimeConfig(executor=executor, callbacks=[log, checker])
    with pytest.raises(KeyError) as caught:
        Pipeline([fails_at_two]).map({"x": [1, 2, 3]}, map_over="x", config=config)

    assert log.hooks[-2:] == ["on_map_end", "on_pipeline_error"]
    assert log.named("on_pipeline_error")[0]["error"] is caught.value
    failed = log.named("on_item_error")
    assert [repr(f["error"]) for f in failed if f["index"] == 1] == ["KeyError(2)"]


def test_a_map_that_returns_failures_ends_well(executor, checker):
    log = Log()
    config = RuntimeConfig(executor=executor, callbacks=[log, checker])
    pipeline = Pipeline([fails_at_two])
    found = pipeline.map({"x": [1, 2, 3]}, map_over="x", config=config, on_error="return")

    assert [type(entry) for entry in found] == [dict, Failure, dict]
    (failed,) = log.named("on_item_error")
    assert (failed["index"], failed["ctx"].item_index) == (1, 1)
    assert log.hooks[-2:] == ["on_map_end", "on_pipeline_end"]
    assert len(log.named("on_pipeline_end")[0]["outputs"]) == 3


def test_a_map_without_items_has_a_start_and_an_end(executor, checker):
    log = Log()
    config = RuntimeConfig(executor=executor, callbacks=[log, checker])
    assert BOTH.map({"x": []}, map_over="x", config=config) == []
    assert log.hooks == ["on_pipeline_start", "on_map_start", "on_map_end", "on_pipeline_end"]


@pytest.mark.parametrize("ordered", [True, False])
def test_a_lazy_map_tells_as_much(executor, checker, ordered):
    log = Log()
    config = RuntimeConfig(executor=executor, callbacks=[log, checker])
    results = BOTH.map_iter({"x": iter(range(5))}, map_over="x", config=config, ordered=ordered)
    assert log.events == []
    assert len(list(results)) == 5
    assert log.named("on_map_start")[0]["count"] is None
    assert len(log.named("on_item_end")) == 5
    assert log.hooks[-1] == "on_pipeline_end"


def test_closing_a_lazy_map_early_is_an_error_of_the_pipeline(executor, checker):
    log = Log()
    config = RuntimeConfig(executor=executor, callbacks=[log, checker])
    results = BOTH.map_iter({"x": range(1000)}, map_over="x", config=config)
    next(results)
    results.close()
    assert log.hooks[-2:] == ["on_map_end", "on_pipeline_error"]


# ---------------------------------------------------------------- nested pipelines


NESTED = Pipeline([BOTH.as_node(), node("last")(lambda plus, x: plus * x)], name="outer")


def sum_of(plus):
    return sum(plus)


MAPPED = Pipeline([BOTH.as_node(map_over="x"), node("last")(sum_of)], name="outer")


def test_a_nested_pipeline_has_a_run_of_its_own(executor, checker):
    log = Log()
    NESTED.run({"x": 3}, config=RuntimeConfig(executor=executor, callbacks=[log, checker]))

    outer, inner = log.named("on_pipeline_start")
    assert inner["pipeline"] is BOTH
    assert inner["ctx"].path == ("outer", "both")
    assert inner["ctx"].depth == 1
    assert inner["ctx"].parent_run_id == outer["ctx"].run_id != inner["ctx"].run_id
    assert inner["inputs"]["x"] == 3
    first = log.named("on_node_start")[0]["ctx"]
    assert (first.path, first.depth) == (("outer", "both", "double"), 1)
    assert first.run_id == inner["ctx"].run_id
    assert first.pipeline is BOTH
    ended = log.named("on_pipeline_end")[0]
    assert ended["ctx"].run_id == inner["ctx"].run_id
    assert ended["outputs"] == {"double": 6, "plus": 7}
    names = [h if h != "on_node_end" else f["node"].name for h, f in log.events]
    assert names.index("plus") < names.index("on_pipeline_end") < names.index("last")


def test_a_mapped_nested_pipeline_is_a_map_with_a_run_of_its_own(executor, checker):
    log = Log()
    MAPPED.run({"x": [1, 2]}, config=RuntimeConfig(executor=executor, callbacks=[log, checker]))

    outer, inner = [facts["ctx"] for facts in log.named("on_pipeline_start")]
    assert (inner.mode, inner.depth, inner.parent_run_id) == ("map", 1, outer.run_id)
    assert log.named("on_map_start")[0]["count"] == 2
    items = log.named("on_item_end")
    assert sorted(facts["outputs"]["plus"] for facts in items) == [3, 5]
    assert {facts["ctx"].run_id for facts in items} == {inner.run_id}
    assert log.named("on_pipeline_end")[0]["outputs"]["plus"] == [3, 5]


def test_maps_inside_maps_are_told_apart(executor, checker):
    log = Log()
    pipeline = Pipeline([MAPPED.as_node(map_over="x")], name="all")
    config = RuntimeConfig(executor=executor, callbacks=[log, checker])
    pipeline.map({"x": [[[1, 2], [3]], [[4]]]}, map_over="x", config=config)

    starts = log.named("on_pipeline_start")
    assert sorted(facts["ctx"].depth for facts in starts) == [0, 1, 1, 2, 2, 2]
    assert len({facts["ctx"].run_id for facts in starts}) == 6


@pytest.mark.parametrize("map_over", [None, "x"], ids=["nested", "mapped"])
def test_a_nested_pipeline_that_fails_ends_with_an_error(executor, checker, map_over):
    log = Log()
    config = RuntimeConfig(executor=executor, callbacks=[log, checker])
    bad = BOTH.replace("plus", lambda double: {}[double]).as_node(map_over=map_over)
    with pytest.raises(KeyError) as caught:
        Pipeline([bad], name="outer").run({"x": [3] if map_over else 3}, config=config)

    inner, outer = log.named("on_pipeline_error")
    assert (inner["ctx"].depth, outer["ctx"].depth) == (1, 0)
    assert outer["error"] is caught.value
    assert repr(inner["error"]) == repr(caught.value)


def test_a_node_of_its_own_executor_belongs_to_the_run_around_it(executor, checker):
    log = Log()
    config = RuntimeConfig(executor=executor, callbacks=[log, checker])
    own = RuntimeConfig(executor=ThreadPoolExecutor(max_workers=2), callbacks=[log, checker])
    pipeline = Pipeline([double, plus.with_config(own)], config=config)
    assert pipeline.run({"x": 3}) == {"double": 6, "plus": 7}
    assert pipeline.map({"x": [3, 4]}, map_over="x")[1] == {"double": 8, "plus": 9}

    assert len(log.named("on_pipeline_start")) == 2
    assert len(log.named("on_node_end")) == 6


@pytest.mark.parametrize("map_over", [None, "x"])
def test_a_pipeline_of_its_own_executor_has_a_run_of_its_own(executor, checker, map_over):
    log = Log()
    config = RuntimeConfig(executor=executor, callbacks=[log, checker])
    own = RuntimeConfig(executor=ThreadPoolExecutor(max_workers=2), callbacks=[log, checker])
    inner = BOTH.with_config(own).as_node(map_over=map_over)
    pipeline = Pipeline([inner], name="outer", config=config)
    pipeline.run({"x": [3, 4] if map_over else 3})

    outer, nested = [facts["ctx"] for facts in log.named("on_pipeline_start")]
    assert nested.parent_run_id == outer.run_id
    assert nested.depth == 1


def test_the_config_in_force_for_a_node_says_who_observes_it(executor):
    mine, theirs = Log(), Log()
    own = RuntimeConfig(executor=executor, callbacks=[theirs])
    pipeline = Pipeline([double, plus.with_config(own)])
    pipeline.with_config(RuntimeConfig(executor=executor, callbacks=[mine])).run({"x": 1})

    assert [facts["node"].name for facts in mine.named("on_node_end")] == ["double"]
    assert theirs.hooks == ["on_node_start", "on_node_end"]
    pinned = RuntimeConfig(executor=executor, callbacks=[mine])
    pipeline.run({"x": 1}, config=pinned)
    assert len(mine.named("on_node_end")) == 3
    assert len(theirs.events) == 2


def test_a_run_that_nobody_observes_may_hold_a_node_that_somebody_does(executor):
    log = Log()
    own = RuntimeConfig(executor=executor, callbacks=[log])
    pipeline = Pipeline([double, plus.with_config(own)], config=RuntimeConfig(executor=executor))
    pipeline.run({"x": 1})
    assert log.hooks == ["on_node_start", "on_node_end"]


def test_runs_inside_nodes_know_the_run_around_them():
    log = Log()
    config = RuntimeConfig(executor="thread", callbacks=[log])
    pipeline = Pipeline([node("y")(lambda x: BOTH.run({"x": x}, config=config)["plus"])])
    pipeline.run({"x": 1}, config=config)
    outer, inner = [facts["ctx"] for facts in log.named("on_pipeline_start")]
    assert inner.parent_run_id == outer.run_id
    assert inner.depth == 0


# ---------------------------------------------------------------- retries, reports, coroutines


def test_failed_attempts_are_told_and_the_node_ends_once(executor, checker, tmp_path):
    log = Log()
    marks = tmp_path

    @node(retries=RetryPolicy(max_retries=3, initial_delay=0.0))
    def third_time(x):
        made = len(list(marks.iterdir()))
        (marks / str(made)).touch()
        if made < 2:
            raise OSError(made)
        return x

    config = RuntimeConfig(executor=executor, callbacks=[log, checker])
    Pipeline([third_time]).run({"x": 1}, config=config)

    retries = log.named("on_node_retry")
    assert [(f["attempt"], repr(f["error"]), f["delay"]) for f in retries] == [
        (1, "OSError(0)", 0.0),
        (2, "OSError(1)", 0.0),
    ]
    assert len(log.named("on_node_start")) == len(log.named("on_node_end")) == 1
    assert log.named("on_node_end")[0]["ctx"].attempt == 3


def test_a_node_that_fails_in_all_attempts_fails_once(executor, checker):
    log = Log()
    config = RuntimeConfig(executor=executor, callbacks=[log, checker], retries=2)
    run(Pipeline([fails]), {"x": 1}, config)
    assert len(log.named("on_node_retry")) == 2
    assert [facts["ctx"].attempt for facts in log.named("on_node_error")] == [3]


def test_hooks_run_outside_of_the_retries(executor, tmp_path):
    calls = tmp_path / "calls"

    @node(retries=3)
    def once(x):
        with calls.open("a") as file:
            file.write("x")
        return x

    class Bad(Callback):
        errors = "log"

        def on_node_end(self, node):
            raise RuntimeError("not yours")

    config = RuntimeConfig(executor=executor, callbacks=[Bad()])
    assert Pipeline([once]).run({"x": 1}, config=config) == {"once": 1}
    assert calls.read_text() == "x"


@pytest.mark.parametrize("policy", [0, 2])
def test_a_timeout_is_told_as_an_error_of_its_node(executor, checker, policy):
    log = Log()
    config = RuntimeConfig(executor=executor, callbacks=[log, checker], timeout=0.2, retries=policy)
    with pytest.raises(TimeoutError):
        Pipeline([node("y")(lambda x: time.sleep(1.2))]).run({"x": 1}, config=config)
    assert len(log.named("on_node_start")) == len(log.named("on_node_error")) == 1
    assert [facts["attempt"] for facts in log.named("on_node_retry")] == [1, 2][:policy]


def test_user_code_reports_from_any_worker(executor, checker):
    log = Log()

    @node
    def trained(x):
        report("epoch", number=1, x=x)
        report("epoch", number=2, x=x)
        return x

    config = RuntimeConfig(executor=executor, callbacks=[log, checker])
    Pipeline([trained]).map({"x": [5, 6]}, map_over="x", config=config)

    told = sorted(
        (f["ctx"].item_index, f["kind"], f["data"]["number"]) for f in log.named("on_report")
    )
    assert told == [(0, "epoch", 1), (0, "epoch", 2), (1, "epoch", 1), (1, "epoch", 2)]
    assert {facts["ctx"].node for facts in log.named("on_report")} == {trained}


def test_a_report_outside_of_a_run_goes_nowhere():
    report("nothing", to="nobody")


def test_coroutines_report_too(executor, checker):
    log = Log()

    @node
    async def later(x):
        await asyncio.sleep(0)
        report("step", x=x)
        return x

    config = RuntimeConfig(executor=executor, callbacks=[log, checker])
    Pipeline([later]).map({"x": [5, 6, 7, 8]}, map_over="x", config=config)
    reported = {facts["ctx"].item_index: facts["data"] for facts in log.named("on_report")}
    assert reported == {i: {"x": 5 + i} for i in range(4)}


def test_asynchronous_callers_get_the_same_events(executor, checker):
    log = Log()
    config = RuntimeConfig(executor=executor, callbacks=[log, checker])

    async def main():
        await BOTH.arun({"x": 1}, config=config)
        await BOTH.amap({"x": [1, 2]}, map_over="x", config=config)

    asyncio.run(main())
    assert log.hooks.count("on_pipeline_end") == 2
    assert log.hooks.count("on_node_end") == 6


def test_a_cancelled_run_ends_with_an_error():
    checker, entered = Checker(), threading.Event()

    class Note(Callback):
        def on_node_start(self):
            entered.set()

    @node
    async def waits(x):
        await asyncio.sleep(60)

    config = RuntimeConfig(executor=AsyncExecutor(), callbacks=[checker, Note()])

    async def main():
        task = asyncio.ensure_future(Pipeline([waits]).arun({"x": 1}, config=config))
        await asyncio.to_thread(entered.wait, 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    checker.check()
    assert [hook for hook, *_ in checker.seen][-2:] == ["on_node_error", "on_pipeline_error"]


# ---------------------------------------------------------------- what is given up, Ctrl-C


def test_nodes_that_are_given_up_get_their_end_before_the_run(checker):
    started, go_on = threading.Event(), threading.Event()

    class Note(Callback):
        def on_node_start(self, node):
            if node.name == "slow":
                started.set()

    @node
    def slow(x):
        go_on.wait(10)
        return x

    @node
    def bad(x):
        started.wait(10)
        raise KeyError(x)

    config = RuntimeConfig(executor=ThreadPoolExecutor(max_workers=2), callbacks=[checker, Note()])
    with pytest.raises(KeyError):
        Pipeline([slow, bad]).run({"x": 1}, config=config)
    assert checker.hooks("slow") == ["on_node_start", "on_node_error"]
    seen = len(checker.seen)
    go_on.set()
    config.executor.close()
    assert len(checker.seen) == seen


def test_a_worker_that_dies_takes_no_end_with_it():
    checker, log = Checker(), Log()
    config = RuntimeConfig(executor=EXECUTORS["process"], callbacks=[checker, log])
    pipeline = Pipeline([double, node("dead")(lambda double: os._exit(1) if double == 4 else 0)])
    found = pipeline.map({"x": [1, 2, 3]}, map_over="x", config=config, on_error="return")

    assert [type(entry) for entry in found] == [dict, Failure, dict]
    checker.check()
    (item,) = log.named("on_item_error")
    assert item["index"] == 1
    assert "WorkerCrashedError" in repr(item["error"])
    assert [facts["node"].name for facts in log.named("on_node_error")] == ["dead"]


CTRL_C = """
import os, signal, sys, threading, time
from hypernodes import Callback, Pipeline, RuntimeConfig, node

class Note(Callback):
    def on_node_start(self, node):
        if {main}:
            threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    def on_node_error(self, error):
        print("node", type(error).__name__, flush=True)
    def on_item_error(self, error):
        print("item", type(error).__name__, flush=True)
    def on_map_end(self):
        print("map", flush=True)
    def on_pipeline_error(self, error):
        print("pipeline", type(error).__name__, flush=True)
    def on_pipeline_start(self):
        if not {main}:
            threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT)).start()

slow = Pipeline([node("y")(lambda x: time.sleep(20))])
config = RuntimeConfig(executor={executor!r}, callbacks=[Note()])
try:
    slow.map({{"x": [1]}}, map_over="x", config=config)
except KeyboardInterrupt:
    print("interrupted", flush=True)
os._exit(0)
"""


@pytest.mark.parametrize("executor", ["sequential", "thread", "async", "process"])
def test_ctrl_c_ends_a_run_with_an_error(run_script, executor):
    source = CTRL_C.format(executor=executor, main=executor != "process")
    lines = run_script(source, env={"PYTHONUNBUFFERED": "1"}).stdout.splitlines()
    assert lines[-3:] == ["map", "pipeline KeyboardInterrupt", "interrupted"]
    if executor != "process":
        assert lines[0].startswith("node ")
        assert lines[1].startswith("item ")


# ---------------------------------------------------------------- failing observers


def failing_at(hook):
    def fail(self):
        raise ValueError(f"no {hook}")

    return type("Bad", (Callback,), {hook: fail})


def work(config):
    """Let every hook of a run happen that can."""

    @node(retries=1)
    def sometimes(x):
        report("hello")
        if x == 2:
            raise KeyError(x)
        return x

    pipeline = Pipeline([sometimes], name="p")
    found = pipeline.map({"x": [1, 2]}, map_over="x", config=config, on_error="return")
    assert found[0] == {"sometimes": 1}
    assert isinstance(found[1].error, KeyError)
    with pytest.raises(KeyError):
        pipeline.run({"x": 2}, config=config)


@pytest.mark.parametrize("hook", HOOKS)
def test_failing_observers_are_logged_once_and_change_nothing(executor, checker, hook, caplog):
    config = RuntimeConfig(executor=executor, callbacks=[failing_at(hook)(), checker])
    with caplog.at_level(logging.ERROR):
        work(config)
    logged = [record for record in caplog.records if record.name.startswith("hypernodes")]
    assert 1 <= len(logged) <= 2  # one for each of the two runs
    assert hook in logged[0].getMessage()
    assert "Bad" in logged[0].getMessage()


class UnprintableError(Exception):
    def __str__(self):
        raise TypeError("no text")


@pytest.mark.parametrize("policy", ["log", "warn", "raise"])
def test_observers_may_fail_with_errors_that_have_no_text(executor, checker, policy, caplog):
    class Bad(Callback):
        errors = policy

        def on_node_end(self):
            raise UnprintableError

    config = RuntimeConfig(executor=executor, callbacks=[Bad(), checker])
    with contextlib.ExitStack() as stack:
        if policy == "raise":
            stack.enter_context(pytest.raises(CallbackError, match="UnprintableError"))
        if policy == "warn":
            stack.enter_context(pytest.warns(RuntimeWarning, match="UnprintableError"))
        assert BOTH.run({"x": 1}, config=config) == {"double": 2, "plus": 3}
    assert ("UnprintableError" in caplog.text) == (policy == "log")


@pytest.mark.parametrize("hook", ["on_pipeline_start", "on_node_end", "on_item_error"])
def test_failing_observers_can_warn(executor, hook):
    config = RuntimeConfig(
        executor=executor, callbacks=[failing_at(hook)()], callback_errors="warn"
    )
    with pytest.warns(RuntimeWarning, match=f"{hook} of callback .*Bad"):
        work(config)


ENDS = ["on_pipeline_error", "on_node_error", "on_item_error"]


@pytest.mark.parametrize("hook", [hook for hook in HOOKS if hook not in ENDS])
def test_failing_observers_can_end_the_run(executor, checker, hook):
    bad = failing_at(hook)
    config = RuntimeConfig(executor=executor, callbacks=[bad(), checker], callback_errors="raise")

    @node(retries=1)
    def tried(x):
        report("hello")
        if not hasattr(threading, "tried_before"):
            threading.tried_before = True
            raise OSError
        return x

    config.executor.close()  # workers of this test's own
    try:
        with pytest.raises(CallbackError, match=hook) as caught:
            Pipeline([tried]).map({"x": [1, 2]}, map_over="x", config=config)
    finally:
        config.executor.close()
        vars(threading).pop("tried_before", None)
    assert caught.value.hook == hook
    assert "Bad" in caught.value.callback
    assert repr(caught.value.__cause__) == f"ValueError('no {hook}')"


@pytest.mark.parametrize("hook", ENDS[:2])
def test_the_users_error_wins_over_that_of_a_callback(executor, checker, hook):
    bad = failing_at(hook)()
    bad.errors = "raise"
    config = RuntimeConfig(executor=executor, callbacks=[bad, checker])
    with pytest.raises(KeyError) as caught:
        Pipeline([fails]).run({"x": 1}, config=config)
    if hook == "on_pipeline_error" or executor in list(EXECUTORS.values())[:3]:
        assert any(hook in note for note in caught.value.__notes__)


def test_a_callbacks_own_policy_wins_over_that_of_the_config(executor):
    quiet = failing_at("on_node_end")()
    quiet.errors = "log"
    config = RuntimeConfig(executor=executor, callbacks=[quiet], callback_errors="raise")
    assert BOTH.run({"x": 1}, config=config)["plus"] == 3


def test_an_observer_that_fails_keeps_no_other_from_being_called(executor):
    log = Log()
    bad = [failing_at(hook)() for hook in HOOKS]
    BOTH.run({"x": 1}, config=RuntimeConfig(executor=executor, callbacks=[*bad, log]))
    assert len(log.events) == 6


# ---------------------------------------------------------------- order, and the background


def ordered(name, seen, order=50, **facts):
    def note(self, node):
        seen.append(name)

    return type(
        name, (Callback,), {"order": order, "on_node_start": note, "on_node_end": note} | facts
    )()


def test_lower_order_comes_first_for_end_events_too(executor):
    seen = []
    callbacks = [
        ordered("b", seen),
        ordered("c", seen, 60),
        ordered("a", seen, 1),
        ordered("b2", seen),
    ]
    Pipeline([double]).run({"x": 1}, config=RuntimeConfig(executor=executor, callbacks=callbacks))
    assert seen == ["a", "b", "b2", "c"] * 2


def test_background_callbacks_are_called_in_order_and_have_done_when_the_run_returns(executor):
    threads, seen = set(), []

    class Slow(Callback):
        async_mode = True

        def on_node_end(self, ctx, output):
            time.sleep(0.001)
            threads.add(threading.current_thread())
            seen.append((ctx.item_index, output))

        def on_pipeline_end(self):
            seen.append("end")

    config = RuntimeConfig(executor=executor, callbacks=[Slow()])
    Pipeline([double]).map({"x": range(20)}, map_over="x", config=config)
    assert sorted(seen[:-1]) == [(i, 2 * i) for i in range(20)]
    assert seen[-1] == "end"
    assert len(threads) == 1
    assert threading.main_thread() not in threads


def test_a_background_callback_holds_up_no_node():
    go_on = threading.Event()

    class Waits(Callback):
        async_mode = True

        def on_node_start(self):
            assert go_on.wait(10)

    @node
    def frees(x):
        go_on.set()
        return x

    config = RuntimeConfig(executor="sequential", callbacks=[Waits()], callback_errors="raise")
    assert Pipeline([frees]).run({"x": 1}, config=config) == {"frees": 1}


def test_a_background_callback_that_fails_ends_the_run_at_its_end(executor):
    bad = failing_at("on_node_end")()
    bad.async_mode = True
    config = RuntimeConfig(executor=executor, callbacks=[bad], callback_errors="raise")
    with pytest.raises(CallbackError, match="on_node_end"):
        BOTH.run({"x": 1}, config=config)


def test_hooks_of_one_run_never_run_at_the_same_time(executor):
    lock, clashes = threading.Lock(), []

    class Alone(Callback):
        def on_node_start(self):
            self.enter()

        def on_node_end(self):
            self.enter()

        def enter(self):
            if not lock.acquire(blocking=False):
                clashes.append(1)
                return
            time.sleep(0.0005)
            lock.release()

    config = RuntimeConfig(executor=executor, callbacks=[Alone()])
    Pipeline([double]).map({"x": range(50)}, map_over="x", config=config)
    assert not clashes


def test_two_callbacks_of_one_class_are_both_called(executor):
    first, second = Log(), Log()
    BOTH.run({"x": 1}, config=RuntimeConfig(executor=executor, callbacks=[first, second]))
    assert first.hooks == second.hooks != []


def test_callbacks_that_equal_each_other_are_both_called():
    class Equal(Log):
        def __eq__(self, other):
            return True

        __hash__ = None

    first, second, third = Equal(), Equal(), Equal()
    config = RuntimeConfig(executor="sequential", callbacks=[first, second])
    BOTH.run({"x": 1}, config=config)
    BOTH.run({"x": 1}, config=RuntimeConfig(executor="sequential", callbacks=[third]))
    assert first.hooks == second.hooks == third.hooks != []


# ---------------------------------------------------------------- wrap_node


def test_wrap_node_runs_around_a_node_where_the_node_runs(executor):
    class Wraps(Callback):
        def wrap_node(self, ctx, node, inputs, call):
            return (node.name, inputs, ctx.path, ctx.item_index, call(), os.getpid())

    config = RuntimeConfig(executor=executor, callbacks=[Wraps()])
    pipeline = Pipeline([double], name="p")
    (found,) = pipeline.map({"x": [3]}, map_over="x", config=config)
    *facts, pid = found["double"]
    assert facts == ["double", {"x": 3}, ("p", "double"), 0, 6]
    assert (pid == os.getpid()) == (not isinstance(executor, ProcessPoolExecutor))


def test_wrap_node_can_skip_a_node(executor):
    class Skips(Callback):
        def wrap_node(self):
            return 10

    config = RuntimeConfig(executor=executor, callbacks=[Skips()])
    assert Pipeline([fails]).run({"x": 1}, config=config) == {"fails": 10}


def test_wrap_node_is_around_the_retries_and_gets_the_finished_value(executor, tmp_path):
    path = tmp_path / "calls"

    class Counts(Callback):
        def wrap_node(self, node, call):
            with path.open("a") as file:
                file.write(node.name)
            return call() + 1

    @node(retries=2)
    async def later(x):
        await asyncio.sleep(0)
        with path.open("a") as file:
            file.write(".")
        if len(path.read_text()) < len("later..."):
            raise OSError
        return x

    config = RuntimeConfig(executor=executor, callbacks=[Counts()])
    assert Pipeline([later]).run({"x": 1}, config=config) == {"later": 2}
    assert path.read_text() == "later..."


def test_wrappers_nest_in_order_and_outside_of_them_are_start_and_end(executor):
    def wrapping(name, order):
        def wrap_node(self, call):
            return [name, *call()]

        return type(name, (Callback,), {"order": order, "wrap_node": wrap_node})()

    log = Log()
    callbacks = [wrapping("in", 60), log, wrapping("out", 10)]
    config = RuntimeConfig(executor=executor, callbacks=callbacks)
    Pipeline([node("y")(lambda x: [x])]).run({"x": 1}, config=config)
    assert log.named("on_node_end")[0]["output"] == ["out", "in", 1]


def test_what_wrap_node_raises_is_the_nodes_error(executor, checker):
    class Refuses(Callback):
        def wrap_node(self):
            raise PermissionError("no")

    config = RuntimeConfig(executor=executor, callbacks=[Refuses(), checker])
    with pytest.raises(PermissionError):
        BOTH.run({"x": 1}, config=config)


def test_a_replaced_value_has_to_fit_the_outputs(executor):
    class Replaces(Callback):
        def wrap_node(self, call):
            return call()[:1]

    @node(output_name=("low", "high"))
    def bounds(x):
        return x, x + 1

    config = RuntimeConfig(executor=executor, callbacks=[Replaces()])
    with pytest.raises(Exception, match="2 outputs"):
        Pipeline([bounds]).run({"x": 1}, config=config)


# ---------------------------------------------------------------- what travels from processes


class Unfriendly:
    def __reduce__(self):
        raise TypeError("stays here")


def test_values_that_nobody_asks_for_stay_in_their_worker():
    log = []

    class Names(Callback):
        def on_node_end(self, ctx, node, duration):
            log.append((ctx.path, node.name))

    inner = [node("a")(lambda x: Unfriendly()), node("b")(lambda a: type(a).__name__)]
    config = RuntimeConfig(executor=EXECUTORS["process"], callbacks=[Names()])
    found = Pipeline(inner).run({"x": 1}, output_name="b", config=config)
    assert found == {"b": "Unfriendly"}
    assert [name for _, name in log] == ["a", "b"]


def test_a_value_that_cannot_travel_changes_no_result():
    log = Log()
    inner = [node("a")(lambda x: Unfriendly()), node("b")(lambda a: type(a).__name__)]
    config = RuntimeConfig(executor=EXECUTORS["process"], callbacks=[log])
    found = Pipeline(inner).run({"x": 1}, output_name="b", config=config)
    assert found == {"b": "Unfriendly"}
    assert "cannot leave its worker" in repr(log.named("on_node_end")[0]["output"])


def test_callbacks_need_not_be_picklable():
    class Holds(Callback):
        def __init__(self):
            self.lock = threading.Lock()
            self.pids = set()

        def on_node_end(self):
            with self.lock:
                self.pids.add(os.getpid())

    holds = Holds()
    config = RuntimeConfig(executor=EXECUTORS["process"], callbacks=[holds])
    with RuntimeConfig.use(config):
        BOTH.with_config(config).map({"x": [1, 2]}, map_over="x")
    assert holds.pids == {os.getpid()}


# ---------------------------------------------------------------- opening and closing of workers


def test_the_opening_and_closing_of_workers_goes_to_the_run_that_needed_them():
    seen = []

    class Opens(Callback):
        def on_executor_start(self, ctx, executor, options):
            options["mine"] = 1
            seen.append(("start", ctx.run_id, executor))

        def on_executor_stop(self, ctx, executor, options):
            seen.append(("stop", ctx.run_id, options))

    executor = ThreadPoolExecutor(max_workers=7)
    config = RuntimeConfig(executor=executor, callbacks=[Opens()])
    other = RuntimeConfig(executor=executor, callbacks=[Opens()])
    BOTH.map({"x": [1, 2]}, map_over="x", config=config)
    BOTH.map({"x": [1, 2]}, map_over="x", config=other)
    assert [kind for kind, *_ in seen] == ["start"]
    executor.close()
    assert [kind for kind, *_ in seen] == ["start", "stop"]
    assert seen[0][1] == seen[1][1]
    assert seen[1][2] == {"mine": 1}


# ---------------------------------------------------------------- configs with callbacks


def test_configs_are_equal_if_their_callbacks_are_the_same_objects():
    first, second = Log(), Log()
    config = RuntimeConfig(callbacks=[first])
    assert config == RuntimeConfig(callbacks=(first,))
    assert hash(config) == hash(RuntimeConfig(callbacks=(first,)))
    assert config != RuntimeConfig(callbacks=[second])
    assert config != RuntimeConfig()
    assert config.replace(retries=1).callbacks == (first,)


def test_configs_with_callbacks_pickle_if_these_do():
    config = RuntimeConfig(callbacks=["checker:Checker"])
    assert pickle.loads(pickle.dumps(config)) == config
    copy = pickle.loads(pickle.dumps(RuntimeConfig(callbacks=[Checker()])))
    assert isinstance(copy.callbacks[0], Checker)


def test_no_callbacks_no_pluggy(run_script):
    source = """
import sys
from hypernodes import Pipeline, RuntimeConfig, node
Pipeline([node("y")(lambda x: x)]).run({"x": 1}, config=RuntimeConfig(executor="thread"))
assert "pluggy" not in sys.modules
"""
    run_script(source)


def test_a_plan_that_nobody_observes_is_the_plan_it_was():
    engine = BOTH.engine(["x"], BOTH._context(RuntimeConfig()))
    assert not engine.observed
    assert not engine.is_observed
    assert engine.calls == (double.func, plus.func)


# ---------------------------------------------------------------- when events are told


@pytest.mark.parametrize("name", ["sequential", "thread", "one-thread", "async"])
@pytest.mark.parametrize("is_mapped", [False, True])
def test_what_happens_is_told_while_it_happens(name, is_mapped):
    """A node goes on when its start, and then its report, have been told."""
    started, reported = threading.Event(), threading.Event()

    class Waited(Callback):
        def on_node_start(self, node):
            if node.name == "waits":
                started.set()

        def on_report(self):
            reported.set()

    @node
    def waits(x):
        assert started.wait(60)
        report("there")
        return reported.wait(60)

    pipeline = Pipeline([double, waits])
    config = RuntimeConfig(executor=EXECUTORS[name], callbacks=(Waited(),))
    if is_mapped:
        results = pipeline.map({"x": [1]}, map_over="x", output_name="waits", config=config)
        assert results == [{"waits": True}]
    else:
        found = pipeline.run({"x": 1}, output_name=["waits", "double"], config=config)
        assert found == {"double": 2, "waits": True}


# ---------------------------------------------------------------- what only errors show


class Shipped:
    """Counts how often it is pickled."""

    def __init__(self, value, folder):
        self.value, self.folder = value, folder

    def __reduce__(self):
        (self.folder / f"{os.getpid()}-{time.monotonic_ns()}").touch()
        return Shipped, (self.value, self.folder)


def test_inputs_that_only_errors_show_travel_only_with_errors(tmp_path):
    class Errors(Callback):
        def __init__(self):
            self.inputs = []

        def on_node_error(self, ctx):
            self.inputs.append(ctx.inputs["shipped"].value)

    errors = Errors()
    shipped = node("shipped")(Shipped).rename(inputs={"value": "x"})

    def fails(shipped):
        if shipped.value == 2:
            raise KeyError(2)

    pipeline = Pipeline([shipped, node("y")(fails)])
    config = RuntimeConfig(executor=EXECUTORS["process"], callbacks=(errors,))
    inputs = {"x": range(4), "folder": tmp_path}
    pipeline.map(inputs, map_over="x", output_name="y", on_error="return", config=config)
    assert errors.inputs == [2]
    pids = {path.name.partition("-")[0] for path in tmp_path.iterdir()}
    assert len(pids) == 1  # that of the worker that failed; what it packed is checked, too
