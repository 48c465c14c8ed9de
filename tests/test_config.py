"""Configs: which one is in force, what one can say, and where it can live."""

import inspect
import itertools
import json
import pickle
import re
import sys
import threading
import time
from concurrent import futures
from contextlib import nullcontext
from contextvars import copy_context

import pytest
from pydantic import ValidationError

from hypernodes import (
    CacheSpec,
    CompositeExecutor,
    Executor,
    InputError,
    Pipeline,
    RayExecutor,
    RetryPolicy,
    RuntimeConfig,
    SequentialExecutor,
    ThreadPoolExecutor,
    get_default_config,
    node,
    set_default_config,
)
from hypernodes.backends import Backend, LocalBackend, RemoteBackend

SECONDS = 30


class CountingExecutor(SequentialExecutor):
    """An executor of somebody else's, with a field of its own."""

    label: str = "somebody else's"
    levels: tuple[int, ...] = ()


class OtherBackend(LocalBackend):
    place: str = "here"


# ---------------------------------------------------------------- precedence


LEVELS = (
    "call",
    "node",
    "pipeline",
    "parent",
    "grandparent",
    "around",
    "around that",
    "use",
    "global",
    "library",
)
"""From the strongest to the weakest; the last one is always there."""


def saying(level, executor="sequential"):
    """Make a config that says which level it comes from, by the number of attempts."""
    if level is None:
        return None
    return RuntimeConfig(executor=executor, retries=LEVELS.index(level) + 1)


def level_in_force(levels, executor="sequential"):
    """Run a failing node deep inside, with configs on some levels; return whose is in force."""
    configs = {
        level: saying(level if level in levels - {"library"} else None, executor)
        for level in LEVELS
    }
    attempts = []

    def fails(x):
        attempts.append(x)
        raise ValueError("always")

    grandparent = Pipeline([], config=configs["grandparent"])
    parent = Pipeline([], parent=grandparent, config=configs["parent"])
    inner = Pipeline(
        [node(config=configs["node"])(fails)],
        parent=parent,
        config=configs["pipeline"],
        name="inner",
    )
    around = Pipeline([inner], config=configs["around"], name="around")
    outermost = Pipeline([around], config=configs["around that"], name="outermost")
    set_default_config(configs["global"])
    call = {} if configs["call"] is None else {"config": configs["call"]}
    block = RuntimeConfig.use(configs["use"]) if configs["use"] else nullcontext()
    with block, pytest.raises(ValueError, match="always"):
        outermost.run({"x": 1}, **call)
    retries = len(attempts) - 1
    return LEVELS[retries - 1] if retries else "library"


PAIRS = list(itertools.combinations(LEVELS, 2))


@pytest.mark.parametrize(("stronger", "weaker"), PAIRS, ids=[" over ".join(pair) for pair in PAIRS])
def test_stronger_level_wins(stronger, weaker):
    assert level_in_force({stronger, weaker}) == stronger


@pytest.mark.parametrize("position", range(len(LEVELS)), ids=LEVELS)
def test_strongest_of_all_that_are_there_wins(position):
    assert level_in_force(set(LEVELS[position:])) == LEVELS[position]


@pytest.mark.parametrize(("stronger", "weaker"), PAIRS, ids=[" over ".join(pair) for pair in PAIRS])
def test_stronger_level_wins_on_threads(stronger, weaker):
    assert level_in_force({stronger, weaker}, "thread") == stronger


def test_library_default_is_threads_without_retries_or_timeout():
    assert get_default_config() == RuntimeConfig(
        backend=LocalBackend(),
        executor=ThreadPoolExecutor(max_workers=4),
        cache=None,
        callbacks=(),
        retries=0,
        timeout=None,
        callback_errors="log",
    )


def test_effective_config_follows_the_pipeline_its_parents_use_and_the_default():
    grandparent = Pipeline([], config=saying("grandparent"))
    parent = Pipeline([], parent=grandparent)
    child = Pipeline([], parent=parent)
    assert child.effective_config == saying("grandparent")
    assert child.with_config(saying("pipeline")).effective_config == saying("pipeline")
    alone = Pipeline([])
    assert alone.effective_config == get_default_config()
    set_default_config(saying("global"))
    assert alone.effective_config == saying("global")
    with RuntimeConfig.use(saying("use")):
        assert alone.effective_config == saying("use")
        assert child.effective_config == saying("grandparent")


def attempts_of(config=None, **facts):
    attempts = []

    def fails(x):
        attempts.append(x)
        raise ValueError("always")

    with pytest.raises(ValueError, match="always"):
        Pipeline([node(**facts)(fails)]).run({"x": 1}, config=config)
    return len(attempts)


def test_config_of_a_node_replaces_all_of_the_pipelines():
    whole = RuntimeConfig(executor="sequential", retries=5, timeout=0.05)
    slept = []

    def slow(x):
        time.sleep(0.2)
        slept.append(x)
        raise ValueError("always")

    pipeline = Pipeline([node(config=RuntimeConfig(executor="sequential"))(slow)], config=whole)
    with pytest.raises(ValueError, match="always"):
        pipeline.run({"x": 1})
    assert slept == [1]


def test_config_of_a_nested_pipeline_replaces_all_of_the_outer_ones():
    outer = RuntimeConfig(executor="sequential", retries=5)
    attempts = []

    def fails(x):
        attempts.append(x)
        raise ValueError("always")

    inner = Pipeline([node(fails)], config=RuntimeConfig(executor="sequential"))
    with pytest.raises(ValueError, match="always"):
        Pipeline([inner], config=outer).run({"x": 1})
    assert len(attempts) == 1


def test_config_at_the_call_rules_nested_pipelines_and_nodes_with_their_own():
    attempts = []

    def fails(x):
        attempts.append(x)
        raise ValueError("always")

    own = RuntimeConfig(executor="sequential", retries=5)
    inner = Pipeline([node(config=own)(fails)], config=own)
    for outer in (Pipeline([inner]), Pipeline([inner.as_node(map_over="x")])):
        attempts.clear()
        with pytest.raises(ValueError, match="always"):
            outer.run({"x": [1]}, config=RuntimeConfig(retries=1))
        assert len(attempts) == 2


def test_config_at_the_call_rules_maps_as_well():
    attempts = []

    def fails(x):
        attempts.append(x)
        raise ValueError("always")

    pipeline = Pipeline([node(config=RuntimeConfig(retries=5))(fails)])
    config = RuntimeConfig(executor="sequential", retries=1)
    pipeline.map({"x": [1, 2]}, map_over="x", config=config, on_error="return")
    assert attempts == [1, 1, 2, 2]
    list(pipeline.map_iter({"x": [3]}, map_over="x", config=config, on_error="return"))
    assert attempts == [1, 1, 2, 2, 3, 3]


def fails_always(attempts):
    attempts.append(1)
    raise ValueError(f"after {len(attempts)}")


def test_facts_of_a_node_win_over_every_config():
    config = RuntimeConfig(executor="sequential", retries=5)
    assert attempts_of(config) == 6
    assert attempts_of(config, retries=1) == 2
    assert attempts_of(config, retries=0) == 1
    own = node(config=config, retries=1)(fails_always)
    with pytest.raises(ValueError, match="after 2"):
        Pipeline([own]).run({"attempts": []})


def test_nested_pipeline_can_be_given_a_config_where_it_is_nested():
    attempts = []

    def fails(x):
        attempts.append(x)
        raise ValueError("always")

    inner = Pipeline([node(fails)], config=RuntimeConfig(retries=5))
    made = inner.as_node().with_config(RuntimeConfig(executor="sequential", retries=2))
    with pytest.raises(ValueError, match="always"):
        Pipeline([made]).run({"x": 1})
    assert len(attempts) == 3


# ---------------------------------------------------------------- where nodes run


def thread_name(x):
    return threading.current_thread().name


class Crowd:
    """A node's function that notes how many of its calls ran at once, and in which threads."""

    def __init__(self, meet=None):
        self.most = 0
        self.threads = set()
        self._running = 0
        self._lock = threading.Lock()
        self._barrier = threading.Barrier(meet) if meet else None

    def __call__(self, x):
        with self._lock:
            self._running += 1
            self.most = max(self.most, self._running)
            self.threads.add(threading.current_thread().name)
        if self._barrier:
            self._barrier.wait(SECONDS)
        else:
            time.sleep(0.01)
        with self._lock:
            self._running -= 1
        return x


ONE_THREAD = RuntimeConfig(executor=ThreadPoolExecutor(max_workers=1))


def test_sequential_runs_everything_in_the_callers_thread(sequential):
    inner = Pipeline([node(thread_name)])
    pipeline = Pipeline([node("a")(thread_name), node("b")(thread_name), inner])
    here = threading.current_thread().name
    assert set(pipeline.run({"x": 1}, config=sequential).values()) == {here}
    found = pipeline.map({"x": range(5)}, map_over="x", config=sequential)
    assert {name for outputs in found for name in outputs.values()} == {here}


def test_independent_nodes_meet_on_threads(threads):
    crowd = Crowd(meet=3)
    nodes = [node(f"y{n}")(crowd) for n in range(3)]
    Pipeline(nodes).run({"x": 1}, config=threads)
    assert crowd.most == 3


def test_sequential_node_of_a_threaded_pipeline_runs_one_at_a_time_in_the_callers_thread(
    sequential, threads
):
    crowd, others = Crowd(), Crowd(meet=2)
    nodes = [
        *(node(f"y{n}", config=sequential)(crowd) for n in range(4)),
        *(node(f"z{n}")(others) for n in range(2)),
    ]
    Pipeline(nodes, config=threads).run({"x": 1})
    assert (crowd.most, crowd.threads) == (1, {threading.current_thread().name})
    assert others.most == 2


def test_sequential_node_in_a_threaded_map_runs_one_at_a_time_in_the_callers_thread(
    sequential, threads
):
    crowd = Crowd()
    pipeline = Pipeline([node("y", config=sequential)(crowd), node("z")(lambda y: y)])
    found = pipeline.map({"x": range(12)}, map_over="x", config=None)
    assert [outputs["z"] for outputs in found] == list(range(12))
    assert (crowd.most, crowd.threads) == (1, {threading.current_thread().name})


def test_node_with_one_thread_of_its_own_runs_one_at_a_time_in_a_threaded_map(threads):
    crowd = Crowd()
    pipeline = Pipeline(
        [node("y", config=ONE_THREAD)(crowd), node("z")(lambda y: y)], config=threads
    )
    found = pipeline.map({"x": range(12)}, map_over="x")
    assert [outputs["z"] for outputs in found] == list(range(12))
    assert crowd.most == 1


def test_nodes_that_share_one_thread_of_their_own_run_one_at_a_time(threads):
    crowd = Crowd()
    nodes = [node(f"y{n}", config=ONE_THREAD)(crowd) for n in range(6)]
    Pipeline(nodes, config=threads).run({"x": 1})
    assert crowd.most == 1


def test_no_more_calls_than_workers_run_at_once_for_nodes_with_an_executor_of_their_own(threads):
    crowd = Crowd()
    own = RuntimeConfig(executor=ThreadPoolExecutor(max_workers=2))
    pipeline = Pipeline([node("y", config=own)(crowd)], config=threads)
    pipeline.map({"x": range(20)}, map_over="x")
    assert crowd.most <= 2


def test_node_with_threads_of_its_own_runs_on_its_workers_in_a_threaded_map(threads):
    crowd = Crowd()
    own = RuntimeConfig(executor=ThreadPoolExecutor(max_workers=2))
    pipeline = Pipeline([node("y", config=own)(crowd)], config=threads)
    pipeline.map({"x": range(8)}, map_over="x")
    assert len(crowd.threads) <= 2


def test_nested_map_with_threads_of_its_own_overlaps_in_a_sequential_pipeline(sequential, threads):
    crowd = Crowd(meet=4)
    inner = Pipeline([node("y")(crowd)], config=threads, name="inner")
    Pipeline([inner.as_node(map_over="x")], config=sequential).run({"x": range(4)})
    assert crowd.most == 4


def test_nested_pipeline_with_threads_of_its_own_overlaps_in_a_sequential_pipeline(
    sequential, threads
):
    crowd = Crowd(meet=2)
    inner = Pipeline([node("y")(crowd), node("z")(crowd)], config=threads, name="inner")
    Pipeline([inner], config=sequential).run({"x": 1})
    assert crowd.most == 2


@pytest.mark.parametrize("mapped", [False, True], ids=["once", "mapped"])
def test_sequential_nested_pipeline_runs_one_at_a_time_in_a_threaded_pipeline(
    mapped, sequential, threads
):
    crowd = Crowd()
    inner = Pipeline([node("y")(crowd), node("z")(crowd)], config=sequential, name="inner")
    outer = Pipeline([inner.as_node(map_over="x" if mapped else None)], config=threads)
    outer.run({"x": range(4)})
    assert crowd.most == 1


def test_config_at_the_call_decides_where_nodes_with_their_own_run(sequential, threads):
    here = threading.current_thread().name
    crowd = Crowd()
    inner = Pipeline([node("z")(crowd)], config=threads)
    pipeline = Pipeline([node("y", config=threads)(crowd), inner.as_node(map_over="x")])
    pipeline.run({"x": range(6)}, config=sequential)
    pipeline.map({"x": [[1, 2]] * 3}, map_over="x", config=sequential)
    assert (crowd.most, crowd.threads) == (1, {here})


# ---------------------------------------------------------------- use


def test_use_holds_inside_the_block_only():
    before = get_default_config()
    with RuntimeConfig.use(saying("use")) as config:
        assert config == saying("use")
        assert Pipeline([]).effective_config == saying("use")
    assert Pipeline([]).effective_config == before


def test_use_is_restored_after_an_exception():
    with pytest.raises(KeyError), RuntimeConfig.use(saying("use")):
        raise KeyError
    assert Pipeline([]).effective_config == get_default_config()


def test_inner_use_wins_and_gives_back_to_the_outer():
    with RuntimeConfig.use(saying("use")):
        with RuntimeConfig.use(saying("call")):
            assert Pipeline([]).effective_config == saying("call")
        with pytest.raises(KeyError), RuntimeConfig.use(saying("call")):
            raise KeyError
        assert Pipeline([]).effective_config == saying("use")


def test_use_refuses_what_is_no_config():
    for wrong in (None, "thread", {"executor": "thread"}):
        with pytest.raises(InputError, match="RuntimeConfig"), RuntimeConfig.use(wrong):
            pass
    assert Pipeline([]).effective_config == get_default_config()


def test_threads_have_a_use_of_their_own():
    barrier = threading.Barrier(4)

    def seen(number):
        with RuntimeConfig.use(RuntimeConfig(retries=number)):
            barrier.wait(SECONDS)
            found = Pipeline([]).effective_config.retries
            barrier.wait(SECONDS)
        return found, Pipeline([]).effective_config.retries

    with futures.ThreadPoolExecutor(4) as pool:
        assert list(pool.map(seen, range(1, 5))) == [(number, 0) for number in range(1, 5)]


def test_use_does_not_leak_into_other_threads_but_travels_with_a_context():
    with RuntimeConfig.use(saying("use")), futures.ThreadPoolExecutor(1) as pool:
        assert pool.submit(lambda: Pipeline([]).effective_config).result().retries == 0
        context = copy_context()
        found = pool.submit(context.run, lambda: Pipeline([]).effective_config).result()
        assert found == saying("use")


def test_use_is_seen_by_pipelines_that_nodes_call_on_every_worker(config):
    def inside(x):
        return Pipeline([]).effective_config

    pipeline = Pipeline([node("y")(inside), node("z", timeout=SECONDS)(inside)])
    with RuntimeConfig.use(saying("use")):
        assert set(pipeline.run({"x": 1}, config=config).values()) == {saying("use")}
        results = pipeline.map({"x": range(8)}, map_over="x", config=config)
        iterated = list(pipeline.map_iter({"x": range(8)}, map_over="x", config=config))
    for outputs in (*results, *iterated):
        assert set(outputs.values()) == {saying("use")}


def test_use_is_seen_by_async_nodes(config):
    async def inside(x):
        return Pipeline([]).effective_config

    with RuntimeConfig.use(saying("use")):
        assert Pipeline([node("y")(inside)]).run({"x": 1}, config=config)["y"] == saying("use")


def test_use_inside_a_node_ends_with_its_block(config):
    def inside(x):
        with RuntimeConfig.use(saying("use")):
            return Pipeline([]).effective_config

    def after(y):
        return y, Pipeline([]).effective_config

    pipeline = Pipeline([node("y")(inside), node("z")(after)])
    for outputs in pipeline.map({"x": range(6)}, map_over="x", config=config):
        assert outputs["z"] == (saying("use"), RuntimeConfig())


def test_map_iter_keeps_the_config_that_was_in_force_at_the_call():
    attempts = []

    def fails(x):
        attempts.append(x)
        raise ValueError("always")

    with RuntimeConfig.use(RuntimeConfig(executor="sequential", retries=2)):
        results = Pipeline([node(fails)]).map_iter({"x": [1]}, map_over="x", on_error="return")
    assert len(list(results)) == 1
    assert len(attempts) == 3


def test_nodes_of_map_iter_see_the_use_of_the_call_wherever_results_are_consumed(config):
    pipeline = Pipeline([node("y")(lambda x: Pipeline([]).effective_config)])
    with RuntimeConfig.use(saying("use")):
        results = pipeline.map_iter({"x": range(4)}, map_over="x", config=config)
    assert [outputs["y"] for outputs in results] == [saying("use")] * 4


# ---------------------------------------------------------------- the global default


def test_global_default_is_set_and_forgotten():
    set_default_config(saying("global"))
    assert get_default_config() == saying("global")
    set_default_config(None)
    assert get_default_config() == RuntimeConfig()


def test_global_default_is_seen_by_all_threads():
    set_default_config(saying("global"))
    with futures.ThreadPoolExecutor(1) as pool:
        assert pool.submit(get_default_config).result() == saying("global")


@pytest.mark.parametrize("wrong", ["thread", {"retries": 1}, 0, RuntimeConfig])
def test_global_default_refuses_what_is_no_config(wrong):
    set_default_config(saying("global"))
    with pytest.raises(InputError, match="RuntimeConfig"):
        set_default_config(wrong)
    assert get_default_config() == saying("global")


GOOD = """
retries = 2
timeout = 1.5

[executor]
kind = "thread"
max_workers = 3
"""


@pytest.fixture
def write(tmp_path):
    def write_file(text, name="hypernodes.toml"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write_file


def test_file_named_by_the_environment_is_the_default(write, monkeypatch):
    monkeypatch.setenv("HYPERNODES_CONFIG", str(write(GOOD)))
    expected = RuntimeConfig(executor=ThreadPoolExecutor(max_workers=3), retries=2, timeout=1.5)
    assert get_default_config() == expected
    assert Pipeline([]).effective_config == expected


def test_default_that_was_set_wins_over_the_file_until_forgotten(write, monkeypatch):
    monkeypatch.setenv("HYPERNODES_CONFIG", str(write(GOOD)))
    set_default_config(saying("global"))
    assert get_default_config() == saying("global")
    set_default_config(None)
    assert get_default_config().retries == 2


def test_empty_variable_names_no_file(monkeypatch):
    monkeypatch.setenv("HYPERNODES_CONFIG", "")
    assert get_default_config() == RuntimeConfig()


def test_missing_file_is_an_error_at_first_use_that_names_variable_and_file(monkeypatch, tmp_path):
    missing = str(tmp_path / "nowhere.toml")
    monkeypatch.setenv("HYPERNODES_CONFIG", missing)
    pipeline = Pipeline([node(thread_name)])
    for use in (get_default_config, lambda: pipeline.run({"x": 1})):
        with pytest.raises(FileNotFoundError, match=r"nowhere\.toml") as caught:
            use()
        assert "HYPERNODES_CONFIG" in " ".join(caught.value.__notes__)


@pytest.mark.parametrize(
    "text",
    ["retries = ", "retry = 2", "retries = -1", '[executor]\nkind = "tread"', "[[executor]]"],
)
def test_wrong_file_is_an_error_at_first_use_that_names_variable_and_file(write, monkeypatch, text):
    monkeypatch.setenv("HYPERNODES_CONFIG", str(write(text, "wrong.toml")))
    pipeline = Pipeline([node(thread_name)])
    for use in (get_default_config, lambda: pipeline.run({"x": 1})):
        with pytest.raises(InputError, match=r"wrong\.toml") as caught:
            use()
        assert "HYPERNODES_CONFIG" in " ".join(caught.value.__notes__)


def test_missing_file_does_not_matter_where_a_config_is_given(monkeypatch, sequential):
    monkeypatch.setenv("HYPERNODES_CONFIG", "nowhere.toml")
    assert Pipeline([node("y")(lambda x: x)]).run({"x": 1}, config=sequential) == {"y": 1}
    assert Pipeline([node("y")(lambda x: x)], config=sequential).run({"x": 1}) == {"y": 1}


DEFAULT_OF_A_PROCESS = """
import hypernodes
from hypernodes import Pipeline, node
print("imported")
try:
    print(Pipeline([node("y")(lambda x: x)]).run({"x": 1}), hypernodes.get_default_config().retries)
except (OSError, hypernodes.InputError) as error:
    print(type(error).__name__)
"""


def test_process_takes_its_default_from_the_environment(run_script, write, tmp_path):
    def lines(path):
        env = {"HYPERNODES_CONFIG": str(path)}
        return run_script(DEFAULT_OF_A_PROCESS, env=env).stdout.splitlines()

    assert lines(write(GOOD)) == ["imported", "{'y': 1} 2"]
    assert lines(tmp_path / "nowhere.toml") == ["imported", "FileNotFoundError"]
    assert lines(write("retries = 'many'", "wrong.toml")) == ["imported", "InputError"]


# ---------------------------------------------------------------- files


def test_from_file_reads_every_field(write):
    config = RuntimeConfig.from_file(
        write("""
backend = "local"
executor = "sequential"
timeout = 3
callback_errors = "warn"
callbacks = []

[retries]
max_retries = 2
initial_delay = 0.5
retry_on = ["ConnectionError", "builtins:KeyError"]
""")
    )
    assert config == RuntimeConfig(
        executor=SequentialExecutor(),
        timeout=3.0,
        callback_errors="warn",
        retries=RetryPolicy(max_retries=2, initial_delay=0.5, retry_on=(ConnectionError, KeyError)),
    )


def test_from_file_takes_an_empty_file_and_a_string_path(write):
    assert RuntimeConfig.from_file(str(write(""))) == RuntimeConfig()


def test_from_file_without_a_file_is_not_found(tmp_path):
    with pytest.raises(FileNotFoundError):
        RuntimeConfig.from_file(tmp_path / "nowhere.toml")


def test_from_file_with_bytes_that_are_no_text_is_an_input_error(tmp_path):
    path = tmp_path / "wrong.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"wrong\.toml"):
        RuntimeConfig.from_file(path)


# ---------------------------------------------------------------- fields


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("sequential", SequentialExecutor()),
        ("thread", ThreadPoolExecutor()),
        ({"kind": "thread", "max_workers": 7}, ThreadPoolExecutor(max_workers=7)),
        ({"kind": "sequential"}, SequentialExecutor()),
        (ThreadPoolExecutor(max_workers=2), ThreadPoolExecutor(max_workers=2)),
        (
            {"kind": f"{__name__}:CountingExecutor", "label": "mine", "levels": [1, 2]},
            CountingExecutor(label="mine", levels=(1, 2)),
        ),
        (f"{__name__}:CountingExecutor", CountingExecutor()),
    ],
)
def test_executor_takes_objects_short_names_and_dicts(given, expected):
    config = RuntimeConfig(executor=given)
    assert config.executor == expected
    assert type(config.executor) is type(expected)


def test_executor_of_somebody_else_runs():
    config = RuntimeConfig(executor={"kind": f"{__name__}:CountingExecutor"})
    pipeline = Pipeline([node("y")(lambda x: x + 1)])
    assert pipeline.run({"x": 1}, config=config) == {"y": 2}
    assert pipeline.map({"x": [1, 2]}, map_over="x", config=config) == [{"y": 2}, {"y": 3}]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("local", LocalBackend()),
        ({"kind": "local"}, LocalBackend()),
        ({"kind": f"{__name__}:OtherBackend", "place": "there"}, OtherBackend(place="there")),
    ],
)
def test_backend_takes_objects_short_names_and_dicts(given, expected):
    assert RuntimeConfig(backend=given).backend == expected


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"executor": "tread"}, ["tread", "thread"]),
        ({"executor": "zzz"}, ["zzz", "sequential", "thread"]),
        ({"executor": {"kind": "tread"}}, ["tread", "thread"]),
        ({"executor": {"max_workers": 2}}, ["kind"]),
        ({"executor": {"kind": "thread", "max_worker": 2}}, ["max_worker"]),
        ({"executor": {"kind": "thread", "max_workers": 0}}, ["max_workers"]),
        ({"executor": {"kind": "thread", "max_workers": "4"}}, ["max_workers"]),
        ({"executor": {"kind": 3}}, ["kind"]),
        ({"executor": ThreadPoolExecutor}, ["ThreadPoolExecutor(...)"]),
        ({"executor": None}, ["executor"]),
        ({"executor": 4}, ["executor"]),
        ({"executor": LocalBackend()}, ["executor"]),
        ({"executor": futures.ThreadPoolExecutor(1)}, ["executor"]),
        ({"executor": "os.path:join"}, ["os.path:join", "Executor"]),
        ({"executor": "no_such_module:Thing"}, ["no_such_module"]),
        ({"executor": f"{__name__}:Missing"}, ["Missing"]),
        ({"executor": f"{__name__}:"}, [f"{__name__}:"]),
        ({"executor": ":CountingExecutor"}, [":CountingExecutor"]),
        ({"executor": ".relative:Thing"}, [".relative:Thing"]),
        ({"executor": "hypernodes:Executor"}, ["Executor"]),
        ({"backend": "locals"}, ["locals", "local"]),
        ({"backend": "thread"}, ["thread", "local"]),
        ({"backend": SequentialExecutor()}, ["backend"]),
        ({"retries": -1}, ["retries"]),
        ({"retries": 1.5}, ["retries"]),
        ({"retries": True}, ["retries"]),
        ({"retries": "3"}, ["retries"]),
        ({"retries": None}, ["retries"]),
        ({"retries": {"max_retry": 1}}, ["max_retry"]),
        ({"timeout": 0}, ["timeout"]),
        ({"timeout": -1}, ["timeout"]),
        ({"timeout": float("inf")}, ["timeout"]),
        ({"timeout": float("nan")}, ["timeout"]),
        ({"timeout": "1s"}, ["timeout"]),
        ({"timeout": True}, ["timeout"]),
        ({"callback_errors": "ignore"}, ["callback_errors"]),
        ({"retry": 3}, ["retry"]),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_wrong_fields_are_refused_by_name(fields, words):
    with pytest.raises(ValidationError) as caught:
        RuntimeConfig(**fields)
    for word in words:
        assert word in str(caught.value)


def test_positional_fields_are_refused():
    with pytest.raises(TypeError, match=r"by name \(backend, executor"):
        RuntimeConfig("thread")


@pytest.mark.parametrize("when", ["defined", "used"])
def test_signatures_show_the_fields(when):
    class Timer(Executor):
        seconds: int = 3
        name: str

        def run_pipeline(self, pipeline, inputs, ctx, output_name=None): ...

        def map_items(self, pipeline, items, inputs, ctx, output_name=None): ...

    class Named(Timer):
        def __init__(self, name):
            super().__init__(name=name)

    class Twice(Named):
        times: int = 2

    if when == "used":
        assert (Timer(1, "a"), Twice("b").name) == (Timer(seconds=1, name="a"), "b")
        RuntimeConfig()
    assert str(inspect.signature(RayExecutor)).startswith(
        "(ray_address=None, num_cpus=None, num_gpus=None, runtime_env=None, chunksize=None)"
    )
    assert str(inspect.signature(RemoteBackend)).startswith("(kind, address, security=None)")
    assert str(inspect.signature(Timer)).startswith("(*, seconds=3, name)")
    assert str(inspect.signature(Twice)).startswith("(name)")
    shown = inspect.signature(RuntimeConfig).parameters
    assert list(shown) == list(RuntimeConfig.model_fields)
    assert {each.kind for each in shown.values()} == {inspect.Parameter.KEYWORD_ONLY}
    assert (shown["retries"].default, shown["backend"].default) == (0, ...)


def test_wrong_fields_are_value_errors():
    assert issubclass(ValidationError, ValueError)


# ---------------------------------------------------------------- frozen, equal, hashable


def test_config_cannot_be_changed():
    config = RuntimeConfig(retries=RetryPolicy())
    for part, name in (
        (config, "retries"),
        (config, "new_one"),
        (config.executor, "max_workers"),
        (config.executor, "new_one"),
        (config.retries, "max_retries"),
        (config.backend, "new_one"),
    ):
        with pytest.raises((ValidationError, AttributeError, TypeError)):
            setattr(part, name, 1)
        with pytest.raises((ValidationError, AttributeError, TypeError)):
            delattr(part, name)


def some_config(**changes):
    fields = {
        "executor": ThreadPoolExecutor(max_workers=2),
        "retries": RetryPolicy(max_retries=2, retry_on=(KeyError,)),
        "timeout": 2.5,
    }
    return RuntimeConfig(**fields | changes)


def test_configs_are_equal_by_value_and_hash_alike():
    assert some_config() == some_config()
    assert hash(some_config()) == hash(some_config())
    assert len({some_config(), some_config(), RuntimeConfig(), RuntimeConfig()}) == 2
    assert RuntimeConfig(timeout=1) == RuntimeConfig(timeout=1.0)
    assert hash(RuntimeConfig(timeout=1)) == hash(RuntimeConfig(timeout=1.0))


@pytest.mark.parametrize(
    "change",
    [
        {"executor": "sequential"},
        {"executor": ThreadPoolExecutor(max_workers=3)},
        {"backend": OtherBackend()},
        {"retries": 2},
        {"retries": RetryPolicy(max_retries=2)},
        {"timeout": None},
        {"callback_errors": "raise"},
    ],
)
def test_configs_that_differ_in_one_field_are_unequal(change):
    assert some_config() != some_config(**change)
    assert some_config() != "config"


def test_executors_of_different_kinds_are_unequal():
    assert SequentialExecutor() != CountingExecutor()
    assert ThreadPoolExecutor() == ThreadPoolExecutor(max_workers=4)
    assert hash(ThreadPoolExecutor()) == hash(ThreadPoolExecutor(max_workers=4))
    assert len({SequentialExecutor(), CountingExecutor(), SequentialExecutor()}) == 2


def test_replace_changes_a_copy_and_validates():
    config = some_config()
    changed = config.replace(retries=1, executor="sequential")
    assert changed == some_config(retries=1, executor=SequentialExecutor())
    assert config == some_config()
    assert config.replace() == config
    for wrong in ({"retries": -1}, {"retry": 1}, {"executor": "tread"}):
        with pytest.raises(ValidationError):
            config.replace(**wrong)


def test_copies_of_a_config_that_was_hashed_hash_like_their_equals():
    config = RuntimeConfig()
    hash(config)
    copied = config.model_copy(update={"retries": 5})
    assert copied == RuntimeConfig(retries=5)
    assert hash(copied) == hash(RuntimeConfig(retries=5))


# ---------------------------------------------------------------- pickling, JSON


CONFIGS = {
    "default": RuntimeConfig(),
    "sequential": RuntimeConfig(executor="sequential", retries=3, timeout=1.5),
    "policy": some_config(),
    "somebody else's": RuntimeConfig(
        executor=CountingExecutor(label="mine", levels=(1, 2)), backend=OtherBackend(place="x")
    ),
    "errors": RuntimeConfig(
        callback_errors="raise",
        retries=RetryPolicy(
            max_retries=1,
            initial_delay=0.5,
            multiplier=3.0,
            max_delay=4.0,
            jitter=0.25,
            retry_on=(ConnectionError, json.JSONDecodeError, InputError),
        ),
    ),
}


@pytest.fixture(params=CONFIGS.values(), ids=CONFIGS.keys())
def any_config(request):
    return request.param


@pytest.mark.parametrize("hashed", [False, True])
def test_config_travels_by_plain_pickle(any_config, hashed):
    if hashed:
        hash(any_config)
    for protocol in range(3, pickle.HIGHEST_PROTOCOL + 1):
        back = pickle.loads(pickle.dumps(any_config, protocol))
        assert back == any_config
        assert hash(back) == hash(any_config)
        assert type(back.executor) is type(any_config.executor)


def test_config_has_the_same_hash_value_in_no_other_process_but_is_equal_there(
    run_script, tmp_path
):
    path = tmp_path / "config.pickle"
    run_script(
        "import pickle, pathlib\n"
        "from hypernodes import RuntimeConfig\n"
        "config = RuntimeConfig(executor='sequential', retries=1, callback_errors='warn')\n"
        "hash(config)\n"
        f"pathlib.Path({str(path)!r}).write_bytes(pickle.dumps(config))\n",
        env={"PYTHONHASHSEED": "1"},
    )
    here = RuntimeConfig(executor="sequential", retries=1, callback_errors="warn")
    there = pickle.loads(path.read_bytes())
    assert there == here
    assert len({here, there}) == 1


def test_config_round_trips_through_json(any_config):
    hash(any_config)
    dumped = any_config.model_dump(mode="json")
    assert RuntimeConfig(**json.loads(json.dumps(dumped))) == any_config
    assert RuntimeConfig.model_validate_json(any_config.model_dump_json()) == any_config


def test_config_round_trips_through_a_plain_dump(any_config):
    assert RuntimeConfig(**any_config.model_dump()) == any_config


def test_json_of_a_config_uses_the_short_names():
    dumped = RuntimeConfig(executor="sequential").model_dump(mode="json")
    assert dumped["executor"] == {"kind": "sequential"}
    assert dumped["backend"] == {"kind": "local"}
    dumped = RuntimeConfig(executor=CountingExecutor()).model_dump(mode="json")
    assert dumped["executor"]["kind"] == f"{__name__}:CountingExecutor"


def test_repr_of_a_config_names_its_parts():
    text = repr(some_config())
    hash(some_config())
    for word in ("ThreadPoolExecutor(max_workers=2)", "max_retries=2", "2.5"):
        assert word in text


def test_running_under_a_config_does_not_change_what_it_shows(sequential):
    before = (repr(sequential), sequential.model_dump(mode="json"), pickle.dumps(sequential))
    Pipeline([node("y")(lambda x: x)]).run({"x": 1}, config=sequential)
    after = (repr(sequential), sequential.model_dump(mode="json"), pickle.dumps(sequential))
    assert after == before


# ---------------------------------------------------------------- RetryPolicy


def test_retry_policy_has_its_fields():
    assert list(RetryPolicy.model_fields) == [
        "max_retries",
        "initial_delay",
        "multiplier",
        "max_delay",
        "jitter",
        "retry_on",
    ]
    assert RetryPolicy().retry_on == (Exception,)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (KeyError, (KeyError,)),
        ((KeyError, OSError), (KeyError, OSError)),
        ([KeyError], (KeyError,)),
        ("KeyError", (KeyError,)),
        (["ConnectionError", "json:JSONDecodeError"], (ConnectionError, json.JSONDecodeError)),
    ],
)
def test_retry_on_takes_types_and_names(given, expected):
    assert RetryPolicy(retry_on=given).retry_on == expected


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_retries", -1),
        ("max_retries", 1.5),
        ("max_retries", True),
        ("initial_delay", -0.1),
        ("initial_delay", float("inf")),
        ("multiplier", 0.5),
        ("multiplier", -1),
        ("max_delay", -1),
        ("jitter", -0.1),
        ("jitter", float("nan")),
        ("jitter", "1"),
        ("retry_on", "NoSuchError"),
        ("retry_on", "no_such_module:Error"),
        ("retry_on", (BaseException,)),
        ("retry_on", KeyboardInterrupt),
        ("retry_on", (SystemExit, KeyError)),
        ("retry_on", int),
        ("retry_on", 3),
        ("retry_on", ("print",)),
        ("attempts", 3),
    ],
)
def test_wrong_fields_of_a_retry_policy_are_refused_by_name(field, value):
    with pytest.raises(ValidationError, match=field):
        RetryPolicy(**{field: value})


def test_retry_policy_round_trips_through_json_and_pickle():
    policy = RetryPolicy(max_retries=7, jitter=0.5, retry_on=(KeyError, InputError))
    assert RetryPolicy(**json.loads(policy.model_dump_json())) == policy
    assert pickle.loads(pickle.dumps(policy)) == policy
    assert hash(RetryPolicy(**policy.model_dump(mode="json"))) == hash(policy)


# ---------------------------------------------------------------- contracts


def test_contracts_cannot_be_instantiated():
    for contract in (Executor, Backend):
        with pytest.raises(TypeError, match="abstract"):
            contract()


def test_executors_refuse_unknown_fields_and_wrong_values():
    with pytest.raises(ValidationError, match="max_worker"):
        ThreadPoolExecutor(max_worker=3)
    for wrong in (0, -1, 1.5, "4", True, None):
        with pytest.raises(ValidationError, match="max_workers"):
            ThreadPoolExecutor(max_workers=wrong)
    with pytest.raises(ValidationError):
        SequentialExecutor(max_workers=1)


def test_executor_is_closed_and_opens_again():
    executor = ThreadPoolExecutor(max_workers=3)
    config = RuntimeConfig(executor=executor)
    pipeline = Pipeline([node("y")(lambda x: x)])
    for _ in range(2):
        with executor as entered:
            assert entered is executor
            found = pipeline.map({"x": range(10)}, map_over="x", config=config)
        assert [outputs["y"] for outputs in found] == list(range(10))
        executor.close()


def test_equal_executors_share_their_threads():
    pipeline = Pipeline([node("y")(lambda x: time.sleep(0.002) or threading.get_ident())])
    idents = set()
    for _ in range(5):
        config = RuntimeConfig(executor=ThreadPoolExecutor(max_workers=2))
        found = pipeline.map({"x": range(6)}, map_over="x", config=config)
        idents |= {outputs["y"] for outputs in found}
    assert len(idents - {threading.get_ident()}) <= 2


def test_module_is_importable_under_the_name_that_the_kinds_use():
    assert sys.modules[__name__].CountingExecutor is CountingExecutor


def test_misspelt_field_comes_with_the_nearest():
    with pytest.raises(ValidationError, match="did you mean 'retries'"):
        RuntimeConfig(retry=2)


@pytest.mark.parametrize(
    "address", ["tcp://host:8786", "tcp+tls://host:1", "127.0.0.1:8786", "[::1]:8786", "host:1/"]
)
@pytest.mark.parametrize(
    ("role", "example"), [("executor", "DaskExecutor"), ("backend", "RemoteBackend")]
)
def test_an_address_given_for_a_name_is_told_where_it_belongs(role, example, address):
    told = f"'{re.escape(address)}' is an address and no {role}: .*{example}"
    with pytest.raises(ValidationError, match=told):
        RuntimeConfig(**{role: address})


@pytest.mark.parametrize("wrong", ["2", -1, {"max_retries": -1}, {"retry_on": ["ConectionError"]}])
def test_wrong_retries_are_told_of_once(wrong):
    with pytest.raises(ValidationError) as caught:
        RuntimeConfig(retries=wrong)
    assert caught.value.error_count() == 1


def test_executors_backends_and_configs_print_as_what_they_are():
    config = RuntimeConfig(executor="sequential")
    assert str(config.executor) == "SequentialExecutor()"
    assert str(config.backend) == "LocalBackend()"
    assert str(config).startswith("RuntimeConfig(backend=LocalBackend()")


@pytest.mark.parametrize(
    ("in_order", "by_name"),
    [
        (lambda: ThreadPoolExecutor(8), lambda: ThreadPoolExecutor(max_workers=8)),
        (lambda: RetryPolicy(2, 0.5), lambda: RetryPolicy(max_retries=2, initial_delay=0.5)),
        (lambda: CacheSpec("memory"), lambda: CacheSpec(kind="memory")),
        (
            lambda: CompositeExecutor("process", "thread"),
            lambda: CompositeExecutor(map_executor="process", node_executor="thread"),
        ),
    ],
)
def test_descriptions_take_their_fields_in_order_too(in_order, by_name):
    assert in_order() == by_name()


def test_too_many_values_and_values_given_twice_are_refused():
    with pytest.raises(TypeError, match="at most 1 values in order, not 2"):
        ThreadPoolExecutor(1, 2)
    with pytest.raises(TypeError, match="'max_workers' twice"):
        ThreadPoolExecutor(1, max_workers=2)


@pytest.mark.parametrize(
    "build",
    [
        lambda: ThreadPoolExecutor(max_worker=8),
        lambda: RuntimeConfig(executor={"kind": "thread", "max_worker": 8}),
    ],
)
def test_a_misspelt_option_of_an_executor_comes_with_a_suggestion(build):
    with pytest.raises(ValidationError, match="did you mean 'max_workers'"):
        build()
