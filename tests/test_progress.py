"""Progress: what is counted, and what shows on terminals, in logs and in notebooks."""

from __future__ import annotations

import asyncio
import io
import re
import subprocess
import sys
import threading

import pytest

from hypernodes import (
    AsyncExecutor,
    CallbackError,
    CompositeExecutor,
    MemoryCache,
    Pipeline,
    ProcessPoolExecutor,
    RuntimeConfig,
    SequentialExecutor,
    ThreadPoolExecutor,
    node,
)
from hypernodes.telemetry import ProgressCallback

pytest.importorskip("tqdm")

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
def inverse(x):
    return 6 / x


@node
async def half(inverse):
    return inverse / 2


@node
def count(half):
    return len(half)


@node
def last(count):
    return count


INNER = Pipeline([inverse, half], name="inner")
TAIL = Pipeline([last], name="tail")
MAPPED = Pipeline([INNER.as_node(map_over="x"), count, TAIL.as_node()], name="outer")


# What is slow is told by seconds for each instead: on a busy machine, anything may be.
RATE = r"(?: (?:nodes|items)/s|s/ (?:nodes|items))"


class Log(io.StringIO):
    """A file whose lines are looked at without their times."""

    @property
    def texts(self):
        return self.getvalue().splitlines()

    @property
    def counts(self):
        """Lines as `name: 1/2 items, 1 failed`, without times and rates."""
        return [re.sub(rf" \[[^\]]*?{RATE}", "", x).removesuffix("]") for x in self.texts]


@pytest.fixture
def log():
    return Log()


def config_for(log, executor, **options):
    return RuntimeConfig(
        executor=executor, callbacks=[ProgressCallback(log, interval=3600)], **options
    )


# ---------------------------------------------------------------- what is counted


def test_a_map_counts_its_items(log, executor):
    config = config_for(log, executor)
    INNER.map({"x": range(1, 101)}, map_over="x", config=config)
    assert log.counts == ["inner: 100/100 items"]


def test_a_run_counts_its_nodes_and_each_map_its_items(log, executor):
    MAPPED.run({"x": [1, 2, 3]}, config=config_for(log, executor))
    assert log.counts == ["outer: 3/3 nodes", "  inner: 3/3 items", "  tail: 1/1 nodes"]


def test_maps_inside_items_share_a_line(log, executor):
    inputs = {"x": [[1, 2, 3], [4], []]}
    MAPPED.map(inputs, map_over="x", config=config_for(log, executor))
    assert log.counts == ["outer: 3/3 items", "  inner: 4/4 items"]


def test_a_run_and_a_map_of_one_name_have_lines_of_their_own(log, executor):
    @node
    def more(y):
        return y + 1

    parts = [Pipeline([one], name="part") for one in (inverse, more)]
    both = Pipeline([parts[0], parts[1].as_node(map_over="y")], name="both")
    both.run({"x": 1, "y": range(10)}, config=config_for(log, executor))
    expected = {"both: 2/2 nodes", "  part: 1/1 nodes", "  part: 10/10 items"}
    assert {*log.counts} == expected


def test_counts_come_in_the_background_too(log, executor):
    callback = ProgressCallback(log)
    callback.async_mode = True
    config = RuntimeConfig(executor=executor, callbacks=[callback])
    MAPPED.map({"x": [[1, 2, 3], [4]]}, map_over="x", config=config)
    assert log.counts == ["outer: 2/2 items", "  inner: 4/4 items"]


def test_failed_items_are_counted(log, executor):
    config = config_for(log, executor)
    INNER.map({"x": [1, 0, 2, 0]}, map_over="x", on_error="return", config=config)
    assert log.counts == ["inner: 4/4 items, 2 failed"]


def test_items_inside_that_fail_are_counted(log, executor):
    inputs = {"x": [[1, 2], [0]]}
    MAPPED.map(inputs, map_over="x", on_error="return", config=config_for(log, executor))
    assert log.counts == ["outer: 2/2 items, 1 failed", "  inner: 3/3 items, 1 failed"]


def test_a_run_that_fails_is_shown_as_far_as_it_came(log, executor):
    with pytest.raises(ZeroDivisionError):
        INNER.run({"x": 0}, config=config_for(log, executor))
    assert log.counts == ["inner: 1/2 nodes, 1 failed"]


def test_cached_items_are_counted(log, executor):
    config = config_for(log, executor, cache=MemoryCache())
    for items in ([1, 2, 3], [1, 2, 4]):
        INNER.map({"x": items}, map_over="x", config=config)
    assert log.counts == ["inner: 3/3 items", "inner: 3/3 items, 2 cached"]


def test_cached_nodes_are_counted(log, executor):
    config = config_for(log, executor, cache=MemoryCache())
    for _ in range(2):
        INNER.run({"x": 1}, config=config)
        INNER.map({"x": []}, map_over="x", config=config)  # lines of maps are always written
    assert log.counts[0] == "inner: 2/2 nodes"
    callback = ProgressCallback(log)
    INNER.run({"x": 1}, config=config.replace(callbacks=[callback]))
    assert log.counts[-1] == "inner: 2/2 nodes, 2 cached"


def test_maps_that_were_cached_as_a_whole_are_counted(log, executor):
    config = config_for(log, executor, cache=MemoryCache())
    for _ in range(2):
        MAPPED.run({"x": [1, 2, 3]}, config=config)
    assert {*log.counts[3:]} == {
        "outer: 3/3 nodes, 1 cached",
        "  inner: 3/3 items, 3 cached",
        "  tail: 1/1 nodes, 1 cached",
    }


def test_what_is_not_asked_for_is_not_missing(log, executor):
    MAPPED.run({"x": [1, 2]}, output_name="half", config=config_for(log, executor))
    assert log.counts == ["outer: 1/1 nodes", "  inner: 2/2 items"]


def test_a_lazy_map_counts_what_was_handed_over(log, executor):
    config = config_for(log, executor)
    results = INNER.map_iter({"x": iter(range(1, 6))}, map_over="x", config=config)
    assert len(list(results)) == 5
    assert log.counts == ["inner: 5 items"]


def test_a_lazy_map_that_is_left_early_is_over(log, executor):
    config = config_for(log, executor)
    with INNER.map_iter({"x": range(1, 1000)}, map_over="x", config=config) as results:
        next(results)
        next(results)
    assert log.counts == ["inner: 2/999 items"]


def test_asynchronous_callers_see_the_same(log, executor):
    config = config_for(log, executor)
    asyncio.run(INNER.amap({"x": [1, 2]}, map_over="x", config=config))
    assert log.counts == ["inner: 2/2 items"]


def test_nodes_and_pipelines_with_configs_of_their_own_count(log):
    progress = [ProgressCallback(log)]
    threads = RuntimeConfig(executor="thread", callbacks=progress)
    outer = Pipeline(
        [INNER.with_config(threads).as_node(map_over="x"), count.with_config(threads), last],
        name="outer",
        config=RuntimeConfig(executor="sequential", callbacks=progress),
    )
    outer.run({"x": [1, 2]})
    assert log.counts == ["outer: 3/3 nodes", "  inner: 2/2 items"]
    outer.map({"x": [[1, 2], [3]]}, map_over="x")
    assert log.counts[2:] == ["outer: 2/2 items", "  inner: 3/3 items"]


def test_runs_inside_nodes_have_no_lines(log):
    config = config_for(log, ThreadPoolExecutor(max_workers=2))

    @node
    def calls(x):
        return INNER.run({"x": x}, config=config)["half"]

    Pipeline([calls], name="p").map({"x": [1, 2, 3]}, map_over="x", config=config)
    assert log.counts == ["p: 3/3 items"]


def test_runs_at_the_same_time_count_apart(log, executor):
    config = config_for(log, executor)
    sizes = [3, 50, 200]

    def work(size):
        INNER.map({"x": range(1, size + 1)}, map_over="x", config=config)

    threads = [threading.Thread(target=work, args=(size,)) for size in sizes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(log.counts) == sorted(f"inner: {size}/{size} items" for size in sizes)


# ---------------------------------------------------------------- plain lines


def test_without_a_terminal_lines_go_to_standard_error(executor, capsys):
    config = RuntimeConfig(executor=executor, callbacks=[ProgressCallback()])
    INNER.map({"x": [1, 2]}, map_over="x", config=config)
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(rf"inner: 2/2 items \[\d\d:\d\d<00:00, .*{RATE}\]\n", err)


def test_lines_come_now_and_then(log):
    """A node waits for a line, and for the next one, which the interval allows at once."""
    seen = threading.Event()

    class Seen(Log):
        def write(self, text):
            if "1/2" in text:
                seen.set()
            return super().write(text)

    def waits(x):
        assert x == 0 or seen.wait(60)
        return x

    log = Seen()
    callback = ProgressCallback(log, interval=0)
    config = RuntimeConfig(executor="sequential", callbacks=[callback])
    Pipeline([node("y")(waits)], name="p").map({"x": [0, 1]}, map_over="x", config=config)
    assert log.counts[-1] == "p: 2/2 items"
    assert "p: 1/2 items" in log.counts


def test_many_short_runs_do_not_flood_a_log(log, monkeypatch):
    monkeypatch.setattr("hypernodes.telemetry._displays._LONG", 3600)  # whatever holds one up
    config = config_for(log, SequentialExecutor())
    for _ in range(100):
        INNER.run({"x": 1}, config=config)
    assert log.counts == ["inner: 2/2 nodes"]


def test_a_program_without_standard_error_gets_no_lines(monkeypatch, capfd):
    monkeypatch.setattr(sys, "stderr", None)
    config = RuntimeConfig(executor="sequential", callbacks=[ProgressCallback()])
    INNER.map({"x": [1]}, map_over="x", config=config)
    assert capfd.readouterr() == ("", "")


def test_a_closed_file_changes_no_result(caplog):
    log = io.StringIO()
    log.close()
    config = config_for(log, SequentialExecutor())
    assert INNER.run({"x": 1}, config=config) == {"inverse": 6.0, "half": 3.0}
    assert "closed file" in caplog.text


@pytest.mark.parametrize("executor", ["sequential", "thread", "async"])
def test_a_closed_standard_error_changes_no_result(executor):
    code = """
import sys
from hypernodes import Pipeline, RuntimeConfig, node
from hypernodes.telemetry import ProgressCallback

config = RuntimeConfig(executor=sys.argv[1], callbacks=[ProgressCallback(interval=0)])
sys.stderr.close()
print(Pipeline([node("y")(lambda x: x)]).map({"x": [1, 2]}, map_over="x", config=config))
"""
    command = [sys.executable, "-c", code, executor]
    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert result.stdout == "[{'y': 1}, {'y': 2}]\n"


def test_names_are_written_as_the_file_can_take_them():
    raw = io.BytesIO()
    log = io.TextIOWrapper(raw, encoding="ascii", write_through=True)
    config = config_for(log, SequentialExecutor())
    Pipeline([inverse], name="caf\xe9\n\x1b[2Jau lait").map({"x": [1]}, map_over="x", config=config)
    assert raw.getvalue().startswith(b"caf\\xe9 [2Jau lait: 1/1 items [")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"style": "bar"}, "style='bar' is unknown; give one of auto, bars"),
        ({"interval": -1}, "interval=-1 has to be a number of seconds"),
        ({"interval": "1"}, "interval='1' has to be"),
        ({"interval": True}, "interval=True has to be"),
    ],
)
def test_wrong_arguments_are_refused(arguments, told):
    with pytest.raises(CallbackError, match=re.escape(told)):
        ProgressCallback(**arguments)


def test_nothing_is_left_after_the_end(log, executor):
    with pytest.raises(ZeroDivisionError):
        MAPPED.map({"x": [[1, 0], [2]]}, map_over="x", config=config_for(log, executor))
    text = log.getvalue()
    names = [thread.name for thread in threading.enumerate()]
    assert not any(name.startswith("hypernodes-progress") for name in names)
    assert log.getvalue() == text


# ---------------------------------------------------------------- terminals

HEAD = """
import logging, os, sys, time
from pathlib import Path
from hypernodes import Pipeline, RuntimeConfig, node
from hypernodes.telemetry import ProgressCallback

def wait_for(name):
    end = time.monotonic() + 60
    while not Path(name).exists() and time.monotonic() < end:
        time.sleep(0.01)

progress = ProgressCallback()
def config(executor, **options):
    return RuntimeConfig(executor=executor, callbacks=[progress], **options)
"""


@pytest.fixture
def play(tmp_path, monkeypatch):
    terminal = pytest.importorskip("terminal", exc_type=ImportError)
    monkeypatch.chdir(tmp_path)
    started = []

    def start(source, **size):
        (tmp_path / "script.py").write_text(HEAD + source, encoding="utf-8")
        started.append(terminal.Terminal(tmp_path / "script.py", **size))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.wait()


WORK = """
def work(x):
    if x == 5:
        wait_for("go")
    return x

inner = Pipeline([node("y")(work)], name="inner")
outer = Pipeline([inner.as_node(map_over="x"), node("n")(lambda y: sum(y))], name="outer")
"""


@pytest.mark.parametrize("executor", ["sequential", "thread", "async"])
def test_bars_move_while_it_runs_and_stay_in_the_end(play, tmp_path, executor):
    source = f"""
outer.run({{"x": range(10)}}, config=config({executor!r}))
print("over")
"""
    shown = play(WORK + source)
    shown.wait_for("outer:", "inner:", "/10 [")
    if executor == "sequential":
        shown.wait_for("5/10 [")
    (tmp_path / "go").touch()
    first, second, *rest = shown.finish()
    assert re.fullmatch(rf"outer: 100%\|█+\| 2/2 \[.*{RATE}\]", first)
    assert re.fullmatch(rf"  inner: 100%\|█+\| 10/10 \[.*{RATE}\]", second)
    assert rest == ["over"]


@pytest.mark.parametrize("executor", ["sequential", "thread", "async", "process"])
def test_what_the_program_prints_stays_whole(play, executor):
    source = f"""
logging.basicConfig(level="INFO")
def noisy(x):
    print("printed by", x)
    print("in ", end="")
    sys.stdout.write(f"pieces by {{x}}\\n")
    logging.info("logged by %s", x)
    return x

noisy = Pipeline([node("y")(noisy)], name="noisy")
if __name__ == "__main__":
    noisy.map({{"x": range(50)}}, map_over="x", config=config({executor!r}))
    print("end ", end="")
    print("of it")
"""
    if executor == "process":  # their output goes straight to the terminal: only lines of ours
        source = source.replace("noisy(x):", "noisy(x):\n    return x\ndef other(x):")
    lines = play(source, columns=60).finish()
    assert lines[-1] == "end of it"
    assert re.fullmatch(r"noisy: 100%\|█+\| 50/50 \[.*\]", lines[-2])
    logged = [f"INFO:root:logged by {x}" for x in range(50)]
    if executor == "sequential":
        pieces = ((f"printed by {x}", f"in pieces by {x}", logged[x]) for x in range(50))
        assert lines[:-2] == [line for three in pieces for line in three]
    elif executor != "process":  # pieces of several threads may be mixed, records may not
        assert {*logged} <= {*lines}


def test_bars_of_the_program_have_places_of_their_own(play, tmp_path):
    source = """
from tqdm import tqdm
def work(x):
    for step in tqdm(range(10), desc="user", leave=False, mininterval=0):
        if x == 1 and step == 5:
            wait_for("go")
    return x
one = Pipeline([node("y")(work)], name="p")
one.map({"x": range(3)}, map_over="x", config=config("sequential"))
"""
    shown = play(source)
    shown.wait_for("p:", "user:  50%", "1/3 [")
    (tmp_path / "go").touch()
    (line,) = shown.finish()
    assert re.fullmatch(r"p: 100%\|█+\| 3/3 \[.*\]", line)


def test_failures_and_ctrl_c_leave_what_was_done(play, tmp_path):
    shown = play(WORK + 'inner.map({"x": range(10)}, map_over="x", config=config("sequential"))\n')
    shown.wait_for("inner:", "5/10 [")
    shown.interrupt()
    lines = shown.finish()
    assert re.fullmatch(r"inner:  50%\|█+. +\| 5/10 \[.*\]", lines[0])
    assert lines[1].startswith("Traceback")
    assert lines[-1].startswith("KeyboardInterrupt")


@pytest.mark.parametrize("encoding", ["ascii:strict", "utf-8"])
def test_bars_have_names_that_the_terminal_can_show(play, monkeypatch, encoding):
    monkeypatch.setenv("PYTHONIOENCODING", encoding)
    source = """
progress = ProgressCallback(sys.stdout)
named = Pipeline([node("y")(lambda x: x)], name="caf\\xe9\\nau lait")
named.map({"x": range(3)}, map_over="x", config=config("sequential"))
"""
    name, full = (r"caf\xe9", "#") if encoding.startswith("ascii") else ("caf\xe9", "█")
    (line,) = play(source).finish()
    assert re.fullmatch(rf"{re.escape(name)} au lait: 100%\|{full}+\| 3/3 \[.*\]", line)


def test_forked_processes_print_as_if_there_were_no_bars(play):
    source = """
import warnings
def fork(x):
    with warnings.catch_warnings(action="ignore"):  # of threads that the child lacks
        child = os.fork()
    if not child:
        os._exit("write" in vars(sys.stdout) or "write" in vars(sys.stderr))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

forking = Pipeline([node("y")(fork)], name="forking")
print(forking.map({"x": [1]}, map_over="x", config=config("thread")))
"""
    assert play(source).finish()[-1] == "[{'y': 0}]"


def test_bars_are_never_longer_than_the_terminal_is_wide(play, tmp_path):
    """Every picture is one line, or the next one is drawn below what is left of it."""
    source = """
def work(x):
    if x == 2:
        wait_for("go")
    return x
named = Pipeline([node("y")(work)], name="long " * 15)
print("start")
lazy = named.map_iter({"x": iter(range(3))}, map_over="x", config=config("sequential"))
print(len(list(lazy)), "results")
named.map({"x": range(3)}, map_over="x", config=config("sequential"))
print("over")
"""
    shown = play(source, columns=60)
    shown.wait_for("long long")
    (tmp_path / "go").touch()
    lines = shown.finish()
    assert [line[:4] for line in lines] == ["star", "long", "3 re", "long", "over"]


@pytest.mark.parametrize("style", ["auto", "bars", "lines"])
def test_nothing_is_shown_where_tqdm_is_disabled(log, monkeypatch, style):
    monkeypatch.setenv("TQDM_DISABLE", "1")
    progress = ProgressCallback(log, style=style)
    config = RuntimeConfig(executor="sequential", callbacks=[progress])
    INNER.map({"x": [1, 2]}, map_over="x", config=config)
    assert log.texts == []


FAILING = """
import threading

class Failing:
    encoding = "utf-8"
    fails = threading.Event()
    def isatty(self):
        return True
    def fileno(self):
        return 2
    def flush(self):
        sys.__stderr__.flush()
    def write(self, text):
        if self.fails.is_set():
            raise BlockingIOError("would block")
        return sys.__stderr__.write(text)

def fail(x):
    Failing.fails.set()
    print("said by", x)
    return x

progress = ProgressCallback(Failing())
pipeline = Pipeline([node("y")(fail)], name="p")
results = pipeline.map({"x": [1, 2]}, map_over="x", config=config("thread"))
from tqdm import tqdm
print(len(results), "write" in vars(sys.stdout), "write" in vars(sys.stderr), len(tqdm._instances))
"""


def test_a_terminal_that_fails_leaves_what_the_program_prints_alone(play):
    lines = play(FAILING).finish()
    assert sum(line.endswith(("said by 1", "said by 2")) for line in lines) == 2
    assert lines.count("BlockingIOError: would block") == 1
    assert lines[-1].endswith("2 False False 0")


def test_more_lines_than_the_terminal_has_rows_do_no_harm(play):
    source = """
parts = [Pipeline([node(f"y{i}")(lambda x: x)], name=f"p{i}").as_node() for i in range(30)]
Pipeline(parts, name="many").run({"x": 1}, config=config("sequential"))
print("over")
"""
    lines = play(source, rows=10).finish()
    assert [line.split(":")[0].strip() for line in lines] == [
        "many",
        *(f"p{i}" for i in range(30)),
        "over",
    ]


def test_runs_side_by_side_share_the_terminal(play, tmp_path):
    source = """
import threading
def slow(x):
    if x == 1:
        wait_for("go")
    return x
one = Pipeline([node("y")(slow)], name="one")
two = Pipeline([node("y")(lambda x: x)], name="two")
call = lambda: one.map({"x": range(3)}, map_over="x", config=config("sequential"))
thread = threading.Thread(target=call)
thread.start()
wait_for("started")
two.map({"x": range(7)}, map_over="x", config=config("sequential"))
print("two is over")
wait_for("go")
thread.join()
"""
    shown = play(source)
    shown.wait_for("one:", "1/3 [")
    (tmp_path / "started").touch()
    shown.wait_for("two is over", "one:")
    (tmp_path / "go").touch()
    two, said, one = shown.finish()
    assert (two[:9], said, one[:9]) == ("two: 100%", "two is over", "one: 100%")


# ---------------------------------------------------------------- notebooks


def executed(code):
    """Return what a cell of a notebook has put out, and the widgets there are."""
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    nbclient.NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
    return notebook.cells[0].outputs, notebook.metadata.get("widgets", {})


CELL = """
from hypernodes import Pipeline, RuntimeConfig, node
from hypernodes.telemetry import ProgressCallback

inner = Pipeline([node("y")(lambda x: 2 * x)], name="inner")
outer = Pipeline([inner.as_node(map_over="x"), node("n")(lambda y: sum(y))], name="outer")
config = RuntimeConfig(executor="thread", callbacks=[ProgressCallback()])
outer.run({"x": range(10)}, config=config)["n"]
"""


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_in_jupyter_there_are_widgets():
    pytest.importorskip("ipywidgets")
    outputs, widgets = executed(CELL)
    views = [o for o in outputs if "application/vnd.jupyter.widget-view+json" in o.get("data", {})]
    assert len(views) == 2
    assert not any(o.output_type in {"error", "stream"} for o in outputs)
    states = [
        widget["state"]
        for widget in widgets["application/vnd.jupyter.widget-state+json"]["state"].values()
    ]
    texts = " ".join(state.get("value", "") for state in states if "HTML" in state["_model_name"])
    assert "10/10" in texts
    assert "2/2" in texts
    bars = [state for state in states if state["_model_name"] == "FloatProgressModel"]
    assert [(bar["value"], bar["bar_style"]) for bar in bars] == [
        (2.0, "success"),
        (10.0, "success"),
    ]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_in_jupyter_without_widgets_there_are_lines():
    outputs, _ = executed("import sys\nsys.modules['ipywidgets'] = None\n" + CELL)
    text = "".join(o.text for o in outputs if o.output_type == "stream")
    assert "inner: 10/10 items" in text
