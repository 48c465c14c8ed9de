"""Pipelines on processes: what travels, what dies, what is late, and what is left of it."""

import faulthandler
import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from pydantic import ValidationError

from hypernodes import (
    Callback,
    Failure,
    HyperNodesError,
    NodeTimeoutError,
    Pipeline,
    ProcessPoolExecutor,
    RetryPolicy,
    RuntimeConfig,
    SerializationError,
    WorkerCrashedError,
    node,
)
from hypernodes._engine.workers import REGISTRY
from hypernodes.config import current_config

LIMIT = 60
SHARED = Path("/dev/shm")  # noqa: S108 - only looked into
posix = pytest.mark.skipif(os.name != "posix", reason="needs signals")


@pytest.fixture(scope="module")
def executor():
    with ProcessPoolExecutor(max_workers=2) as executor:
        yield executor


@pytest.fixture
def config(executor):
    return RuntimeConfig(executor=executor)


def single(function, name="y", **options):
    return Pipeline([node(name, **options)(function)], name="single")


def names_in(folder):
    try:
        return {path.name for path in Path(folder).iterdir()}
    except OSError:
        return set()


def bytes_shared():
    """Return how much the files of our pools take, which others may remove meanwhile."""
    found = 0
    for folder in names_in(SHARED):
        if folder.startswith(f"hypernodes-{os.getpid()}-"):
            for name in names_in(SHARED / folder):
                with suppress(FileNotFoundError):
                    found += (SHARED / folder / name).stat().st_size
    return found


def is_alive(pid):
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def wait_until(condition, seconds=LIMIT):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it does not come about"
        time.sleep(0.01)


def meeting(folder, count):
    """Return a function that tells its process, once so many have come to be in it."""

    def meet(x):
        (Path(folder) / str(os.getpid())).touch()
        wait_until(lambda: len(names_in(folder)) >= count)
        return os.getpid()

    return meet


# ---------------------------------------------------------------- what it is


def test_it_is_a_value():
    one = ProcessPoolExecutor(max_workers=2, chunksize=5)
    assert one == ProcessPoolExecutor(max_workers=2, chunksize=5)
    assert hash(one) == hash(one.model_copy())
    assert RuntimeConfig(executor="process").executor == ProcessPoolExecutor()
    assert RuntimeConfig(executor=one).model_dump(mode="json")["executor"] == {
        "kind": "process",
        "max_workers": 2,
        "start_method": None,
        "chunksize": 5,
        "max_tasks_per_child": None,
    }


@pytest.mark.parametrize("name", ["max_workers", "chunksize", "max_tasks_per_child"])
@pytest.mark.parametrize("value", [0, -1, 1.5, "2", True])
def test_numbers_are_checked(name, value):
    with pytest.raises(ValidationError):
        ProcessPoolExecutor(**{name: value})


def test_fork_is_refused_with_the_reason():
    with pytest.raises(ValidationError, match="locks"):
        ProcessPoolExecutor(start_method="fork")


def test_nodes_run_in_workers_also_where_there_is_only_one(config):
    assert single(os.getpid).run(config=config)["y"] != os.getpid()
    chain = Pipeline([node("a")(lambda x: os.getpid()), node("b")(lambda a: (a, os.getpid()))])
    first, second = chain.run({"x": 1}, config=config)["b"]
    assert first == second != os.getpid()


def test_independent_nodes_run_at_once(config, tmp_path):
    def meet(name, other):
        (tmp_path / name).touch()
        end = time.monotonic() + LIMIT
        while not (tmp_path / other).exists():
            assert time.monotonic() < end
            time.sleep(0.01)
        return os.getpid()

    pipeline = Pipeline([node("a")(lambda x: meet("a", "b")), node("b")(lambda x: meet("b", "a"))])
    found = pipeline.run({"x": 1}, config=config)
    assert len(set(found.values())) == 2


def test_no_more_workers_start_than_are_needed():
    with ProcessPoolExecutor(max_workers=32) as executor:
        config = RuntimeConfig(executor=executor)
        pids = {single(os.getpid).run(config=config)["y"] for _ in range(5)}
    assert len(pids) == 1


def test_max_tasks_per_child_replaces_workers():
    with ProcessPoolExecutor(max_workers=1, max_tasks_per_child=3) as executor:
        found = single(lambda x: os.getpid()).map(
            {"x": range(12)}, map_over="x", config=RuntimeConfig(executor=executor)
        )
    pids = [outcome["y"] for outcome in found]
    assert [pids.count(pid) for pid in dict.fromkeys(pids)] == [3, 3, 3, 3]


def test_chunksize_fixes_how_many_items_travel_together(tmp_path):
    def work(x):
        time.sleep(0.01)
        return os.getpid()

    with ProcessPoolExecutor(max_workers=2, chunksize=7) as executor:
        found = single(work).map(
            {"x": range(28)}, map_over="x", config=RuntimeConfig(executor=executor)
        )
    assert len(found) == 28


# ---------------------------------------------------------------- what travels

SCRIPT = """
import os
from hypernodes import Pipeline, ProcessPoolExecutor, RuntimeConfig, node
print("imported", flush=True)

class Point:
    def __init__(self, x): self.x = x
    def __eq__(self, other): return type(other) is Point and self.x == other.x

SCALE = 3

@node
def point(x):
    return Point(SCALE * x)

config = RuntimeConfig(executor=ProcessPoolExecutor(max_workers=2, start_method={method!r}))
pipeline = Pipeline([point, node("pid")(lambda point: os.getpid())])
found = pipeline.map({{"x": range(20)}}, map_over="x", config=config)
assert [f["point"] for f in found] == [Point(3 * x) for x in range(20)]
assert type(found[0]["point"]) is Point
assert os.getpid() not in {{f["pid"] for f in found}}
print("done")
"""


@pytest.mark.parametrize("method", [None, "spawn", "forkserver"])
@pytest.mark.parametrize("way", ["file", "command", "stdin"])
def test_scripts_without_a_main_guard_work_and_run_once(tmp_path, way, method):
    script = SCRIPT.format(method=method)
    path = tmp_path / "script.py"
    path.write_text(script, encoding="utf-8")
    arguments = {"file": [str(path)], "command": ["-c", script], "stdin": ["-"]}[way]
    result = subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        input=script if way == "stdin" else None,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert result.stderr == ""
    assert result.stdout.split() == ["imported", "done"]


def test_modules_are_found_as_in_the_driver(run_script, tmp_path):
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "own.py").write_text("def double(x):\n    return 2 * x\n")
    run_script(
        """
import os, sys
from hypernodes import Pipeline, ProcessPoolExecutor, RuntimeConfig, node
config = RuntimeConfig(executor=ProcessPoolExecutor(max_workers=1))
assert Pipeline([node("y")(lambda x: x)]).run({"x": 1}, config=config) == {"y": 1}
sys.path.insert(0, "lib")
import own
os.mkdir("elsewhere")
pipeline = Pipeline([node("y")(own.double), node("here")(lambda x: os.getcwd())])
assert pipeline.run({"x": 2}, config=config) == {"y": 4, "here": os.getcwd()}
os.environ["HYPERNODES_TEST"] = "set late"
seen = Pipeline([node("y")(lambda x: os.environ.get("HYPERNODES_TEST"))])
assert seen.run({"x": 2}, config=config) == {"y": "set late"}
"""
    )


def test_warnings_filters_go_along(run_script):
    result = run_script(
        """
import warnings
from hypernodes import Pipeline, ProcessPoolExecutor, RuntimeConfig, node
def work(x):
    import warnings
    warnings.warn("careful", UserWarning)
config = RuntimeConfig(executor=ProcessPoolExecutor(max_workers=1))
pipeline = Pipeline([node("y")(work)])
try:
    pipeline.run({"x": 1}, config=config)
except UserWarning as error:
    print(error)
warnings.simplefilter("ignore")
pipeline.run({"x": 1}, config=config)
"""
    )
    assert (result.stdout, result.stderr) == ("careful\n", "")


def test_workers_see_the_config_in_use(executor):
    inside = RuntimeConfig(executor=executor, retries=3)
    with RuntimeConfig.use(inside):
        assert single(lambda: current_config().retries).run()["y"] == 3


def test_user_code_in_a_worker_runs_pipelines_right_there(config):
    inner = Pipeline([node("pid")(lambda x: os.getpid()), node("b")(lambda x: x)])

    def work(x):
        found = inner.map({"x": range(20)}, map_over="x", config=config)
        return {os.getpid(), *(f["pid"] for f in found)}

    for pids in single(work).map({"x": range(6)}, map_over="x", config=config):
        assert len(pids["y"]) == 1


def test_a_function_that_cannot_travel_is_named_before_anything_runs(config, tmp_path):
    lock = threading.Lock()

    def locked(a):
        with lock:
            return a

    pipeline = Pipeline([node("a")(lambda x: (tmp_path / "ran").touch()), node("b")(locked)])
    for start in (
        lambda: pipeline.run({"x": 1}, config=config),
        lambda: pipeline.map({"x": [1, 2, 3]}, map_over="x", config=config, on_error="return"),
    ):
        with pytest.raises(SerializationError, match="'lock'") as caught:
            start()
        assert (caught.value.node, caught.value.name) == ("locked", "lock")
    assert not (tmp_path / "ran").exists()


def test_a_callback_that_cannot_go_where_nodes_run_is_named_before_anything_runs(config, tmp_path):
    class Locked(Callback):
        def __init__(self):
            self.lock = threading.Lock()

        def wrap_node(self, call):
            with self.lock:
                return call()

    def touch(x):
        (tmp_path / "ran").touch()

    observed = config.replace(callbacks=[Locked()])
    inner = Pipeline([node("y")(touch)], config=observed)
    outer = Pipeline([inner.as_node(name="inner")])
    for start in (
        lambda: inner.run({"x": 1}),
        lambda: inner.map({"x": [1, 2]}, map_over="x", on_error="return"),
        lambda: outer.with_config(config).run({"x": 1}),
    ):
        with pytest.raises(SerializationError, match=r"the callback '.*Locked'.*__getstate__") as e:
            start()
        assert e.value.name.endswith("Locked")
    assert not (tmp_path / "ran").exists()


def test_a_shared_input_that_cannot_travel_is_named_before_anything_runs(config):
    pipeline = single(lambda x, other: x)
    with pytest.raises(SerializationError, match="'other'") as caught:
        pipeline.map(
            {"x": range(9), "other": threading.Lock()},
            map_over="x",
            config=config,
            on_error="return",
        )
    assert (caught.value.node, caught.value.name) == ("<lambda>", "other") or caught.value.name


def test_an_item_that_cannot_travel_fails_alone(config):
    items = [1, threading.Lock(), 3, 4, 5, threading.Lock()]
    found = single(lambda x: 1).map({"x": items}, map_over="x", config=config, on_error="return")
    assert [type(outcome) for outcome in found] == [dict, Failure, dict, dict, dict, Failure]
    failure = found[1]
    assert isinstance(failure.error, SerializationError)
    assert (failure.index, failure.error.name, failure.error.index) == (1, "x", 1)
    assert failure.inputs["x"] is items[1]


def test_what_waits_behind_items_that_cannot_travel_runs():
    with ProcessPoolExecutor(max_workers=1) as executor:
        items = [threading.Lock(), 2]
        found = single(lambda x: x).map(
            {"x": items},
            map_over="x",
            config=RuntimeConfig(executor=executor),
            on_error="return",
        )
    assert [type(outcome) for outcome in found] == [Failure, dict]


def test_an_output_that_cannot_travel_fails_its_item_alone(config):
    def work(x):
        return threading.Lock() if x % 10 == 3 else x

    found = single(work).map({"x": range(40)}, map_over="x", config=config, on_error="return")
    failed = [i for i, outcome in enumerate(found) if isinstance(outcome, Failure)]
    assert failed == [3, 13, 23, 33]
    error = found[13].error
    assert isinstance(error, SerializationError)
    assert (error.node, error.name, error.index) == ("work", "y", 13)
    assert "item 13" in error.__notes__[0]
    with pytest.raises(SerializationError, match="'y'"):
        single(lambda x: threading.Lock()).run({"x": 1}, config=config)


class Unreadable:
    def __reduce__(self):
        return _fail_to_read, ()


def _fail_to_read():
    raise ValueError("not to be read")


def test_what_cannot_be_read_again_fails_alone(config):
    found = single(lambda x: Unreadable() if x == 5 else x).map(
        {"x": range(20)}, map_over="x", config=config, on_error="return"
    )
    assert [i for i, outcome in enumerate(found) if isinstance(outcome, Failure)] == [5]
    items = [1, 2, Unreadable(), 4]
    found = single(lambda x: 1).map({"x": items}, map_over="x", config=config, on_error="return")
    assert [type(outcome) for outcome in found] == [dict, dict, Failure, dict]
    assert isinstance(found[2].error, SerializationError)


class ReadHereAlone:
    """Comes back in the process that has made it, and in no other."""

    def __reduce__(self):
        return _read_in, (os.getpid(),)


def _read_in(pid):
    if os.getpid() != pid:
        raise ValueError("not to be read")
    return ReadHereAlone()


def test_an_item_that_no_worker_can_read_is_named(config):
    items = [*range(9), ReadHereAlone()]
    found = single(lambda x: 1).map({"x": items}, map_over="x", config=config, on_error="return")
    assert found[:9] == [{"y": 1}] * 9
    assert "the input 'x' of item 9" in str(found[9].error)
    assert (found[9].error.name, found[9].error.index) == ("x", 9)


def test_one_of_the_values_of_an_item_that_no_worker_can_read_is_not_called_none(config):
    items = {"x": [*range(9), ReadHereAlone()], "z": range(10)}
    pipeline = single(lambda x, z: 1)
    found = pipeline.map(items, map_over=("x", "z"), config=config, on_error="return")
    assert found[:9] == [{"y": 1}] * 9
    assert str(found[9].error).startswith("one input of item 9 cannot travel")
    assert found[9].error.name is None


def test_big_arrays_travel_through_files_and_can_be_changed(config):
    numpy = pytest.importorskip("numpy")
    big = numpy.arange(1_000_000)
    before = names_in(SHARED)

    def add(x, big):
        big[0] += x
        return big[:300_000].copy()

    pipeline = Pipeline([node("a")(add), node("b")(lambda a: a.__setitem__(1, 7) or a)])
    found = pipeline.map({"x": range(8), "big": big}, map_over="x", config=config)
    for outcome in found:
        outcome["b"][2] = 5
        assert outcome["b"][1] == 7
        assert len(outcome["a"]) == 300_000
    assert big[0] == 0
    run = Pipeline([node("a")(lambda big: big * 2), node("b")(lambda a: a + 1)])
    assert run.run({"big": big}, config=config)["b"][10] == 21
    after = names_in(SHARED)
    for folder in after & before:
        if folder.startswith(f"hypernodes-{os.getpid()}-"):
            assert names_in(SHARED / folder) == set()


# ---------------------------------------------------------------- failures


class TwoArgumentsError(Exception):
    def __init__(self, code, text):
        super().__init__(f"{code}: {text}")
        self.code = code


def test_exceptions_keep_type_state_notes_and_the_workers_traceback(config):
    def work(x):
        error = TwoArgumentsError(7, "seven")
        error.add_note("mine")
        raise error

    with pytest.raises(TwoArgumentsError, match="7: seven") as caught:
        single(work).run({"x": 1}, config=config)
    error = caught.value
    assert error.code == 7
    assert error.__notes__ == ["mine", "hypernodes: in node 'work' of pipeline 'single'"]
    assert "raise error" in str(error.__cause__)


def test_exceptions_with_what_cannot_travel_lose_only_that(config):
    class LocalError(ValueError):
        def __init__(self, lock, word):
            super().__init__(lock, word)
            self.lock = lock
            self.word = word

    def work(x):
        raise LocalError(threading.Lock(), "hello")

    with pytest.raises(ValueError, match="hello") as caught:
        single(work).run({"x": 1}, config=config)
    assert type(caught.value).__name__ == "LocalError"
    assert caught.value.word == "hello"


def test_exceptions_whose_class_cannot_travel_become_the_nearest_base(config):
    def work(x):
        lock = threading.Lock()

        class StuckError(KeyError):
            held = lock

        raise StuckError("key")

    with pytest.raises(KeyError, match="key") as caught:
        single(work).run({"x": 1}, config=config)
    assert any("Stuck" in note for note in caught.value.__notes__)


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_what_is_no_exception_ends_the_run_as_itself(config, kind):
    def work(x):
        if x == 3:
            raise kind(5)
        return x

    pipeline = single(work, retries=5)
    with pytest.raises(kind):
        pipeline.map({"x": range(10)}, map_over="x", config=config, on_error="return")
    with pytest.raises(kind):
        pipeline.run({"x": 3}, config=config)
    assert pipeline.run({"x": 1}, config=config) == {"y": 1}


# ---------------------------------------------------------------- crashes

DEATHS = {
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "exit": lambda: os._exit(3),
    "segfault": lambda: faulthandler._sigsegv(),  # noqa: PLW0108
}


@posix
@pytest.mark.parametrize("way", DEATHS)
@pytest.mark.parametrize("count", [1, 3, 500])
def test_a_crash_costs_only_the_item_that_crashes(config, way, count):
    bad = count // 2
    die = DEATHS[way]

    def work(x):
        if x == bad:
            faulthandler.disable()
            die()
        return -x

    start = time.monotonic()
    found = single(work).map({"x": range(count)}, map_over="x", config=config, on_error="return")
    assert [i for i, outcome in enumerate(found) if isinstance(outcome, Failure)] == [bad]
    assert all(outcome == {"y": -i} for i, outcome in enumerate(found) if i != bad)
    failure = found[bad]
    assert isinstance(failure.error, WorkerCrashedError)
    assert (failure.index, failure.node, failure.path) == (bad, "work", ("single", "work"))
    assert (failure.error.index, failure.error.node) == (bad, "work")
    assert failure.inputs == {"x": bad}
    assert time.monotonic() - start < LIMIT


@posix
def test_a_crash_in_a_run_is_told_and_the_pool_goes_on(config):
    pipeline = Pipeline(
        [node("a")(lambda x: x), node("b")(lambda a: os._exit(1)), node("c")(lambda x: x)]
    )
    with pytest.raises(WorkerCrashedError, match="node") as caught:
        pipeline.run({"x": 1}, config=config)
    assert caught.value.path == ("pipeline", "<lambda>") or caught.value.node
    assert single(lambda x: x).run({"x": 1}, config=config) == {"y": 1}


@posix
def test_the_node_that_crashed_is_known_among_several(config):
    def fatal(a):
        os._exit(1)

    chain = Pipeline(
        [node("a")(lambda x: x), node("b")(fatal), node("c")(lambda b: b)], name="chain"
    )
    found = chain.map({"x": range(4)}, map_over="x", config=config, on_error="return")
    assert {failure.node for failure in found} == {"fatal"}
    with pytest.raises(WorkerCrashedError) as caught:
        chain.run({"x": 1}, config=config)
    assert caught.value.path == ("chain", "fatal")


@posix
def test_many_items_that_crash_cost_only_themselves(config):
    def work(x):
        if x % 10 == 0:
            os._exit(1)
        return x

    found = single(work).map({"x": range(60)}, map_over="x", config=config, on_error="return")
    assert [i for i, o in enumerate(found) if isinstance(o, Failure)] == [0, 10, 20, 30, 40, 50]


@posix
def test_an_item_that_crashes_once_is_done_again(config, tmp_path):
    def work(x):
        mark = tmp_path / str(x)
        if x % 7 == 2 and not mark.exists():
            mark.touch()
            os._exit(1)
        return x

    found = single(work).map({"x": range(40)}, map_over="x", config=config)
    assert found == [{"y": x} for x in range(40)]


@posix
def test_extra_attempts_are_made_after_crashes(config, tmp_path):
    def work(x):
        with (tmp_path / "tries").open("a") as file:
            file.write("x")
        os._exit(1)

    found = single(work, retries=3).map({"x": [1]}, map_over="x", config=config, on_error="return")
    assert isinstance(found[0].error, WorkerCrashedError)
    assert found[0].attempts == 4
    assert len((tmp_path / "tries").read_text()) == 5  # the first death in company is forgiven
    (tmp_path / "tries").unlink()
    picky = RetryPolicy(max_retries=3, retry_on=(ValueError,))
    found = single(work, retries=picky).map(
        {"x": [1]}, map_over="x", config=config, on_error="return"
    )
    assert len((tmp_path / "tries").read_text()) == 2


class Deadly:
    """Kills whoever reads it, other than the process that made it."""

    def __reduce__(self):
        return _die_elsewhere, (os.getpid(),)


def _die_elsewhere(pid):
    if os.getpid() != pid:
        os._exit(1)
    return Deadly()


@posix
def test_an_item_that_kills_its_reader_fails_alone(config):
    items = [1, 2, Deadly(), 4, 5]
    found = single(lambda x: 1).map({"x": items}, map_over="x", config=config, on_error="return")
    assert [type(outcome) for outcome in found] == [dict, dict, Failure, dict, dict]
    assert isinstance(found[2].error, WorkerCrashedError)


@posix
def test_a_shared_input_that_kills_its_readers_ends_the_map(config):
    start = time.monotonic()
    with pytest.raises(WorkerCrashedError):
        single(lambda x, deadly: 1).map(
            {"x": range(1000), "deadly": Deadly()}, map_over="x", config=config
        )
    assert time.monotonic() - start < LIMIT
    assert single(lambda x: x).run({"x": 1}, config=config) == {"y": 1}


@posix
@pytest.mark.parametrize("count", [1, 2, 10])
def test_items_that_all_kill_their_readers_cost_only_themselves(config, count):
    items = [Deadly() for _ in range(count)]
    items[count // 2 :: 7] = range(len(items[count // 2 :: 7]))
    found = single(lambda x: x).map({"x": items}, map_over="x", config=config, on_error="return")
    dead = [i for i, item in enumerate(items) if isinstance(item, Deadly)]
    assert [i for i, outcome in enumerate(found) if isinstance(outcome, Failure)] == dead


class Slow:
    """Takes its time to be read."""

    def __reduce__(self):
        return _read_slowly, ()


def _read_slowly():
    time.sleep(0.05)
    return Slow()


def test_items_that_are_slow_to_be_read_are_read_once(config):
    start = time.monotonic()
    found = single(lambda x: 1).map({"x": [Slow() for _ in range(9)]}, map_over="x", config=config)
    assert found == [{"y": 1}] * 9
    assert single(lambda x: 1).run({"x": Slow()}, config=config) == {"y": 1}
    assert time.monotonic() - start < LIMIT


@posix
def test_a_worker_that_dies_idle_costs_nothing(config):
    for _ in range(3):
        pid = single(os.getpid).run(config=config)["y"]
        os.kill(pid, signal.SIGKILL)
        found = single(lambda x: x).map({"x": range(50)}, map_over="x", config=config)
        assert found == [{"y": x} for x in range(50)]


@posix
def test_a_worker_whose_child_keeps_its_socket_is_noticed(config):
    def work(x):
        if os.fork() == 0:
            time.sleep(30)
            os._exit(0)
        os.kill(os.getpid(), signal.SIGKILL)

    start = time.monotonic()
    with pytest.raises(WorkerCrashedError):
        single(work).run({"x": 1}, config=config)
    assert time.monotonic() - start < 25


# ---------------------------------------------------------------- timeouts


@pytest.mark.parametrize("count", [1, 20])
def test_a_stuck_item_is_killed_and_its_neighbours_finish(config, count):
    def work(x):
        if x == count // 2:
            time.sleep(60)
        return x

    start = time.monotonic()
    found = single(work, timeout=0.3).map(
        {"x": range(count)}, map_over="x", config=config, on_error="return"
    )
    assert time.monotonic() - start < 50
    assert [i for i, o in enumerate(found) if isinstance(o, Failure)] == [count // 2]
    failure = found[count // 2]
    assert isinstance(failure.error, NodeTimeoutError)
    assert (failure.node, failure.error.timeout) == ("work", 0.3)
    assert failure.attempts == 1


def test_code_that_holds_the_lock_of_python_is_killed_too(config):
    def work(x):
        re.match(r"(a+)+$", "a" * 40 + "b")  # never lets go of the lock

    start = time.monotonic()
    with pytest.raises(NodeTimeoutError, match=r"0\.3 s"):
        single(work, timeout=0.3).run({"x": 1}, config=config)
    assert time.monotonic() - start < 50


def test_retries_count_attempts_exactly_after_timeouts(config, tmp_path):
    def work(x):
        with (tmp_path / f"tries{x}").open("a") as file:
            file.write("x")
        if x == 1 or len((tmp_path / f"tries{x}").read_text()) < 3:
            time.sleep(60)
        return x

    pipeline = Pipeline([node("w")(lambda x: x), node("y", timeout=0.5, retries=2)(work)])
    found = pipeline.map(
        {"x": [0, 1, 2]}, map_over="x", config=config, output_name="y", on_error="return"
    )
    assert found[0] == {"y": 0}
    assert found[2] == {"y": 2}
    assert (found[1].attempts, type(found[1].error)) == (3, NodeTimeoutError)
    assert len((tmp_path / "tries1").read_text()) == 3


def test_failures_and_timeouts_count_together(config, tmp_path):
    def work(x):
        with (tmp_path / "tries").open("a") as file:
            file.write("x")
        tries = len((tmp_path / "tries").read_text())
        if tries == 2:
            time.sleep(60)
        raise ValueError(tries)

    with pytest.raises(ValueError, match="4"):
        single(work, timeout=0.5, retries=3).run({"x": 1}, config=config)
    assert len((tmp_path / "tries").read_text()) == 4


def test_seconds_are_per_attempt_and_in_time_is_fine(config):
    pipeline = single(lambda x: time.sleep(0.05) or x, timeout=1)
    found = pipeline.map({"x": range(50)}, map_over="x", config=config)
    assert found == [{"y": x} for x in range(50)]


def test_coroutines_are_timed_too(config):
    import asyncio

    async def work(x):
        await asyncio.sleep(60 if x else 0)
        return x

    found = single(work, timeout=0.3).map(
        {"x": [0, 1, 0]}, map_over="x", config=config, on_error="return"
    )
    assert found[0] == found[2] == {"y": 0}
    assert isinstance(found[1].error, NodeTimeoutError)


def test_a_node_inside_a_nested_map_is_timed(config):
    def work(x):
        if x == 2:
            time.sleep(60)
        return x

    inner = Pipeline([node("y", timeout=0.3)(work)], name="inner")
    outer = Pipeline([inner.as_node(map_over="x")], name="outer")
    found = outer.map(
        {"x": [[1], [1, 2], [3], [4], [5]]}, map_over="x", config=config, on_error="return"
    )
    assert [type(outcome) for outcome in found] == [dict, Failure, dict, dict, dict]
    assert found[1].path == ("outer", "inner", "work")


# ---------------------------------------------------------------- cancelling and closing


def test_the_first_failure_stops_the_rest_and_the_pool_is_usable(config, tmp_path):
    begun, met = tmp_path / "begun", tmp_path / "met"
    begun.mkdir()
    met.mkdir()

    def work(x):
        if x == 0:
            time.sleep(0.2)
            raise ZeroDivisionError
        (begun / str(x)).touch()
        time.sleep(0.1)

    start = time.monotonic()
    with pytest.raises(ZeroDivisionError):
        single(work).map({"x": range(1000)}, map_over="x", config=config)
    assert time.monotonic() - start < 40
    # A worker comes to these when it has left the others.
    found = single(meeting(met, 2)).map({"x": range(2)}, map_over="x", config=config)
    assert len({outcome["y"] for outcome in found}) == 2
    assert len(names_in(begun)) < 20


def test_workers_busy_with_cancelled_work_are_killed_after_two_seconds(tmp_path):
    with ProcessPoolExecutor(max_workers=1) as executor:
        config = RuntimeConfig(executor=executor)
        busy = single(lambda x: (tmp_path / "pid").write_text(str(os.getpid())) and time.sleep(60))

        def stop():
            wait_until(lambda: (tmp_path / "pid").exists())  # noqa: PLW0108
            os.kill(os.getpid(), signal.SIGINT)

        threading.Thread(target=stop, daemon=True).start()
        start = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            busy.map({"x": range(5)}, map_over="x", config=config)
        assert time.monotonic() - start < 50
        assert single(lambda x: x).run({"x": 1}, config=config) == {"y": 1}
        assert 1.5 < time.monotonic() - start < 50
        assert not is_alive(int((tmp_path / "pid").read_text()))


def test_cancelling_one_run_does_not_touch_another(config):
    found = []

    def other():
        pipeline = single(lambda x: time.sleep(0.01) or x)
        found.append(pipeline.map({"x": range(150)}, map_over="x", config=config))

    thread = threading.Thread(target=other)
    thread.start()
    for _ in range(5):
        results = single(lambda x: time.sleep(0.02)).map_iter(
            {"x": range(1000)}, map_over="x", config=config
        )
        next(results)
        results.close()
    thread.join(LIMIT)
    assert found == [[{"y": x} for x in range(150)]]


def test_closing_ends_all_processes_and_files():
    executor = ProcessPoolExecutor(max_workers=2, max_tasks_per_child=10_000)
    config = RuntimeConfig(executor=executor)
    pids = {
        outcome["y"]
        for outcome in single(lambda x: time.sleep(0.01) or os.getpid()).map(
            {"x": range(20)}, map_over="x", config=config
        )
    }
    executor.close()
    wait_until(lambda: not any(is_alive(pid) for pid in pids), 40)


OPENING = """
from pathlib import Path
from hypernodes import *

def use():
    with ProcessPoolExecutor(max_workers=2, chunksize=3) as executor:
        config = RuntimeConfig(executor=executor)
        Pipeline([node("y")(lambda x: x)]).map({"x": range(50)}, map_over="x", config=config)

def descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))

use()
before = descriptors()
for _ in range(5):
    use()
assert descriptors() == before
"""


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="nothing tells what is open")
def test_descriptors_do_not_leak(run_script):
    run_script(OPENING)  # where nobody else opens any


DRIVER = """
import os, sys, time
from hypernodes import Pipeline, ProcessPoolExecutor, RuntimeConfig, node
import re
def work(x):
    os.write(1, f"{{os.getpid()}}\\n".encode())  # in one piece
    {busy}
config = RuntimeConfig(executor=ProcessPoolExecutor(max_workers=2, start_method={method!r}))
Pipeline([node("y")(work)]).map({{"x": range(10)}}, map_over="x", config=config)
"""
BUSY = {"sleeps": "time.sleep(60)", "holds the lock": "re.match(r'(a+)+$', 'a' * 40 + 'b')"}


@posix
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
@pytest.mark.parametrize("busy", BUSY)
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_workers_end_when_their_driver_does(busy, end, method):
    script = DRIVER.format(busy=BUSY[busy], method=method)
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            pids = [int(process.stdout.readline()) for _ in range(2)]
            folder = [name for name in names_in(SHARED) if f"-{process.pid}-" in name]
        finally:
            process.send_signal(end)
        assert len(folder) == 1, folder
        wait_until(lambda: not any(is_alive(pid) for pid in pids), 40)
        process.wait(LIMIT)
        wait_until(lambda: not (SHARED / folder[0]).exists(), 40)
        noise = process.stderr.read()
    assert "resource_tracker" not in noise


@posix
def test_files_go_when_the_whole_group_is_terminated():
    script = DRIVER.format(busy=BUSY["sleeps"], method="forkserver")
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, start_new_session=True, text=True
    ) as process:
        try:
            process.stdout.readline()
        finally:
            os.killpg(process.pid, signal.SIGTERM)
    wait_until(lambda: not any(f"-{process.pid}-" in name for name in names_in(SHARED)), 40)


def test_the_interpreter_ends_promptly_and_silently(run_script):
    start = time.monotonic()
    result = run_script(
        """
from hypernodes import Pipeline, ProcessPoolExecutor, RuntimeConfig, node
config = RuntimeConfig(executor=ProcessPoolExecutor(max_workers=2))
Pipeline([node("y")(lambda x: x)]).map({"x": range(100)}, map_over="x", config=config)
pipeline = Pipeline([node("y")(lambda x: x)])
results = pipeline.map_iter({"x": range(1000)}, map_over="x", config=config)
next(results)
"""
    )
    assert (result.stdout, result.stderr) == ("", "")
    assert time.monotonic() - start < LIMIT


def test_closing_during_a_run_gives_a_clear_error(tmp_path):
    executor = ProcessPoolExecutor(max_workers=1)
    config = RuntimeConfig(executor=executor)

    def work(x):
        (tmp_path / "begun").touch()
        time.sleep(0.05)

    def close():
        wait_until(lambda: names_in(tmp_path))
        executor.close()

    closing = threading.Thread(target=close)
    closing.start()
    with pytest.raises(HyperNodesError, match="closed"):
        single(work).map({"x": range(500)}, map_over="x", config=config)
    closing.join(LIMIT)


def test_after_a_failure_of_the_dispatcher_the_next_run_gets_other_workers():
    def fail():
        raise RuntimeError("a fault of ours")

    with ProcessPoolExecutor(max_workers=1) as executor:
        config = RuntimeConfig(executor=executor)
        pipeline = single(lambda x: x)
        assert pipeline.run({"x": 1}, config=config) == {"y": 1}
        broken = REGISTRY.of(executor, executor.open_workers)
        broken._tick = fail
        # The run may also hear first that the pool is closed, which it is because of that.
        with pytest.raises((RuntimeError, HyperNodesError), match=r"ours|closed"):
            pipeline.run({"x": 2}, config=config)
        assert pipeline.run({"x": 3}, config=config) == {"y": 3}
        assert REGISTRY.of(executor, executor.open_workers) is not broken


# ---------------------------------------------------------------- nesting


def test_pipelines_nested_hundreds_of_levels_deep_travel(config):
    pipeline = single(lambda x: x + 1)
    for level in range(200):
        pipeline = Pipeline([pipeline.as_node()], name=f"level{level}")
    assert pipeline.run({"x": 1}, config=config) == {"y": 2}


@pytest.mark.parametrize("workers", [1, 2])
def test_nested_maps_of_any_depth_end(workers):
    pipeline = single(lambda x: -x)
    for _ in range(4):
        pipeline = Pipeline([pipeline.as_node(map_over="x")])
    with ProcessPoolExecutor(max_workers=workers) as executor:
        found = pipeline.run(
            {"x": [[[[1, 2]], [[3]]], []]}, config=RuntimeConfig(executor=executor)
        )
    assert found == {"y": [[[[-1, -2]], [[-3]]], []]}


def test_inner_maps_use_the_workers_that_an_outer_map_leaves_over(config, tmp_path):
    inner = single(meeting(tmp_path, 2))
    outer = Pipeline([inner.as_node(map_over="x")])
    (found,) = outer.map({"x": [range(20)]}, map_over="x", config=config)
    assert len(set(found["y"])) == 2


def test_a_node_of_another_executor_runs_in_the_driver(config):
    pipeline = Pipeline(
        [
            node("a")(lambda x: os.getpid()),
            node("b", config=RuntimeConfig(executor="sequential"))(lambda a: os.getpid()),
        ]
    )
    for outcome in pipeline.with_config(config).map({"x": range(5)}, map_over="x"):
        assert outcome["b"] == os.getpid() != outcome["a"]


def test_asynchronous_callers_are_served(config):
    import asyncio

    pipeline = single(lambda x: (x, os.getpid()))

    async def main():
        one = await pipeline.arun({"x": 1}, config=config)
        many = await pipeline.amap({"x": range(50)}, map_over="x", config=config)
        return one, many

    one, many = asyncio.run(main())
    assert one["y"][1] != os.getpid()
    assert [outcome["y"][0] for outcome in many] == list(range(50))


def test_a_lazy_map_of_many_items_keeps_memory_flat(config):
    import tracemalloc

    results = single(lambda x: x).map_iter({"x": iter(range(200_000))}, map_over="x", config=config)
    next(results)
    tracemalloc.start()
    try:
        assert sum(1 for _ in results) == 199_999
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 30_000_000


# ---------------------------------------------------------------- slow items and progress


@pytest.mark.parametrize("slow", [0, 150, 299])
def test_one_slow_item_delays_no_other(config, slow, tmp_path):
    def work(x):
        if x == slow:
            end = time.monotonic() + LIMIT
            while not (tmp_path / "go").exists():
                assert time.monotonic() < end
                time.sleep(0.01)
        return x

    results = single(work).map_iter({"x": range(300)}, map_over="x", config=config, ordered=False)
    seen = [next(results)[0] for _ in range(299)]
    assert slow not in seen
    (tmp_path / "go").touch()
    assert next(results) == (slow, {"y": slow})
    assert len(set(seen)) == 299


@pytest.mark.parametrize("slow", [0, 150])
def test_no_item_runs_twice_or_not_at_all(config, slow, tmp_path):
    path = tmp_path / "ran"

    def work(x):
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(fd, f"{x}\n".encode())
        os.close(fd)
        time.sleep(0.3 if x % 100 == slow else 0.0002 * (x % 7))

    single(work).map({"x": range(1000)}, map_over="x", config=config)
    assert sorted(map(int, path.read_text().split())) == list(range(1000))


def test_outcomes_come_while_their_chunk_still_runs(tmp_path):
    def work(x):
        if x == 20:
            wait_until((tmp_path / "go").exists)
        return x

    with ProcessPoolExecutor(max_workers=1, chunksize=100) as executor:
        results = single(work).map_iter(
            {"x": range(40)}, map_over="x", config=RuntimeConfig(executor=executor)
        )
        assert [next(results) for _ in range(4)] == [{"y": x} for x in range(4)]
        (tmp_path / "go").touch()
        assert len(list(results)) == 36


# ---------------------------------------------------------------- several runs on the same workers


def test_a_run_beside_a_long_map_does_not_wait_for_its_end(tmp_path):
    def work(n, folder):
        (Path(folder) / f"item-{n}").touch()
        time.sleep(0.0 if (Path(folder) / "item-over").exists() else 0.02)

    with ProcessPoolExecutor(max_workers=2, chunksize=1) as executor:
        config = RuntimeConfig(executor=executor)
        items = {"n": range(1000), "folder": str(tmp_path)}
        mapping = threading.Thread(
            target=lambda: single(work).map(items, map_over="n", config=config)
        )
        mapping.start()
        wait_until(lambda: names_in(tmp_path))
        assert single(lambda x: x).run({"x": 1}, config=config) == {"y": 1}
        done = len(names_in(tmp_path))
        (tmp_path / "item-over").touch()  # no need to take long any more
        mapping.join(LIMIT)

    assert done < 500
    assert len(names_in(tmp_path)) == 1000 + 1


def test_a_late_item_is_tried_again_in_the_middle_of_its_map(tmp_path):
    def work(n, folder):
        first = Path(folder) / "late"
        if n == 3 and not first.exists():
            first.touch()
            time.sleep(LIMIT)
        if n == 3:
            (Path(folder) / "again").write_text(str(len(names_in(folder))), encoding="utf-8")
        (Path(folder) / f"item-{n}").touch()
        time.sleep(0.01)
        return n

    with ProcessPoolExecutor(max_workers=2, chunksize=1) as executor:
        pipeline = single(work, timeout=0.3, retries=1)
        items = {"n": range(600), "folder": str(tmp_path)}
        found = pipeline.map(items, map_over="n", config=RuntimeConfig(executor=executor))

    assert found == [{"y": n} for n in range(600)]
    assert int((tmp_path / "again").read_text(encoding="utf-8")) < 400


def test_attempts_before_a_death_that_is_forgiven_count(config, tmp_path):
    log = tmp_path / "log"

    def work(n):
        with log.open("a", encoding="utf-8") as file:
            file.write("x")
        if log.stat().st_size == 2:
            os._exit(1)
        raise ValueError(n)

    [found] = single(work, retries=2).map(
        {"n": [1]}, map_over="n", config=config, on_error="return"
    )

    assert (type(found.error), found.attempts) == (ValueError, 3)
    assert log.read_text(encoding="utf-8") == "xxxx"  # one failed, one died for nothing, two failed


# ---------------------------------------------------------------- what stays as it is


AT_HOME = """
from hypernodes import *

class Point:
    made = []
    def __init__(self, x):
        self.x = x
    def scaled(self):
        return self.x * FACTOR

class Broken(Exception):
    seen = []
    def __init__(self, a, b):
        super().__init__(a)

FACTOR = 2

@node(output_name="point")
def make(x):
    Point.made.append(x)
    return Point(x)

@node(output_name="broken")
def fail(x):
    raise Broken(x, x)

config = RuntimeConfig(executor=ProcessPoolExecutor(max_workers=1))
before = Point.scaled, Point.made, Broken.seen
[found] = Pipeline([make]).map({"x": [3]}, map_over="x", config=config)
[failed] = Pipeline([fail]).map({"x": [3]}, map_over="x", config=config, on_error="return")
FACTOR = 10
assert type(found["point"]) is Point and found["point"].scaled() == 30
assert type(failed.error) is Broken
assert all(a is b for a, b in zip(before, (Point.scaled, Point.made, Broken.seen)))
assert Point.made == []
"""


def test_classes_of_the_program_stay_as_they_are_when_their_instances_come_back(run_script):
    run_script(AT_HOME)


def test_classes_that_are_made_in_a_worker_come_whole(config):
    def make(n):
        import dataclasses
        import enum

        class Color(enum.Enum):
            RED = n

            def shout(self):
                return f"{self.name}!"

        @dataclasses.dataclass
        class Pair:
            left: int

            def both(self):
                return self.left, self.left

        class Slotted:
            __slots__ = ("n",)

            def get(self):
                return self.n

        slotted = Slotted()
        slotted.n = n
        return Color.RED, Pair(n), slotted

    for item in single(make).map({"n": [1, 2]}, map_over="n", config=config):
        color, pair, slotted = item["y"]
        assert (color.shout(), pair.both()) == ("RED!", (color.value, color.value))
        assert slotted.get() == color.value


def test_what_a_node_leaves_behind_does_not_reach_the_next_run(config):
    def leave(x):
        os.chdir("/")
        os.environ["HYPERNODES_LEFT"] = "1"
        sys.path.insert(0, "/left")
        return x

    def look(x):
        return str(Path.cwd()), "HYPERNODES_LEFT" in os.environ, "/left" in sys.path

    single(leave).map({"x": range(8)}, map_over="x", config=config)

    found = single(look).map({"x": range(8)}, map_over="x", config=config)
    assert found == [{"y": (str(Path.cwd()), False, False)}] * 8


HOMELESS = """
import os, tempfile
from hypernodes import *

pipeline = Pipeline([node("y")(lambda x: x + 1)])
warm = RuntimeConfig(executor=ProcessPoolExecutor(max_workers=1))
pipeline.run({"x": 1}, config=warm)
folder = tempfile.mkdtemp()
os.chdir(folder)
os.rmdir(folder)
assert pipeline.run({"x": 1}, config=warm) == {"y": 2}
cold = RuntimeConfig(executor=ProcessPoolExecutor(max_workers=1, chunksize=1))
assert pipeline.run({"x": 1}, config=cold) == {"y": 2}
"""


def test_a_working_directory_that_is_gone_is_no_obstacle(run_script):
    run_script(HOMELESS)


INTERRUPTED_WRITING = """
import signal, os
from pathlib import Path
import numpy as np
from hypernodes import *

def stop(*_):
    raise KeyboardInterrupt

def size():
    found = 0
    for path in Path("/dev/shm").glob(f"hypernodes-{os.getpid()}-*/*"):
        try:
            found += path.stat().st_size
        except FileNotFoundError:
            continue  # removed just now
    return found

config = RuntimeConfig(executor=ProcessPoolExecutor(max_workers=1))
pipeline = Pipeline([node("y")(lambda n, big: n)])
pipeline.map({"n": [1], "big": 1}, map_over="n", config=config)
big = np.ones(50_000_000)
signal.signal(signal.SIGALRM, stop)
for _ in range(3):
    signal.setitimer(signal.ITIMER_REAL, 0.03)
    try:
        pipeline.map({"n": [1, 2], "big": big}, map_over="n", config=config)
    except KeyboardInterrupt:
        pass
    signal.setitimer(signal.ITIMER_REAL, 0)
import time
end = time.monotonic() + 10
while size() and time.monotonic() < end:
    time.sleep(0.01)
assert not size(), size()
"""


@pytest.mark.skipif(not SHARED.is_dir(), reason="there is no /dev/shm")
def test_an_interrupt_while_a_big_input_is_written_leaves_no_file(run_script):
    run_script(INTERRUPTED_WRITING)


DYNAMIC = """
import sys, types, warnings
from hypernodes import *

module = types.ModuleType("dynamic")
sys.modules["dynamic"] = module
exec("class Worry(UserWarning): pass\\ndef f(n): return n + 1", module.__dict__)
config = RuntimeConfig(executor=ProcessPoolExecutor(max_workers=1))
try:
    Pipeline([node("y")(module.f)]).map({"n": range(5)}, map_over="n", config=config)
except SerializationError as error:
    assert error.node == "f" and "No module named 'dynamic'" in str(error), error
else:
    raise AssertionError
warnings.filterwarnings("ignore", category=module.Worry)
assert Pipeline([node("y")(lambda n: n)]).run({"n": 1}, config=config) == {"y": 1}
"""


def test_a_function_that_workers_cannot_import_is_named(run_script):
    run_script(DYNAMIC)


FAILS_TO_IMPORT = """
import os, sys
from pathlib import Path
from hypernodes import Pipeline, ProcessPoolExecutor, RuntimeConfig, SerializationError, node
Path("package").mkdir()
Path("package/__init__.py").touch()
Path("package/nodes.py").write_text("from package import settings\\ndef f(n):\\n    return n\\n")
Path("package/settings.py").write_text("import os\\nkey = {%r: 1}[os.getpid()]\\n" % os.getpid())
sys.path.insert(0, os.getcwd())
from package.nodes import f
config = RuntimeConfig(executor=ProcessPoolExecutor(max_workers=1))
pipeline = Pipeline([node("x")(lambda n: n), node("y")(f)])
try:
    pipeline.map({"n": range(5)}, map_over="n", config=config)
except SerializationError as error:
    assert error.node == "f" and isinstance(error.__cause__, KeyError), error
    assert "node 'f'" in str(error) and "while module 'package.nodes' is imported" in str(error)
else:
    raise AssertionError
"""


def test_a_module_that_cannot_be_imported_in_workers_is_named(run_script):
    run_script(FAILS_TO_IMPORT)


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_what_the_library_tells_a_worker_is_no_argument_of_programs(method):
    with ProcessPoolExecutor(max_workers=1, start_method=method) as executor:
        found = Pipeline([node("y")(lambda x: sys.argv[1:])]).run(
            {"x": 1}, config=RuntimeConfig(executor=executor)
        )
    assert found == {"y": []}


def test_an_output_that_cannot_be_read_again_beside_big_ones_fails_alone():
    def make(n):
        import numpy as np

        class UnrebuildableError(Exception):
            def __init__(self, a, b):
                super().__init__(a)

        return UnrebuildableError(1, 2) if n == 3 else np.zeros(300_000)

    with ProcessPoolExecutor(max_workers=1, chunksize=8) as executor:
        config = RuntimeConfig(executor=executor)
        found = single(make).map({"n": range(8)}, map_over="n", config=config, on_error="return")

    assert [n for n, item in enumerate(found) if isinstance(item, Failure)] == [3]
    assert isinstance(found[3].error, SerializationError)


# ---------------------------------------------------------------- what a death or a timeout spares


def test_what_had_finished_before_a_timeout_does_not_run_again(tmp_path):
    log = tmp_path / "log"

    def work(n):
        with log.open("a", encoding="utf-8") as file:
            file.write(f"{n}\n")
        if n == 19:
            time.sleep(LIMIT)
        return n

    with ProcessPoolExecutor(max_workers=1, chunksize=20) as executor:
        found = single(work, timeout=0.5).map(
            {"n": range(40)},
            map_over="n",
            config=RuntimeConfig(executor=executor),
            on_error="return",
        )

    assert [n for n, item in enumerate(found) if isinstance(item, Failure)] == [19]
    assert sorted(map(int, log.read_text(encoding="utf-8").split())) == list(range(40))


def test_a_crash_while_an_output_is_packed_costs_each_neighbour_one_more_run(tmp_path):
    log = tmp_path / "log"

    class Bomb:
        def __reduce__(self):
            os._exit(3)

    def work(n):
        with log.open("a", encoding="utf-8") as file:
            file.write(f"{n}\n")
        return Bomb() if n == 5 else n

    with ProcessPoolExecutor(max_workers=1, chunksize=30) as executor:
        found = single(work).map(
            {"n": range(30)},
            map_over="n",
            config=RuntimeConfig(executor=executor),
            on_error="return",
        )

    assert [n for n, item in enumerate(found) if isinstance(item, Failure)] == [5]
    assert isinstance(found[5].error, WorkerCrashedError)
    assert len(log.read_text(encoding="utf-8").split()) <= 30 + 30 + 1


@pytest.mark.skipif(not SHARED.is_dir(), reason="there is no /dev/shm")
def test_shared_inputs_of_inner_maps_go_when_these_are_over(tmp_path):
    numpy = pytest.importorskip("numpy")
    inner = Pipeline([node("y")(lambda x, shared: x)], name="inner")
    nodes = [
        node("x", config=RuntimeConfig(executor="thread"))(lambda n: [n] * 3),
        node("shared")(lambda n: numpy.zeros(2_000_000, numpy.uint8)),
        inner.as_node(map_over="x"),
    ]
    before, most = bytes_shared(), 0
    with ProcessPoolExecutor(max_workers=2) as executor:
        pipeline = Pipeline(nodes, config=RuntimeConfig(executor=executor))
        for _ in pipeline.map_iter({"n": range(60)}, map_over="n"):
            most = max(most, bytes_shared() - before)

    assert most < 30 * 2_000_000


def test_a_shared_input_of_an_inner_map_that_cannot_travel_fails_its_item_alone(config):
    inner = Pipeline([node("y")(lambda x, shared: x)], name="inner")
    nodes = [
        node("shared", config=RuntimeConfig(executor="sequential"))(
            lambda n: threading.Lock() if n == 1 else n
        ),
        inner.as_node(map_over="x"),
    ]

    found = Pipeline(nodes, config=config).map(
        {"n": range(3), "x": [1, 2]}, map_over="n", output_name="y", on_error="return"
    )

    assert (found[0], found[2]) == ({"y": [1, 2]}, {"y": [1, 2]})
    assert isinstance(found[1].error, SerializationError)


# ---------------------------------------------------------------- exceptions that change on the way


def test_notes_messages_and_groups_of_exceptions_come_whole(config):
    class PrefixedError(Exception):
        def __init__(self, key):
            super().__init__(f"missing: {key}")

    class PairError(Exception):
        def __init__(self, first, second):
            super().__init__(first)

    def work(n):
        import json

        if n == 0:
            json.loads("{")
        if n == 1:
            raise PrefixedError("k")
        raise ExceptionGroup("both", [ValueError(1), PairError(1, 2)])

    found = single(work).map({"n": range(3)}, map_over="n", config=config, on_error="return")
    decoding, prefixed, group = (failure.error for failure in found)

    for index, error in enumerate((decoding, prefixed, group)):
        assert any(f"item {index}" in note for note in error.__notes__)
    assert str(prefixed) == "missing: k"
    assert [type(error).__name__ for error in group.exceptions] == ["ValueError", "PairError"]


PRINTING = """
import os, sys
from hypernodes import *

os.close({stream})

def work(n):
    os.write({stream}, b"printed by native code")
    return n, os.path.samestat(os.fstat({stream}), os.stat(os.devnull))

config = RuntimeConfig(executor=ProcessPoolExecutor(max_workers=2, start_method={method!r}))
found = Pipeline([node("y")(work)]).map({{"n": range(4)}}, map_over="n", config=config)
assert found == [{{"y": (n, True)}} for n in range(4)]
try:
    os.write({stream}, b"printed by the driver")
except OSError:
    os._exit(0)  # closed, as it was
"""


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
@pytest.mark.parametrize("stream", [1, 2])
def test_what_is_printed_to_a_closed_stream_disturbs_nothing(run_script, stream, method):
    run_script(PRINTING.format(stream=stream, method=method))
