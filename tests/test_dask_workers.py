"""Dask workers: values that stay there, code that is not the driver's, caches, several threads."""

import gc
import importlib
import os
import sys
import threading
import time
import warnings
import weakref
from typing import ClassVar

import pytest

from hypernodes import (
    CacheSpec,
    CacheWarning,
    DaskExecutor,
    Pipeline,
    RetryPolicy,
    RuntimeConfig,
    SerializationError,
    node,
)
from hypernodes._engine.workers import REGISTRY
from remote_dask import wait_until

distributed = pytest.importorskip("distributed")

BIG = 1 << 20
LIMIT = 120


@pytest.fixture(scope="module")
def executor():
    with DaskExecutor(num_workers=2) as opened:
        yield opened


@pytest.fixture
def config(executor):
    return RuntimeConfig(executor=executor)


@pytest.fixture(scope="module")
def wide():
    """One worker with three threads, that is not ours."""
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=3, processes=False, dashboard_address=":0"
    ) as cluster:
        yield cluster.scheduler_address


def test_a_value_that_is_lost_with_its_worker_is_made_again(config, tmp_path):
    def make(x):
        with (tmp_path / "made").open("a") as file:
            file.write("+")
        return bytes([x]) * BIG

    def use(big):
        if not (tmp_path / "died").exists():
            (tmp_path / "died").touch()
            os._exit(3)
        return big[0], len(big)

    nodes = [node("big")(make), node("other")(lambda x: x), node("end")(use)]
    nodes.append(node("both")(lambda big, other: len(big) + other))
    found = Pipeline(nodes).run({"x": 5}, output_name=["end", "both"], config=config)
    assert found == {"end": (5, BIG), "both": BIG + 5}
    assert (tmp_path / "made").read_text() == "++"


@pytest.mark.parametrize("count", [1, 3])
def test_a_worker_lets_go_of_what_maps_have_shared(config, tmp_path, count):
    class Model:
        def __reduce__(self):
            return built, ()

    def built():
        model = Model()
        path = tmp_path / f"{os.getpid()}-{id(model)}-{time.monotonic_ns()}"
        path.touch()
        weakref.finalize(model, path.unlink)
        (tmp_path / "built").touch()
        return model

    pipeline = Pipeline([node("y")(lambda x, model: x)])
    for _ in range(count):
        pipeline.map({"x": range(10), "model": Model()}, map_over="x", config=config)
    wait_until(lambda: [path.name for path in tmp_path.iterdir()] == ["built"])


def test_a_value_that_many_need_and_nobody_asks_for_stays_where_it_was_made(config, executor):
    nodes = [node("big")(lambda x: bytes(x + 0)), node("pid")(lambda big: (len(big), os.getpid()))]
    nodes.append(node("size")(len).rename(inputs={"obj": "big"}))
    found = Pipeline(nodes).run({"x": 8 * BIG}, output_name=["pid", "size"], config=config)
    assert found["pid"][0] == found["size"] == 8 * BIG
    assert found["pid"][1] != os.getpid()
    pool = REGISTRY._open[executor]
    wait_until(lambda: gc.collect() >= 0 and not pool._kept)  # it is let go


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module of the user's, in a file: returns what writes and loads it."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    name = f"users_code_{tmp_path.name.replace('-', '_')}"

    def load(source):
        (tmp_path / f"{name}.py").write_text(source, encoding="utf-8")
        importlib.invalidate_caches()
        there = sys.modules.get(name)
        return importlib.import_module(name) if there is None else importlib.reload(there)

    yield load
    sys.modules.pop(name, None)


@pytest.mark.parametrize("mapped", [False, True])
def test_after_a_reload_workers_of_our_own_run_the_new_code(module, executor, tmp_path, mapped):
    cache = CacheSpec(kind="disk", path=tmp_path / "kept")
    config = RuntimeConfig(executor=executor, cache=cache)
    sequential = RuntimeConfig(executor="sequential", cache=cache)

    def found(function, config):
        pipeline = Pipeline([node("y")(function)])
        if mapped:
            return [r["y"] for r in pipeline.map({"x": range(9)}, map_over="x", config=config)]
        return pipeline.run({"x": 1}, config=config)["y"]

    for added in (10 + mapped, 20 + mapped):
        function = module(f"def f(x):\n    return x + {added}\n").f
        expected = [x + added for x in range(9)] if mapped else 1 + added
        assert found(function, config) == expected
        assert found(function, sequential) == expected


def test_a_module_that_cannot_be_imported_in_workers_is_named(module, config):
    source = f"import os\nkey = {{{os.getpid()}: 1}}[os.getpid()]\ndef f(x):\n    return x\n"
    there = module(source)
    with pytest.raises(SerializationError, match=f"node 'f'.*module '{there.__name__}'") as caught:
        Pipeline([node("y")(there.f)]).run({"x": 1}, config=config)
    assert caught.value.node == "f"
    assert isinstance(caught.value.__cause__, KeyError)


def test_what_the_library_tells_a_worker_is_no_argument_of_programs(config):
    found = Pipeline([node("y")(lambda x: sys.argv[1:])]).run({"x": 1}, config=config)
    assert found == {"y": []}


def test_what_workers_make_with_other_code_is_not_kept(module, config, tmp_path, far_address):
    cache = CacheSpec(kind="disk", path=tmp_path / "kept")
    slowly = "import time\ndef f(x):\n    time.sleep(0.02)\n    return x + {}\n"
    first = Pipeline([node("y")(module(slowly.format(30)).f), node("pid")(lambda y: os.getpid())])

    def all_join_in():
        found = first.map({"x": range(30)}, map_over="x", config=config)
        return len({each["pid"] for each in found}) == 2

    with warnings.catch_warnings():
        warnings.simplefilter("always")  # in the workers, too, from now on
        wait_until(all_join_in)  # and have imported it
    second = Pipeline([node("y")(module(slowly.format(40)).f)])
    with DaskExecutor(scheduler_address=far_address) as far:
        with_cache = RuntimeConfig(executor=far, cache=cache)
        with pytest.warns(
            CacheWarning, match=r"until they are started again .*client\.restart"
        ) as caught:
            second.map({"x": range(1, 30)}, map_over="x", config=with_cache)
    assert [each.category for each in caught].count(CacheWarning) == 1
    found = second.run({"x": 1}, config=RuntimeConfig(executor="sequential", cache=cache))
    assert found == {"y": 41}


@pytest.fixture(scope="module")
def far_address(executor):
    """Where the cluster of the executor is, for those who do not know that it is ours."""
    Pipeline([node("y")(lambda x: x)]).run({"x": 1}, config=RuntimeConfig(executor=executor))
    return REGISTRY._open[executor]._cluster._client.scheduler.address


def test_a_warning_of_a_cache_in_workers_is_one_in_the_driver(config, tmp_path, capfd):
    config = config.replace(cache=CacheSpec(kind="disk", path=tmp_path / "kept"))

    def unpicklable_inside(x):
        return threading.Lock()

    nodes = [node("tool")(unpicklable_inside), node("y")(lambda x, tool: x)]
    with pytest.warns(CacheWarning, match="unpicklable_inside") as caught:
        found = Pipeline(nodes).map({"x": range(40)}, map_over="x", output_name="y", config=config)
    assert found == [{"y": x} for x in range(40)]
    assert [each.category for each in caught].count(CacheWarning) == 1
    assert "CacheWarning" not in capfd.readouterr().err


def test_executors_that_share_a_cluster_do_not_mix_up_their_work(far_address):
    def work(x):
        return -x

    pipeline = Pipeline([node("y")(work)])
    for size in (1, 3):
        far = DaskExecutor(scheduler_address=far_address, chunksize=size)
        with far:
            config = RuntimeConfig(executor=far)
            items = range(size * 10, size * 10 + 9)
            found = pipeline.map({"x": items}, map_over="x", config=config)
            assert found == [{"y": -x} for x in items]


def test_workers_with_several_threads_run_as_many_chunks_at_once(wide):
    barrier = _Barrier
    with DaskExecutor(scheduler_address=wide, chunksize=1) as far:
        config = RuntimeConfig(executor=far)
        pipeline = Pipeline([node("y", retries=2)(barrier.work)])
        found = pipeline.map({"x": range(9)}, map_over="x", config=config)
    assert found == [{"y": x} for x in range(9)]


class _Barrier:
    """Lets three go on together; each comes once more, after an error."""

    together = threading.Barrier(3)
    lock = threading.Lock()
    seen: ClassVar[set[int]] = set()

    @classmethod
    def work(cls, x):
        cls.together.wait(LIMIT)
        with cls.lock:
            is_new = x not in cls.seen
            cls.seen.add(x)
        if is_new:
            raise ValueError(x)
        return x


def test_a_retry_policy_may_name_what_only_the_program_knows(config, tmp_path):
    class OwnError(Exception):
        pass

    def failing_once(x):
        if x == 3 and not (tmp_path / "failed").exists():
            (tmp_path / "failed").touch()
            raise OwnError
        return x

    policy = RetryPolicy(max_retries=1, initial_delay=0, retry_on=(OwnError,))
    pipeline = Pipeline([node("y", retries=policy)(failing_once)])
    found = pipeline.map({"x": range(6)}, map_over="x", config=config)
    assert found == [{"y": x} for x in range(6)]
