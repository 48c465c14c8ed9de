"""`RunReport`: what it notes of runs on every executor, and the file that it writes of them."""

from __future__ import annotations

import asyncio
import os
import pickle
import re
import signal
import sys
import threading
import tracemalloc
import warnings
from html.parser import HTMLParser
from pathlib import Path

import pytest

from hypernodes import (
    AsyncExecutor,
    CallbackError,
    CompositeExecutor,
    InputError,
    MemoryCache,
    MissingDependencyError,
    Pipeline,
    ProcessPoolExecutor,
    RuntimeConfig,
    SequentialExecutor,
    ThreadPoolExecutor,
    WorkerCrashedError,
    node,
    register_plugins,
    telemetry,
)
from hypernodes._dispatch.place import Worker, current_worker
from hypernodes.telemetry import RunReport
from hypernodes.telemetry._report import callback as callback_module
from hypernodes.telemetry._report import page as page_module
from hypernodes.telemetry._report import record as record_module
from hypernodes.telemetry._report.words import spelled

EXECUTORS = {
    "sequential": SequentialExecutor(),
    "thread": ThreadPoolExecutor(max_workers=3),
    "async": AsyncExecutor(max_concurrency=3),
    "process": ProcessPoolExecutor(max_workers=2),
    "composite": CompositeExecutor(
        map_executor=ThreadPoolExecutor(max_workers=2), node_executor=SequentialExecutor()
    ),
}


@pytest.fixture(params=EXECUTORS.values(), ids=EXECUTORS.keys())
def executor(request):
    return request.param


@pytest.fixture
def records(monkeypatch):
    """What was noted of each run, in the order in which they ended."""
    kept = []

    def render(record):
        kept.append(record)
        return page_module.render(record)

    monkeypatch.setattr(callback_module, "render", render)
    return kept


@pytest.fixture
def report(tmp_path):
    return RunReport(tmp_path / "report.html")


@node
def double(x):
    return 2 * x


@node
def plus(double, y=1):
    return double + y


@node
def refuses_twos(x):
    if x == 2:
        raise KeyError(f"no {x}")
    return x


@node
def after(refuses_twos):
    return refuses_twos


@node(retries=3)
def works_at_third(x):
    tried = Path(x)
    count = len(tried.read_text()) if tried.exists() else 0
    tried.write_text("." * (count + 1))
    if count < 2:
        raise OSError("not yet")
    return count


@node
def numbers(start):
    return [start, start + 1, start + 2]


@node
def total(sums):
    return sum(sums)


BOTH = Pipeline([double, plus], name="both")
REFUSING = Pipeline([refuses_twos, after], name="refusing")
NESTED = Pipeline(
    [
        numbers,
        BOTH.as_node(
            map_over="numbers", input_mapping={"numbers": "x"}, output_mapping={"plus": "sums"}
        ),
        total,
    ],
    name="nested",
)


def run(pipeline, inputs, executor, report, **options):
    return pipeline.run(
        inputs, config=RuntimeConfig(executor=executor, callbacks=[report]), **options
    )


def map_over_x(pipeline, items, executor, report, **options):
    config = RuntimeConfig(executor=executor, callbacks=[report])
    return pipeline.map({"x": items}, map_over="x", config=config, **options)


def figures(record):
    """Return how often each node was called, by the last name of its path."""
    return {path[-1]: stats.calls for (path, _), stats in record.nodes.items()}


class _Page(HTMLParser):
    """Reads what stands in elements, by their class or id."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], []
        self._hidden = False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self._hidden = tag in {"style", "script"}

    def handle_endtag(self, tag):
        self._hidden = False

    def handle_data(self, data):
        if not self._hidden:
            self.text.append(data)

    @property
    def words(self):
        return " ".join(" ".join(self.text).split())


def words_of(report):
    return _Page(report.written.read_text(encoding="utf-8")).words


# ---------------------------------------------------------------- what is noted


def test_a_run_counts_its_nodes(executor, report, records):
    run(BOTH, {"x": 3}, executor, report)
    (record,) = records
    assert figures(record) == {"double": 1, "plus": 1}
    assert record.status == "completed"
    assert not record.is_map
    assert record.seconds > 0
    assert all(stats.seconds >= stats.longest > 0 for stats in record.nodes.values())
    assert sum(lane.calls for lane in record.timeline.lanes.values()) == 2


def test_a_map_counts_its_items(executor, report, records):
    map_over_x(BOTH, range(20), executor, report)
    (record,) = records
    assert figures(record) == {"double": 20, "plus": 20}
    assert (record.is_map, record.count, record.own_items.done) == (True, 20, 20)
    slowest = record.slowest_items.entries()
    assert {entry.items for entry in slowest} == {(n,) for n in range(20)}
    assert all(entry.inputs == (("x", str(entry.items[0])),) for entry in slowest)
    assert [e.seconds for e in slowest] == sorted((e.seconds for e in slowest), reverse=True)
    calls = record.slowest_calls.entries()
    assert len(calls) == 20
    assert [e.seconds for e in calls] == sorted((e.seconds for e in calls), reverse=True)


def test_a_mapped_pipeline_inside_is_counted_with_its_items(executor, report, records):
    assert run(NESTED, {"start": 1}, executor, report)["total"] == 15
    (record,) = records
    assert figures(record) == {"numbers": 1, "double": 3, "plus": 3, "total": 1}
    assert record.items.done == 3
    assert {item.path for item in record.slowest_items.entries()} == {("nested", "both")}
    assert record.runs["nested", "both"].runs == 1


def test_items_inside_of_items_say_where_they_are(executor, report, records):
    outer = Pipeline([NESTED.as_node(map_over="start")], name="outer")
    run(outer, {"start": [1, 5]}, executor, report)
    (record,) = records
    items = {(item.path[-1], item.items) for item in record.slowest_items.entries()}
    inner = {("both", (n, m)) for n in range(2) for m in range(3)}
    assert items == inner | {("nested", (0,)), ("nested", (1,))}


def test_everything_that_was_called_is_in_the_graph(executor, report, records):
    outer = Pipeline([NESTED.as_node(map_over="start"), BOTH], name="outer")
    run(outer, {"start": [1, 5], "x": 2}, executor, report)
    (record,) = records
    assert len(record.nodes) == 6
    names = page_module.Names(record)
    assert set(record.nodes) == set(names.picture.leaves)


def test_cached_results_are_counted_apart_from_calls(executor, report, records):
    cache = MemoryCache()
    config = RuntimeConfig(executor=executor, cache=cache, callbacks=[report])
    BOTH.map({"x": [1, 2]}, map_over="x", config=config)
    BOTH.map({"x": [1, 2, 3]}, map_over="x", config=config, output_name="plus")
    first, second = records
    assert figures(first) == {"double": 2, "plus": 2}
    assert {stats.missed for stats in first.nodes.values()} == {2}
    found = {path[-1]: stats for (path, _), stats in second.nodes.items()}
    assert (found["plus"].cached, found["plus"].calls, found["plus"].missed) == (2, 1, 1)
    assert "2 cached" in words_of(report)


def test_retries_are_counted(executor, report, records, tmp_path):
    path = str(tmp_path / "tried")
    assert run(Pipeline([works_at_third]), {"x": path}, executor, report) == {"works_at_third": 2}
    (record,) = records
    (stats,) = record.nodes.values()
    assert (stats.calls, stats.retries, stats.failed) == (1, 2, 0)
    assert "2 retries" in words_of(report)


def test_a_failure_is_told_with_its_inputs(executor, report, records):
    with pytest.raises(KeyError):
        run(REFUSING, {"x": 2}, executor, report)
    (record,) = records
    (fault,) = record.faults
    assert record.status == "failed"
    assert fault.path == ("refusing", "refuses_twos")
    assert (fault.kind, fault.message, fault.items) == ("KeyError", "'no 2'", ())
    assert fault.inputs == (("x", "2"),)
    assert "refuses_twos" in fault.trace
    assert fault.attempt == 1
    page = words_of(report)
    assert "Failed" in page
    assert "'no 2'" in page
    assert "no calls" in page  # what comes after it


def test_failed_items_are_told_and_the_others_counted(executor, report, records):
    map_over_x(REFUSING, [1, 2, 3, 2], executor, report, on_error="return")
    (record,) = records
    assert (record.own_items.done, record.own_items.failed) == (2, 2)
    assert sorted(fault.items for fault in record.faults) == [(1,), (3,)]
    assert all(fault.inputs == (("x", "2"),) for fault in record.faults)
    assert all(fault.item_inputs == (("x", "2"),) for fault in record.faults)
    assert "Completed with failures" in words_of(report)


def test_the_failure_of_a_nested_item_is_told_once(executor, report, records):
    outer = Pipeline([REFUSING.as_node(map_over="x"), node("also")(lambda y: y)], name="outer")
    with pytest.raises(KeyError):
        run(outer, {"x": [1, 2], "y": 0}, executor, report)
    (record,) = records
    assert record.fault_counts == {(("outer", "refusing", "refuses_twos"), "KeyError"): 1}
    assert record.faults[0].items == (1,)


def test_workers_are_those_that_nodes_ran_in(executor, report, records):
    pipeline = Pipeline([node("where")(lambda x: (os.getpid(), threading.current_thread().name))])
    results = map_over_x(pipeline, range(12), executor, report)
    (record,) = records
    lanes = {(worker.process, worker.thread) for worker in record.timeline.lanes}
    assert lanes == {result["where"] for result in results}


def test_two_nodes_of_one_name_are_two(executor, report, records):
    twice = Pipeline(
        [double, double.rename(inputs={"x": "double"}, outputs={"double": "fourfold"})]
    )
    run(twice, {"x": 1}, executor, report)
    (record,) = records
    assert {outputs for _, outputs in record.nodes} == {("double",), ("fourfold",)}
    assert "double → fourfold" in words_of(report)


def test_a_crashed_worker_takes_the_inputs_along(report, records):
    pipeline = Pipeline([node("dies")(lambda x: os._exit(1))])
    with pytest.raises(WorkerCrashedError):
        run(pipeline, {"x": 1}, ProcessPoolExecutor(max_workers=1), report)
    (record,) = records
    assert [(fault.kind, fault.inputs) for fault in record.faults] == [("WorkerCrashedError", None)]
    assert "gone with its worker" in words_of(report)


def test_what_is_given_up_is_no_failure(report, records):
    entered = threading.Event()

    async def waits(x):
        entered.set()
        await asyncio.sleep(60)

    def fails(y):
        assert entered.wait(10)
        raise ValueError("enough")

    pipeline = Pipeline([node("waited")(waits), node("failed")(fails)])
    with pytest.raises(ValueError, match="enough"):
        run(pipeline, {"x": 1, "y": 1}, AsyncExecutor(), report)
    (record,) = records
    stats = {path[-1]: stats for (path, _), stats in record.nodes.items()}
    assert (stats["waits"].cancelled, stats["waits"].failed) == (1, 0)
    assert [fault.key[1] for fault in record.faults] == [("failed",)]
    assert "given up" in words_of(report)


def test_a_failure_that_no_node_has_is_told_of_the_pipeline(executor, report, records):
    mapped = BOTH.as_node(map_over="many", input_mapping={"many": "x"})
    with pytest.raises(InputError):
        run(Pipeline([mapped], name="outer"), {"many": 5}, executor, report)
    (record,) = records
    ((path, kind),) = record.fault_counts
    assert (path[0], kind) == ("outer", "InputError")
    assert [fault.key for fault in record.faults] == [None]


def test_runs_that_a_node_asks_for_are_part_of_that_node(report, records):
    @node
    def asks(x):
        return BOTH.run({"x": x})["plus"]

    config = RuntimeConfig(executor="sequential", callbacks=[report])
    with RuntimeConfig.use(config):
        assert Pipeline([asks], name="asking").run({"x": 1}) == {"asks": 3}
    (record,) = records
    assert figures(record) == {"asks": 1}


def test_a_report_inside_a_run_is_of_what_it_sees(report, records):
    config = RuntimeConfig(executor="sequential", callbacks=[report])
    outer = Pipeline([BOTH.with_config(config), node("more")(lambda plus: plus)], name="outer")
    outer.run({"x": 1}, config=None)
    (record,) = records
    assert record.path == ("outer", "both")
    assert "Report of a run inside outer" in words_of(report)
    assert figures(record) == {"double": 1, "plus": 1}


def test_only_the_inputs_of_failures_and_items_are_asked_for(report):
    needs = RuntimeConfig(callbacks=[report]).table.needs
    reads = {hook for hook, values in needs.events if values}
    assert reads == {"on_node_error", "on_item_end", "on_item_error"}
    assert not needs.reads("outputs", *(hook for hook, _ in needs.events))


# ---------------------------------------------------------------- bounds


def test_a_big_map_makes_a_small_page(tmp_path, records):
    report = RunReport(tmp_path / "big.html", slowest=5, failures=3)

    @node
    def odd(x):
        if x % 2:
            raise ValueError(x)

    map_over_x(Pipeline([odd]), range(10_000), "sequential", report, on_error="return")
    (record,) = records
    assert (record.own_items.done, record.own_items.failed) == (5000, 5000)
    assert len(record.faults) == 3
    assert sum(record.fault_counts.values()) == 5000
    page = words_of(report)
    assert "The first 3 of 5,000 failures" in page
    assert "The slowest 5 of 10,000 items." in page
    assert "The slowest 5 of 10,000 calls." in page
    assert "too many calls to draw each" in page
    assert report.written.stat().st_size < 800_000


def test_nothing_is_listed_where_nothing_is_asked_for(tmp_path):
    report = RunReport(tmp_path / "none.html", slowest=0, failures=0)
    map_over_x(REFUSING, [1, 2], "sequential", report, on_error="return")
    assert "The first 0 of 1 failure" in words_of(report)


def test_a_pipeline_of_many_nodes_is_a_table_only(tmp_path):
    report = RunReport(tmp_path / "many.html")
    chain = [node(f"n{n + 1}")(lambda x: x).rename(inputs={"x": f"n{n}"}) for n in range(600)]
    run(Pipeline(chain), {"n0": 1}, "sequential", report)
    page = words_of(report)
    assert "600 nodes: too many to draw" in page
    assert "100 nodes that took less time left out" in page


def test_pipelines_inside_stay_closed_where_there_would_be_too_many_boxes(tmp_path):
    report = RunReport(tmp_path / "many.html")
    chain = [node(f"n{n + 1}")(lambda x: x).rename(inputs={"x": f"n{n}"}) for n in range(260)]
    outer = Pipeline([Pipeline(chain, name="long"), node("end")(lambda n260: n260)])
    run(outer, {"n0": 1}, "sequential", report)
    assert "1 pipeline inside not opened" in words_of(report)


def test_values_are_told_in_bounded_words(tmp_path, records):
    class Wordy:
        def __repr__(self):
            return "w" * 10**6

    class Mute:
        def __repr__(self):
            raise RuntimeError("no words")

    class SecretiveError(Exception):
        def __str__(self):
            raise RuntimeError("no words")

    class Odd:
        pass

    Odd.__name__ = "list"  # spelled as one, but it is none

    @node
    def refuses(wordy, mute, many, odd):
        raise SecretiveError

    report = RunReport(tmp_path / "wordy.html")
    inputs = {"wordy": Wordy(), "mute": Mute(), "many": list(range(10**6)), "odd": Odd()}
    with pytest.raises(SecretiveError):
        run(Pipeline([refuses]), inputs, "sequential", report)
    told = dict(records[0].faults[0].inputs)
    assert all(len(words) <= 600 for words in told.values())
    assert told["mute"].startswith("<Mute instance at ")
    assert told["odd"] == "<a list, whose repr fails: TypeError>"
    assert told["many"].startswith("[0, 1, 2")


def test_workers_and_calls_that_are_not_drawn_are_told_of(report, monkeypatch):
    monkeypatch.setattr(record_module, "MOST_LANES", 1)
    monkeypatch.setattr(record_module, "MOST_ROWS", 2)
    met = asyncio.Barrier(5)
    beside = node("beside")(lambda m0, m4: m0)

    async def meets(x):
        await met.wait()
        return x

    config = RuntimeConfig(executor=AsyncExecutor(), callbacks=[report])
    five = [node(f"m{n}")(meets) for n in range(5)]
    Pipeline([*five, beside]).run({"x": 1}, config=config)
    page = words_of(report)
    assert "1 further worker without a lane" in page
    assert "3 calls left out where too many overlapped" in page


def test_workers_elsewhere_are_named_with_their_host(report, records):
    run(BOTH, {"x": 1}, "sequential", report)
    names = page_module.Names(records[0])
    here = current_worker()
    assert names.worker(here) == ("driver", here.thread)
    assert names.worker(here._replace(process=-1)) == ("process -1", here.thread)
    assert names.worker(Worker("t", 5, "far")) == ("far, process 5", "t")


# ---------------------------------------------------------------- the page


def test_what_users_name_is_text_and_no_markup(tmp_path):
    class Evil:
        def __repr__(self):
            return "<img src=x onerror=alert(1)>"

    def raises(evil):
        raise ValueError("</style><script>alert('message')</script>")

    inner = Pipeline([node("out")(raises)]).as_node(name="<script>alert('node')</script>")
    pipeline = Pipeline([inner], name="</title><script>alert('name')</script>")
    report = RunReport(tmp_path / "evil.html")
    with pytest.raises(ValueError, match="alert"):
        run(pipeline, {"evil": Evil()}, "sequential", report)
    page = _Page(report.written.read_text(encoding="utf-8"))
    tags = [tag for tag, _ in page.tags]
    assert (tags.count("script"), tags.count("img"), tags.count("style")) == (1, 0, 1)
    for told in ("alert('name')", "alert('node')", "alert('message')", "onerror=alert(1)"):
        assert told in page.words


def test_the_page_names_no_address_to_load_from(report):
    map_over_x(BOTH, range(3), "sequential", report)
    text = report.written.read_text(encoding="utf-8")
    assert re.findall(r"https?:|//\w+\.|@import|<link(?! rel=\"icon\" href=\"data:,\")", text) == []
    assert set(re.findall(r"url\((.*?)\)", text)) == {"#arrow"}
    for tag, attributes in _Page(text).tags:
        assert "src" not in attributes, tag
        assert attributes.get("href", "#").startswith(("#", "data:,")), tag


def test_names_that_are_no_valid_unicode_are_written_all_the_same(tmp_path):
    report = RunReport(tmp_path / "odd.html")
    run(Pipeline([double], name="odd \ud800 name"), {"x": 1}, "sequential", report)
    assert "odd \\ud800 name" in report.written.read_text(encoding="utf-8")


def test_secrets_of_a_config_are_not_told(report):
    config = RuntimeConfig(
        executor="sequential",
        cache={"kind": "memory", "options": {"salt": "pass-phrase"}},
        callbacks=[report],
    )
    BOTH.run({"x": 1}, config=config)
    text = report.written.read_text(encoding="utf-8")
    assert "pass-phrase" not in text
    assert "memory" in text


# ---------------------------------------------------------------- the file


def test_fields_of_the_path_stand_for_the_run(tmp_path, records):
    report = RunReport(tmp_path / "new" / "{pipeline}-{run_id}.html")
    run(Pipeline([double], name="a/b c"), {"x": 1}, "sequential", report)
    run(Pipeline([double], name="a/b c"), {"x": 1}, "sequential", report)
    names = {f"a_b_c-{record.run_id}.html" for record in records}
    assert {path.name for path in (tmp_path / "new").iterdir()} == names
    assert report.written.name in names


def test_without_fields_the_page_is_that_of_the_last_run(report, tmp_path):
    run(Pipeline([double], name="first"), {"x": 1}, "sequential", report)
    run(Pipeline([double], name="second"), {"x": 1}, "sequential", report)
    assert "second" in words_of(report)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_runs_side_by_side_do_not_mix(tmp_path, records):
    report = RunReport(tmp_path / "{run_id}.html")
    together = threading.Barrier(2, timeout=30)
    pipeline = Pipeline([node("met")(lambda x: together.wait() is not None)])
    config = RuntimeConfig(executor="sequential", callbacks=[report])
    threads = [
        threading.Thread(target=pipeline.run, args=({"x": 1},), kwargs={"config": config})
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [figures(record) for record in records] == [{"met": 1}] * 2
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("errors", ["log", "raise"])
def test_a_file_that_cannot_be_written_is_a_warning(tmp_path, errors):
    (tmp_path / "file").write_text("in the way")
    report = RunReport(tmp_path / "file" / "report.html")
    config = RuntimeConfig(executor="sequential", callbacks=[report], callback_errors=errors)
    with pytest.warns(RuntimeWarning, match=r"could not be written to .*report.html.*not affected"):
        assert BOTH.run({"x": 1}, config=config)["plus"] == 3
    assert report.written is None


def test_a_warning_that_is_an_error_fails_no_run_either(tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    report = RunReport(tmp_path / "file" / "report.html")
    config = RuntimeConfig(executor="sequential", callbacks=[report], callback_errors="raise")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert BOTH.run({"x": 1}, config=config)["plus"] == 3
    assert "could not be written" in caplog.text


def test_a_page_that_cannot_be_made_leaves_the_old_one(report, monkeypatch, tmp_path):
    run(BOTH, {"x": 1}, "sequential", report)
    before = report.written.read_bytes()

    def breaks(self, target):
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", breaks)
    with pytest.warns(RuntimeWarning, match="disk full"):
        run(BOTH, {"x": 1}, "sequential", report)
    assert report.written.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_the_page_has_the_rights_that_new_files_have(report, tmp_path):
    run(BOTH, {"x": 1}, "sequential", report)
    (tmp_path / "other").touch()
    assert report.written.stat().st_mode == (tmp_path / "other").stat().st_mode


def test_a_map_that_is_left_early_is_told_as_such(report, records):
    config = RuntimeConfig(executor="sequential", callbacks=[report])
    results = BOTH.map_iter({"x": iter(range(100))}, map_over="x", config=config)
    assert next(results)["plus"] == 1
    results.close()
    assert records[0].status == "stopped"
    assert "Stopped early" in words_of(report)


INTERRUPTED = """
import os, signal
from hypernodes import Pipeline, RuntimeConfig, node
from hypernodes._dispatch.place import Worker, current_worker
from hypernodes.telemetry import RunReport

@node
def first(x):
    return x

@node
def stops(first):
    os.kill(os.getpid(), signal.SIGINT)
    import time
    time.sleep(60)

report = RunReport("report.html")
try:
    Pipeline([first, stops]).run({"x": 1}, config=RuntimeConfig(
        executor="sequential", callbacks=[report]))
except KeyboardInterrupt:
    print(report.written)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals are not sent that way on Windows")
def test_ctrl_c_is_told_too(run_script, tmp_path):
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert run_script(INTERRUPTED).stdout.strip() == "report.html"
    page = _Page((tmp_path / "report.html").read_text(encoding="utf-8")).words
    assert "Interrupted" in page
    assert "first" in page


def test_asynchronous_runs_are_reported(report, records):
    config = RuntimeConfig(callbacks=[report])
    asyncio.run(BOTH.arun({"x": 1}, config=config))
    asyncio.run(BOTH.amap({"x": [1, 2]}, map_over="x", config=config))
    assert [figures(record)["plus"] for record in records] == [1, 2]


def test_a_report_may_be_a_plugin(report, records):
    register_plugins(report)
    BOTH.run({"x": 1}, config=RuntimeConfig(executor="sequential"))
    assert len(records) == 1


# ---------------------------------------------------------------- what users give


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("", "path is empty"),
        ("{runid}.html", "did you mean 'run_id'"),
        ("{}.html", "field '' that there is not"),
        ("a{.html", "brace by itself"),
    ],
)
def test_a_wrong_path_is_refused(path, told):
    with pytest.raises(ValueError, match=re.escape(told)):
        RunReport(path)


def test_a_brace_that_is_doubled_is_a_brace(tmp_path):
    report = RunReport(tmp_path / "{{a}}.html")
    run(BOTH, {"x": 1}, "sequential", report)
    assert report.written.name == "{a}.html"


@pytest.mark.parametrize("name", ["slowest", "failures"])
def test_numbers_below_zero_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} is -1"):
        RunReport("report.html", **{name: -1})


def test_without_the_extra_the_constructor_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingDependencyError, match=re.escape('"hypernodes[telemetry]"')):
        RunReport()


def test_a_report_travels_with_its_config(report):
    config = RuntimeConfig(callbacks=[report])
    (again,) = pickle.loads(pickle.dumps(config)).callbacks
    assert again.pattern == report.pattern


def test_the_ready_made_callbacks_are_found_by_name():
    assert "RunReport" in dir(telemetry)
    assert telemetry.RunReport is RunReport
    with pytest.raises(AttributeError, match="Typo"):
        telemetry.Typo  # noqa: B018 - to see it fail


def test_importing_the_room_brings_no_extra(run_script):
    source = "import sys, hypernodes.telemetry; print('jinja2' in sys.modules)"
    assert run_script(source).stdout.strip() == "False"


def test_a_callback_that_ends_the_run_is_told_of(report, records):
    class Breaks:
        def __call__(self, phase, config, data):
            if phase == "post_node":
                raise ValueError("enough")

    config = RuntimeConfig(
        executor="sequential", callbacks=[report, Breaks()], callback_errors="raise"
    )
    with pytest.raises(CallbackError):
        BOTH.run({"x": 1}, config=config)
    assert len(records) == 1


@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_big_bytes_are_not_spelled_whole(kind):
    value = kind(20_000_000)
    tracemalloc.start()
    text = spelled(value)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (text[-1], peak < 1_000_000) == ("…", True)
    assert spelled(kind(b"ab")) == repr(kind(b"ab"))
