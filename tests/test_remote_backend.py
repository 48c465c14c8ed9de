"""Pipelines on a cluster that is somewhere else: what goes there, what comes back, what is lost."""

import asyncio
import importlib
import os
import pickle
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent import futures

import pytest
from pydantic import ValidationError

from checker import Checker
from hypernodes import (
    AsyncExecutor,
    CacheSpec,
    Callback,
    CompositeExecutor,
    DaskExecutor,
    DiskCache,
    Failure,
    HyperNodesError,
    InputError,
    MemoryCache,
    Pipeline,
    ProcessPoolExecutor,
    ResourceError,
    RuntimeConfig,
    SequentialExecutor,
    SerializationError,
    ThreadPoolExecutor,
    WorkerCrashedError,
    node,
    report,
)
from hypernodes.backends import LocalBackend, RemoteBackend
from hypernodes.backends.remote import warn_of_threads
from hypernodes.testing import ExecutorConformance
from remote_dask import RemoteDask, wait_until

distributed = pytest.importorskip("distributed")

EXECUTORS = {
    "sequential": SequentialExecutor(),
    "async": AsyncExecutor(max_concurrency=20),
    "thread": ThreadPoolExecutor(max_workers=3),
    "process": ProcessPoolExecutor(max_workers=2),
    "composite": CompositeExecutor(
        map_executor=ThreadPoolExecutor(max_workers=2), node_executor=AsyncExecutor()
    ),
}


@pytest.fixture(scope="module")
def backend(remote):
    with RemoteBackend(kind="dask", address=remote.address) as backend:
        yield backend


@pytest.fixture
def config(backend):
    return RuntimeConfig(backend=backend, executor=ThreadPoolExecutor(max_workers=3))


@pytest.fixture(params=EXECUTORS.values(), ids=EXECUTORS.keys())
def each(request, backend):
    return RuntimeConfig(backend=backend, executor=request.param)


@pytest.fixture
def cluster(tmp_path):
    """A cluster of the test's own, which it may do anything to; without workers."""
    remote = RemoteDask(tmp_path)
    yield remote
    remote.end()


def single(function, name="y", **options):
    return Pipeline([node(name, **options)(function)], name="single")


def pid_of(x):
    return os.getpid()


def pids_of(remote):
    return {process.pid for process in remote.workers.values()}


class TestConformance(ExecutorConformance):
    limit = 120.0  # programs of their own import, connect and ask for versions

    @pytest.fixture
    def executor(self):
        return ThreadPoolExecutor(max_workers=3)

    @pytest.fixture
    def config(self, backend, executor):
        return RuntimeConfig(backend=backend, executor=executor)

    def test_a_node_with_another_executor_runs_there_and_in_the_driver(self, config):
        # Of a pipeline that is sent whole, the driver is the worker.
        other = RuntimeConfig(executor=SequentialExecutor())
        pipeline = Pipeline(
            [node("a")(pid_of), node("b", config=other)(lambda a: (a, os.getpid()))]
        )
        found = pipeline.run({"x": 1})
        assert found["b"] == (os.getpid(), os.getpid())
        found = pipeline.with_config(config).run({"x": 1})
        assert found["a"] != os.getpid()
        assert found["b"] == (found["a"], found["a"])


# ---------------------------------------------------------------- what it is


def test_it_is_a_value():
    one = RemoteBackend("dask", "tls://host:8786", {"tls_ca_file": "ca.pem"})
    assert one == RemoteBackend(
        kind="dask", address="tls://host:8786", security={"tls_ca_file": "ca.pem"}
    )
    assert pickle.loads(pickle.dumps(one)) == one
    assert hash(pickle.loads(pickle.dumps(one))) == hash(one)
    assert one != RemoteBackend("dask", "tls://host:8786")


def test_it_has_a_table():
    table = {"kind": "dask", "address": "tcp://host:8786"}
    config = RuntimeConfig(backend=table)
    assert config.backend == RemoteBackend("dask", "tcp://host:8786")
    assert RuntimeConfig(**config.model_dump(mode="json")) == config


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "dusk", "address": "tcp://host:8786"}, "'dask'"),
        ({"kind": "dask"}, "address"),
        ({"kind": "dask", "address": "host"}, "a host and a port"),
        ({"kind": "dask", "address": "tcp://host:8786", "tls": 1}, "has no 'tls'"),
        (
            {"kind": "ray", "address": "auto", "security": {"tls_ca_file": "a"}},
            "is for kind='dask'",
        ),
        (
            {
                "kind": "dask",
                "address": "tcp://host:8786",
                "security": {"require_encryption": True},
            },
            "begins with 'tls://'",
        ),
    ],
)
def test_fields_are_checked(fields, message):
    with pytest.raises(ValidationError, match=message):
        RemoteBackend(**fields)


def test_spark_is_refused_and_what_is_possible_named():
    fields = {"kind": "spark", "address": "local[2]"}
    with pytest.raises(HyperNodesError, match="kind='dask' and kind='ray'"):
        RemoteBackend(**fields)
    with pytest.raises(HyperNodesError, match="kind='dask' and kind='ray'"):
        RuntimeConfig(backend=fields)


# ---------------------------------------------------------------- where things run


def test_a_run_is_on_one_worker_and_in_one_piece(remote, each):
    nodes = [node(name)(lambda x, name=name: os.getpid()) for name in "abcd"]
    found = Pipeline(nodes, config=each).run({"x": 1})
    if isinstance(each.executor, ProcessPoolExecutor):
        assert os.getpid() not in found.values()
    else:
        (pid,) = {*found.values()}
        assert pid in pids_of(remote)


def test_a_map_is_split_over_the_workers(remote, backend, tmp_path):
    gate = tmp_path / "gate"

    def meet(x):
        (tmp_path / f"pid{os.getpid()}").touch()
        wait_until(lambda: len(list(tmp_path.glob("pid*"))) == 2)
        return os.getpid()

    config = RuntimeConfig(backend=backend, executor="sequential")
    found = single(meet).map({"x": range(20)}, map_over="x", config=config)
    assert {each["y"] for each in found} == pids_of(remote)
    assert not gate.exists()


def test_the_executor_overlaps_the_items_of_a_share(backend, tmp_path):
    async def meet(x):
        (tmp_path / f"{os.getpid()}-{x}").touch()
        mine = f"{os.getpid()}-*"
        while len(list(tmp_path.glob(mine))) < 10:  # noqa: ASYNC110 - files set no event
            await asyncio.sleep(0.01)
        return x

    config = RuntimeConfig(backend=backend, executor=AsyncExecutor())
    found = single(meet).map({"x": range(60)}, map_over="x", config=config)
    assert [each["y"] for each in found] == list(range(60))


def test_an_item_that_takes_long_withholds_no_other_of_its_share(backend, tmp_path):
    gate = tmp_path / "gate"

    def work(x):
        if x == 0:
            wait_until(gate.exists)
        return x

    config = RuntimeConfig(backend=backend, executor=ThreadPoolExecutor(max_workers=4))
    found = single(work).map_iter(
        {"x": iter(range(40))}, map_over="x", config=config, ordered=False
    )
    first = [next(found) for _ in range(39)]
    gate.touch()
    assert sorted(index for index, _ in first) == list(range(1, 40))
    assert list(found) == [(0, {"y": 0})]


def test_results_come_before_the_last_item_begins(config, tmp_path):
    def work(x):
        if x == 199:
            wait_until((tmp_path / "first").exists)
        return x

    found = single(work).map_iter({"x": iter(range(200))}, map_over="x", config=config)
    assert next(found) == {"y": 0}
    (tmp_path / "first").touch()
    assert [each["y"] for each in found] == list(range(1, 200))


def test_what_a_node_asks_for_itself_runs_where_it_is(config):
    inner = single(lambda x: (x, os.getpid()))

    def outer(x, inner=inner, config=config):
        found = inner.map({"x": range(5)}, map_over="x", config=config)
        return os.getpid(), [each["y"] for each in found]

    found = single(outer).map({"x": range(12)}, map_over="x", config=config)
    assert all(
        y == (pid, [(x, pid) for x in range(5)]) for pid, y in ((e["y"][0], e["y"]) for e in found)
    )


@pytest.mark.parametrize("by_address", [False, True])
def test_an_executor_of_the_same_kind_has_the_cluster_of_its_worker(remote, backend, by_address):
    executor = DaskExecutor(scheduler_address=remote.address if by_address else None)
    config = RuntimeConfig(backend=backend, executor=executor)
    found = single(pid_of).map({"x": range(30)}, map_over="x", config=config)
    assert {each["y"] for each in found} <= pids_of(remote)


def test_nodes_of_a_run_are_on_all_workers_where_its_executor_has_the_cluster(
    remote, backend, tmp_path
):
    # As many as there are threads: that of the run is lent while it waits.
    def meet(name):
        def meeting(x):
            (tmp_path / name).touch()
            wait_until(lambda: len(list(tmp_path.iterdir())) == 3)
            return os.getpid()

        return node(name)(meeting)

    config = RuntimeConfig(backend=backend, executor="dask")
    found = Pipeline([meet(name) for name in "abc"]).run({"x": 1}, config=config)
    assert set(found.values()) == pids_of(remote)


def test_one_worker_with_one_thread_is_enough_for_an_executor_of_its_cluster(cluster):
    cluster.add("one", "--nthreads", "1")
    inner = single(lambda x: x + 1, name="inner")
    mapped = inner.as_node(map_over="xs", input_mapping={"xs": "x"})
    outer = Pipeline([node("xs")(lambda n: list(range(n))), mapped], name="outer")

    def asks(n, outer=outer):
        return outer.run({"n": n}, config=RuntimeConfig(executor="dask"))["inner"]

    with RemoteBackend("dask", cluster.address) as backend:
        for executor in ("dask", "sequential", "thread"):
            config = RuntimeConfig(backend=backend, executor=executor)
            assert outer.run({"n": 3}, config=config)["inner"] == [1, 2, 3]
            found = outer.map({"n": range(5)}, map_over="n", config=config)
            assert [each["inner"] for each in found] == [list(range(1, n + 1)) for n in range(5)]
            found = single(asks).map({"n": range(5)}, map_over="n", config=config)
            assert [each["y"] for each in found] == [list(range(1, n + 1)) for n in range(5)]


def test_the_same_from_asynchronous_code(config):
    async def main():
        one = single(lambda x: x + 1)
        run, mapped = await asyncio.gather(
            one.arun({"x": 1}, config=config),
            one.amap({"x": range(5)}, map_over="x", config=config),
        )
        lazily = one.map_iter({"x": range(5)}, map_over="x", config=config)
        return run, mapped, [each async for each in lazily]

    many = [{"y": x + 1} for x in range(5)]
    assert asyncio.run(main()) == ({"y": 2}, many, many)


def test_what_is_given_or_not_asked_for_is_the_same_as_here(config):
    calls = [node(name)(lambda x: x) for name in "pq"]
    chain = [node("a")(lambda x: x + 1), node("b")(lambda a: a * 2), node("c")(lambda b: b - 1)]
    pipeline = Pipeline([*chain, *calls])
    for inputs, asked in [
        ({"x": 1}, None),
        ({"a": 5, "x": 1}, None),
        ({"a": 5, "b": 7, "x": 1}, None),
        ({"b": 7}, "c"),
        ({"x": 1}, ("q", "a")),
    ]:
        here = pipeline.run(inputs, output_name=asked)
        assert pipeline.run(inputs, output_name=asked, config=config) == here
        many = {name: [value, value + 1] for name, value in inputs.items()}
        over = tuple(many)
        expected = pipeline.map(many, map_over=over, output_name=asked)
        assert pipeline.map(many, map_over=over, output_name=asked, config=config) == expected


def test_modules_are_found_where_the_driver_finds_them(config, tmp_path, monkeypatch):
    (tmp_path / "beside_a_driver_of_dask.py").write_text(
        "def double(x):\n    return 2 * x\n", encoding="utf-8"
    )
    monkeypatch.syspath_prepend(tmp_path)
    double = importlib.import_module("beside_a_driver_of_dask").double
    assert single(double).run({"x": 2}, config=config) == {"y": 4}


def test_nothing_is_sent_where_nothing_is_to_be_run():
    config = RuntimeConfig(backend=RemoteBackend("dask", "tcp://127.0.0.1:9"))
    assert single(pid_of).map({"x": []}, map_over="x", config=config) == []
    assert Pipeline([]).run({}, config=config) == {}
    with pytest.raises(InputError):
        single(pid_of).run({"z": 1}, config=config)


# ---------------------------------------------------------------- what is told


class Story(Callback):
    """Notes events by name, path and item, with what they hold."""

    def __init__(self):
        self.told = []

    def _note(self, hook, ctx, *facts):
        self.told.append((hook, ctx.path, ctx.item_index, ctx.mode, ctx.depth, *map(repr, facts)))

    def on_pipeline_start(self, ctx, pipeline, inputs):
        self._note("pipeline_start", ctx, pipeline.name, inputs)

    def on_pipeline_end(self, ctx, outputs):
        self._note("pipeline_end", ctx, outputs)

    def on_pipeline_error(self, ctx, error):
        self._note("pipeline_error", ctx, error)

    def on_map_start(self, ctx, count):
        self._note("map_start", ctx, count)

    def on_map_end(self, ctx):
        self._note("map_end", ctx)

    def on_item_start(self, ctx, index, inputs):
        self._note("item_start", ctx, index, inputs)

    def on_item_end(self, ctx, index, outputs):
        self._note("item_end", ctx, index, outputs)

    def on_item_error(self, ctx, index, error):
        self._note("item_error", ctx, index, error)

    def on_node_start(self, ctx, node, inputs):
        self._note("node_start", ctx, node.name, inputs)

    def on_node_end(self, ctx, node, output):
        self._note("node_end", ctx, node.name, output)

    def on_node_error(self, ctx, node, error):
        self._note("node_error", ctx, node.name, error)

    def on_node_retry(self, ctx, node, error, attempt):
        self._note("node_retry", ctx, node.name, error, attempt)

    def on_report(self, ctx, kind, data):
        self._note("report", ctx, kind, data)


def fails_at_three(x):
    report("seen", x=x)
    if x == 3:
        raise ValueError(x)
    return x + 1


def nested(own):
    """Return a pipeline with all that there is: dissolved, mapped, and under configs of its own."""
    inner = single(lambda x: x + 1, name="inner")
    plain = Pipeline([inner.as_node(output_mapping={"inner": "one"})], name="plain")
    alone = single(lambda one: one * 2, name="alone").with_config(own)
    each = single(lambda item: item * 2, name="each")
    return Pipeline(
        [
            node("start", retries=1)(fails_at_three),
            plain.as_node(input_mapping={"start": "x"}, name="dissolved"),
            alone.as_node(name="apart"),
            node("own", config=own)(lambda alone: alone + 1),
            node("items")(lambda own: [own, own + 1]),
            each.as_node(map_over="items", input_mapping={"items": "item"}, name="mapped"),
            each.with_config(own).as_node(
                map_over="items",
                input_mapping={"items": "item"},
                output_mapping={"each": "others"},
                name="mapped_apart",
            ),
            node("end")(lambda each, others: sum(each) + sum(others)),
        ],
        name="nested",
    )


def story_of(pipeline, config, call, own=None):
    story, checker = Story(), Checker()
    heard = [story, checker]
    own = (own or RuntimeConfig(executor="sequential")).replace(callbacks=heard)
    found = call(pipeline(own).with_config(config.replace(callbacks=heard)))
    checker.check()
    return found, Counter(story.told)


def outcome(call):
    try:
        return call()
    except ValueError as error:
        return repr(error), error.__notes__


CALLS = pytest.mark.parametrize(
    "call",
    [
        lambda pipeline: pipeline.run({"x": 1}),
        lambda pipeline: outcome(lambda: pipeline.run({"x": 3})),
        lambda pipeline: pipeline.map({"x": [1, 2]}, map_over="x"),
        lambda pipeline: [
            each if isinstance(each, dict) else (each.index, each.inputs, each.error.__notes__)
            for each in pipeline.map({"x": range(9)}, map_over="x", on_error="return")
        ],
    ],
    ids=["run", "failing run", "map", "failing map"],
)


@CALLS
def test_what_is_told_is_what_is_told_of_a_local_run(each, call):
    expected = story_of(nested, each.replace(backend=LocalBackend(), executor="sequential"), call)
    found = story_of(nested, each, call)
    assert found[0] == expected[0]
    assert found[1] - expected[1] == Counter()
    assert expected[1] - found[1] == Counter()


@CALLS
@pytest.mark.parametrize("kind", ["sequential", "async", "composite"])
def test_what_is_told_of_parts_that_go_there_is_what_is_told_of_local_ones(backend, call, kind):
    own = RuntimeConfig(backend=backend, executor=EXECUTORS[kind])
    around = RuntimeConfig(executor="thread")
    expected = story_of(nested, around, call)
    found = story_of(nested, around, call, own)
    assert found[0] == expected[0]
    assert found[1] - expected[1] == Counter()
    assert expected[1] - found[1] == Counter()


def test_each_item_is_told_in_order_and_where_it_was(remote, config):
    class Where(Callback):
        def __init__(self):
            self.seen = {}

        def on_item_start(self, ctx, index):
            self.seen.setdefault(index, []).append("start")

        def on_node_end(self, ctx, node):
            self.seen[ctx.item_index].append((node.name, ctx.process))

        def on_item_end(self, ctx, index):
            self.seen[index].append("end")

    where = Where()
    pipeline = Pipeline([node("a")(lambda x: os.getpid()), node("b")(lambda a: a)])
    found = pipeline.map({"x": range(30)}, map_over="x", config=config.replace(callbacks=[where]))
    for index, each in enumerate(found):
        pid = each["a"]
        assert where.seen[index] == ["start", ("a", pid), ("b", pid), "end"]


def test_hooks_around_nodes_are_called_where_the_nodes_are(each):
    class Around(Callback):
        def wrap_node(self, ctx, node, call):
            return call(), ctx.item_index, os.getpid()

    many = single(pid_of).map(
        {"x": range(6)}, map_over="x", config=each.replace(callbacks=[Around()])
    )
    assert [each["y"][1] for each in many] == list(range(6))
    assert all(pid == around for pid, _, around in (each["y"] for each in many))


def test_what_ends_a_run_and_is_no_exception_surfaces_as_itself(each):
    def leave(x):
        if x == 5:
            raise SystemExit(3)
        return x

    checker = Checker()
    watched = each.replace(callbacks=[checker])
    for call in (
        lambda: single(leave).map({"x": range(9)}, map_over="x", config=watched),
        lambda: single(leave).map({"x": range(9)}, map_over="x", config=each, on_error="return"),
        lambda: single(leave).run({"x": 5}, config=watched),
        lambda: single(leave).run({"x": 5}, config=each),
    ):
        with pytest.raises(SystemExit) as found:
            call()
        assert found.value.code == 3
    checker.check()


# ---------------------------------------------------------------- what is told while it runs


class Opens(Callback):
    """Opens a gate, a file, for what waits for it, as soon as `hook` is told of it."""

    def __init__(self, folder, hook):
        self.folder = folder
        self.hook = hook

    def _open(self, hook, ctx):
        if hook == self.hook:
            (self.folder / f"{ctx.path[-1]}{ctx.item_index}").touch()

    def on_node_start(self, ctx):
        self._open("node_start", ctx)

    def on_node_end(self, ctx):
        self._open("node_end", ctx)

    def on_report(self, ctx):
        self._open("report", ctx)

    def on_item_end(self, ctx):
        self._open("item_end", ctx)


@pytest.mark.parametrize("kind", ["sequential", "async", "thread", "composite"])
@pytest.mark.parametrize("hook", ["node_start", "report"])
def test_what_goes_on_in_a_run_is_told_while_it_runs(backend, tmp_path, hook, kind):
    def wait(x):
        report("begun")
        wait_until((tmp_path / "waitNone").exists)
        return x

    checker = Checker()
    callbacks = [Opens(tmp_path, hook), checker]
    config = RuntimeConfig(backend=backend, executor=EXECUTORS[kind], callbacks=callbacks)
    pipeline = Pipeline([node("w")(wait), node("y")(lambda w: w + 1)])
    assert pipeline.run({"x": 1}, config=config) == {"w": 1, "y": 2}
    checker.check()
    assert checker.hooks("wait") == ["on_node_start", "on_report", "on_node_end"]


def test_what_has_ended_in_a_run_is_told_before_its_end(each, tmp_path):
    def first(x):
        return x

    def wait(x):
        wait_until((tmp_path / "firstNone").exists)
        return x

    config = each.replace(callbacks=[Opens(tmp_path, "node_end")])
    pipeline = Pipeline([node("a")(first), node("b")(wait)])
    assert pipeline.run({"x": 1}, config=config) == {"a": 1, "b": 1}


@pytest.mark.parametrize("kind", ["sequential", "async", "thread", "composite"])
def test_items_under_way_are_told_of(backend, tmp_path, kind):
    def wait(x):
        report("begun", x=x)
        wait_until((tmp_path / f"wait{x}").exists)
        return x

    checker = Checker()
    callbacks = [Opens(tmp_path, "report"), checker]
    config = RuntimeConfig(backend=backend, executor=EXECUTORS[kind], callbacks=callbacks)
    found = single(wait).map({"x": range(5)}, map_over="x", config=config)
    assert found == [{"y": x} for x in range(5)]
    checker.check()
    for x in range(5):
        assert [hook for hook, path, index in checker.seen if index == x] == [
            "on_item_start",
            "on_node_start",
            "on_report",
            "on_node_end",
            "on_item_end",
        ]


def test_items_of_a_map_inside_a_run_are_told_of_and_counted(backend, tmp_path):
    def wait(x):
        if x:
            wait_until((tmp_path / f"single{x - 1}").exists)
        return x

    class Counts(Callback):
        def __init__(self):
            self.most = 0

        def _on_tally(self, ctx, tally):
            self.tally = tally

        def on_item_end(self):
            self.most = max(self.most, self.tally.ended)

    counts, checker = Counts(), Checker()
    mapped = single(wait).as_node(map_over="xs", input_mapping={"xs": "x"}, name="single")
    pipeline = Pipeline([mapped], name="outer")
    callbacks = [Opens(tmp_path, "item_end"), counts, checker]
    config = RuntimeConfig(backend=backend, executor="sequential", callbacks=callbacks)
    assert pipeline.run({"xs": [0, 1, 2]}, config=config) == {"y": [0, 1, 2]}
    checker.check()
    assert counts.tally.ended == 3
    assert 0 < counts.most <= 3


def test_errors_are_told_once_and_are_those_that_surface(each, tmp_path):
    told = []

    class Errors(Callback):
        def on_node_error(self, error):
            told.append(error)

        def on_item_error(self, error):
            told.append(error)

        def on_pipeline_error(self, error):
            told.append(error)

    def fail(x):
        wait_until((tmp_path / f"first{None if x == 1 else 0}").exists)
        raise TwoError(1, 2)

    def first(x):
        return x

    checker = Checker()
    pipeline = Pipeline([node("a")(first), node("b")(fail)])
    config = each.replace(callbacks=[Opens(tmp_path, "node_end"), Errors(), checker])
    with pytest.raises(TwoError) as found:
        pipeline.run({"x": 1}, config=config)
    assert [error is found.value for error in told] == [True, True]
    told.clear()
    with pytest.raises(TwoError) as found:
        pipeline.map({"x": [2]}, map_over="x", config=config)
    assert [error is found.value for error in told] == [True, True, True]
    checker.check()


def test_a_run_that_nobody_observes_is_not_looked_at(backend, tmp_path, monkeypatch):
    from hypernodes._engine.clusters.dask import DaskCluster

    looked, look = set(), DaskCluster.look

    def noted(self, place, numbers, **orders):
        looked.update(numbers)
        look(self, place, numbers, **orders)

    monkeypatch.setattr(DaskCluster, "look", noted)

    def unseen(x):
        (tmp_path / "unseen").touch()
        wait_until((tmp_path / "over").exists)
        return x

    def seen(x):
        wait_until((tmp_path / "unseen").exists)
        for kind in "abc":
            report(kind)
            wait_until((tmp_path / kind).exists)
        return x

    class Answers(Callback):
        def on_report(self, kind):
            (tmp_path / kind).touch()

    config = RuntimeConfig(backend=backend, executor="sequential")
    with futures.ThreadPoolExecutor(1) as thread:
        other = thread.submit(single(unseen).run, {"x": 1}, config=config)
        single(seen).run({"x": 1}, config=config.replace(callbacks=[Answers()]))
        (tmp_path / "over").touch()
        assert other.result() == {"y": 1}
    assert len(looked) == 1


# ---------------------------------------------------------------- failures


class TwoError(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")
        self.two = two


def test_failures_are_those_of_their_items(each):
    def fail(x):
        if x % 7 == 3:
            raise TwoError(x, "more")
        return x

    inner = single(fail, name="inner")
    sums = inner.as_node(map_over="xs", input_mapping={"xs": "x"}, name="sums")
    outer = Pipeline([node("xs")(lambda n: list(range(n))), sums], name="outer")
    plain = inner.map({"x": range(30)}, map_over="x", config=each, on_error="return")
    for index, found in enumerate(plain):
        assert isinstance(found, Failure) == (index % 7 == 3)
        if isinstance(found, Failure):
            note = f"hypernodes: in node 'fail' of pipeline 'single', item {index}"
            assert (found.index, found.inputs, found.attempts) == (index, {"x": index}, 1)
            assert (type(found.error), found.error.two) == (TwoError, "more")
            assert found.error.__notes__ == [note]
    nested = outer.map({"n": range(2, 6)}, map_over="n", config=each, on_error="return")
    assert [type(found) for found in nested] == [dict, dict, Failure, Failure]
    local = outer.map({"n": range(2, 6)}, map_over="n", on_error="return")
    assert [each.error.__notes__ for each in nested[2:]] == [
        each.error.__notes__ for each in local[2:]
    ]


def test_what_cannot_travel_is_named_before_anything_runs(config, tmp_path):
    handle = (tmp_path / "open").open("w")

    def use(x, shared=None):
        (tmp_path / "ran").touch()
        return x

    with handle:
        with pytest.raises(SerializationError, match="'leak'") as found:
            Pipeline([node("y")(use), node("z")(leaks(handle))]).run({"x": 1}, config=config)
        assert found.value.node == "leak"
        with pytest.raises(SerializationError, match="'shared'") as found:
            single(use).map({"x": range(9), "shared": handle}, map_over="x", config=config)
        assert (found.value.node, found.value.name) == ("use", "shared")
        assert not (tmp_path / "ran").exists()
        items = single(use).map(
            {"x": [1, handle, 3]}, map_over="x", config=config, on_error="return"
        )
        assert [items[0], items[2]] == [{"y": 1}, {"y": 3}]
        assert isinstance(items[1].error, SerializationError)
        assert items[1].error.index == 1


def leaks(handle):
    def leak(y):
        return handle.name

    return leak


def test_outputs_that_cannot_travel_are_named(each):
    def lock(x):
        import threading

        return threading.Lock() if x == 4 else x

    found = single(lock).map({"x": range(8)}, map_over="x", config=each, on_error="return")
    assert [index for index, each in enumerate(found) if isinstance(each, Failure)] == [4]
    assert isinstance(found[4].error, SerializationError)
    with pytest.raises(SerializationError, match="'lock'"):
        single(lock).run({"x": 4}, config=each)


def test_resources_that_nobody_has_are_refused_at_once(config, tmp_path):
    greedy = single(lambda x: (tmp_path / "ran").touch(), resources={"num_gpus": 50})
    with pytest.raises(ResourceError, match="num_gpus"):
        greedy.run({"x": 1}, config=config)
    with pytest.raises(ResourceError, match="num_gpus"):
        greedy.map({"x": range(5)}, map_over="x", config=config)
    assert not (tmp_path / "ran").exists()


def test_resources_say_where_a_run_goes(remote, config):
    big = remote.workers["big"].pid
    needy = single(pid_of, resources={"num_gpus": 1})
    found = needy.map({"x": range(20)}, map_over="x", config=config)
    assert {each["y"] for each in found} == {big}
    assert needy.run({"x": 1}, config=config) == {"y": big}


def test_coroutines_are_cancelled_where_the_map_ends(backend, tmp_path):
    async def work(x):
        if x == 0:
            while not (tmp_path / "begun").exists():  # noqa: ASYNC110 - files set no event
                await asyncio.sleep(0.01)
            raise ValueError(x)
        (tmp_path / "begun").touch()
        try:
            await asyncio.sleep(600)
        finally:
            (tmp_path / f"cancelled{x}").touch()

    config = RuntimeConfig(backend=backend, executor="async")
    with pytest.raises(ValueError, match="0"):
        single(work).map({"x": range(2)}, map_over="x", config=config)
    wait_until((tmp_path / "cancelled1").exists)


def test_a_run_that_was_cancelled_stops_there(backend, tmp_path):
    async def work(x):
        (tmp_path / "begun").touch()
        try:
            await asyncio.sleep(600)
        finally:
            (tmp_path / "cancelled").touch()

    async def main():
        config = RuntimeConfig(backend=backend, executor="async")
        run = asyncio.create_task(single(work).arun({"x": 1}, config=config))
        while not (tmp_path / "begun").exists():  # noqa: ASYNC110 - files set no event
            await asyncio.sleep(0.01)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run

    asyncio.run(main())
    wait_until((tmp_path / "cancelled").exists)


# ---------------------------------------------------------------- caches


def counted(folder):
    """Return a pipeline that leaves a file for every call."""

    def slow(x):
        with (folder / f"calls{x}").open("a") as file:
            file.write("c")
        return x * 2

    return Pipeline([node("y")(slow), node("z")(lambda y: y + 1)], name="counted")


def calls(folder):
    return {
        path.name.removeprefix("calls"): len(path.read_text()) for path in folder.glob("calls*")
    }


@pytest.mark.parametrize("kind", ["disk", "disk object", "memory"])
def test_what_is_kept_is_not_run_again(each, tmp_path, kind):
    cache = {
        "disk": CacheSpec(kind="disk", path=str(tmp_path / "cache")),
        "disk object": DiskCache(tmp_path / "cache"),
        "memory": MemoryCache(),
    }[kind]
    (tmp_path / "work").mkdir()
    config = each.replace(cache=cache)
    pipeline = counted(tmp_path / "work")
    first = pipeline.map({"x": [1, 2, 3, 3]}, map_over="x", config=config)
    checker, story = Checker(), Story()
    second = pipeline.map(
        {"x": [1, 2, 4]}, map_over="x", config=config.replace(callbacks=[checker, story])
    )
    assert pipeline.run({"x": 4}, config=config) == {"y": 8, "z": 9}
    assert first == [{"y": 2 * x, "z": 2 * x + 1} for x in [1, 2, 3, 3]]
    assert second == [{"y": 2 * x, "z": 2 * x + 1} for x in [1, 2, 4]]
    assert calls(tmp_path / "work") == dict.fromkeys("1234", 1)
    checker.check()


def test_cache_events_are_those_of_a_local_run(each, tmp_path):
    class Cached(Callback):
        def __init__(self):
            self.told = Counter()

        def on_cache_check(self, ctx, node, signature):
            self.told["check", node.name, ctx.item_index, signature] += 1

        def on_cache_hit(self, ctx, node):
            self.told["hit", node.name, ctx.item_index] += 1

        def on_cache_miss(self, ctx, node):
            self.told["miss", node.name, ctx.item_index] += 1

        def on_cache_store(self, ctx, node):
            self.told["store", node.name, ctx.item_index] += 1

    def told(config, folder):
        cached, checker = Cached(), Checker()
        config = config.replace(
            cache=CacheSpec(kind="disk", path=str(folder)), callbacks=[cached, checker]
        )
        one = Pipeline([node("y")(lambda x: x * 2), node("z")(lambda y: y + 1)])
        one.map({"x": [1, 2]}, map_over="x", config=config)
        one.map({"x": [1, 3]}, map_over="x", config=config)
        one.run({"x": 5}, config=config)
        one.run({"x": 5}, config=config)
        checker.check()
        return cached.told

    local = each.replace(backend=LocalBackend(), executor="sequential")
    assert told(each, tmp_path / "there") == told(local, tmp_path / "here")


# ---------------------------------------------------------------- what is lost


def test_nobody_at_the_address_is_said_soon():
    config = RuntimeConfig(backend=RemoteBackend("dask", "tcp://127.0.0.1:9"))
    with pytest.raises(HyperNodesError, match=r"no Dask scheduler .* nothing listens there"):
        single(pid_of).run({"x": 1}, config=config)


def test_workers_with_other_versions_are_named_before_anything_runs(cluster, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "import hypernodes\nhypernodes.__version__ = '99.0'\n", encoding="utf-8"
    )
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    cluster.add("other", env={"PYTHONPATH": path})
    marks = tmp_path / "marks"
    config = RuntimeConfig(backend=RemoteBackend("dask", cluster.address))
    with pytest.raises(HyperNodesError, match=r"has hypernodes 99\.0 and not"):
        single(lambda x: marks.touch()).run({"x": 1}, config=config)
    assert not marks.exists()


def test_a_killed_worker_costs_its_share_at_most(cluster, tmp_path):
    for name in ("one", "two"):
        cluster.add(name, "--nthreads", "1")
    done = tmp_path / "done"
    done.mkdir()

    def work(x):
        if x == 30 and not (tmp_path / "killed").exists():
            (tmp_path / "killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        (done / f"{x}-{os.getpid()}").touch()
        return x

    checker = Checker()
    with RemoteBackend("dask", cluster.address) as backend:
        config = RuntimeConfig(backend=backend, executor="sequential", callbacks=[checker])
        found = single(work).map({"x": range(100)}, map_over="x", config=config)
    assert found == [{"y": x} for x in range(100)]
    assert {path.name.partition("-")[0] for path in done.iterdir()} == set(map(str, range(100)))
    checker.check()


def test_an_item_that_kills_every_worker_is_named(cluster):
    # It may end three: one for all items of its chunk, two for itself. A worker may fail to start.
    for name in ("one", "two", "three", "four", "five"):
        cluster.add(name, "--nthreads", "1")
    cluster.await_workers(4)

    def work(x):
        if x == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return x

    with RemoteBackend("dask", cluster.address) as backend:
        config = RuntimeConfig(backend=backend, executor="thread")
        found = single(work).map({"x": range(8)}, map_over="x", config=config, on_error="return")
    assert [each for index, each in enumerate(found) if index != 3] == [
        {"y": x} for x in range(8) if x != 3
    ]
    assert isinstance(found[3].error, WorkerCrashedError)
    assert (found[3].error.index, found[3].node) == (3, "work")


def test_what_is_lost_with_a_worker_is_told_to_one_end(cluster, tmp_path):
    for name in ("one", "two"):
        cluster.add(name, "--nthreads", "1")

    def first(x):
        return x

    def dies(x):
        if not (tmp_path / "died").exists():
            wait_until((tmp_path / "diesNone").exists)
            (tmp_path / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return x

    checker, story = Checker(), Story()
    pipeline = Pipeline([node("a")(first), node("b")(dies), node("c")(lambda a, b: a + b)])
    with RemoteBackend("dask", cluster.address) as backend:
        callbacks = [Opens(tmp_path, "node_start"), checker, story]
        config = RuntimeConfig(backend=backend, executor="sequential", callbacks=callbacks)
        assert pipeline.run({"x": 1}, config=config) == {"a": 1, "b": 1, "c": 2}
    checker.check()
    assert checker.hooks("first") == ["on_node_start", "on_node_end"]
    assert checker.hooks("dies") == ["on_node_start", "on_node_retry", "on_node_end"]
    (retry,) = [told for told in story.told if told[0] == "node_retry"]
    assert "WorkerCrashedError" in retry[-2]


def test_each_attempt_that_is_lost_with_a_worker_is_told_once(cluster, tmp_path):
    for name in ("one", "two", "three"):
        cluster.add(name, "--nthreads", "1")

    def dies(x):
        if len(list(tmp_path.glob("died*"))) < 2:
            wait_until((tmp_path / "diesNone").exists)
            (tmp_path / f"died{os.getpid()}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return x

    checker, told = Checker(), []

    class Retries(Callback):
        def on_node_retry(self, error, attempt):
            told.append((type(error), attempt))

    with RemoteBackend("dask", cluster.address) as backend:
        callbacks = [Opens(tmp_path, "node_start"), checker, Retries()]
        config = RuntimeConfig(
            backend=backend, executor="sequential", callbacks=callbacks, retries=2
        )
        assert single(dies).run({"x": 1}, config=config) == {"y": 1}
    checker.check()
    assert told == [(WorkerCrashedError, 1), (WorkerCrashedError, 2)]


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("kind", ["sequential", "async", "thread"])
def test_all_that_was_under_way_with_a_worker_is_told_to_one_end(cluster, tmp_path, kind, cached):
    for name in ("one", "two"):
        cluster.add(name, "--nthreads", "1")

    def dies(x):
        if x == 2 and not (tmp_path / "died").exists():
            wait_until((tmp_path / "dies2").exists)
            (tmp_path / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return x

    inner = Pipeline([node("y")(dies), node("z")(lambda y: y + 1)], name="inner")
    checker = Checker()
    callbacks = [Opens(tmp_path, "node_start"), checker]
    own = RuntimeConfig(executor="sequential", callbacks=callbacks)
    pipeline = Pipeline(
        [
            Pipeline([node("n")(lambda x: x)], name="plain").as_node(),
            node("own", config=own)(lambda n: n),
            inner.as_node(map_over="xs", input_mapping={"xs": "x"}, name="mapped"),
            node("end")(lambda z, own: sum(z) + own),
        ],
        name="outer",
    )
    cache = CacheSpec(kind="disk", path=str(tmp_path / "cache")) if cached else None
    with RemoteBackend("dask", cluster.address) as backend:
        config = RuntimeConfig(backend=backend, executor=kind, callbacks=callbacks, cache=cache)
        inputs = {"x": 1, "xs": [0, 1, 2, 3]}
        found = pipeline.with_config(config).run(inputs, output_name="end")
    assert found == {"end": 11}
    checker.check()
    ends = Counter(hook for hook, _, _ in checker.seen)
    assert ends["on_node_start"] == ends["on_node_end"] + ends["on_node_error"]
    assert ends["on_pipeline_error"] == 1  # of the map inside, which begins anew


def test_what_began_while_another_waited_is_known_when_their_worker_dies(cluster, tmp_path):
    cluster.add("one", "--nthreads", "1", nanny=True)

    def work(x):
        time.sleep(0.1)  # so that shares of two are worth their way, and one may wait for another
        if x == 0:
            wait_until((tmp_path / "deaths").exists)
        elif x == 2:
            with (tmp_path / "deaths").open("a") as file:
                file.write("d")
            os.kill(os.getpid(), signal.SIGKILL)
        return x

    with RemoteBackend("dask", cluster.address) as backend:
        config = RuntimeConfig(backend=backend, executor=ThreadPoolExecutor(max_workers=2))
        pipeline = single(work).with_config(config)
        pipeline.map({"x": [1] * 8}, map_over="x")
        found = pipeline.map({"x": range(3)}, map_over="x", on_error="return")
    assert found[:2] == [{"y": 0}, {"y": 1}]
    assert isinstance(found[2].error, WorkerCrashedError)
    assert (tmp_path / "deaths").read_text() == "dd"


def test_a_second_run_after_the_scheduler_was_lost_computes_the_rest(cluster, tmp_path):
    cluster.add("one", "--nthreads", "1")
    (tmp_path / "work").mkdir()

    def slow(x):
        with (tmp_path / "work" / f"calls{x}").open("a") as file:
            file.write("c")
        if x == 20 and not (tmp_path / "again").exists():
            (tmp_path / "here").touch()
            time.sleep(600)
        return x * 2

    cache = CacheSpec(kind="disk", path=str(tmp_path / "cache"))
    backend = RemoteBackend("dask", cluster.address)
    config = RuntimeConfig(backend=backend, executor="sequential", cache=cache)
    got = []
    with pytest.raises(HyperNodesError, match="scheduler was lost") as caught:  # noqa: PT012 - as they come
        for each in single(slow).map_iter({"x": range(40)}, map_over="x", config=config):
            got.append(each)
            if len(got) == 20:
                wait_until((tmp_path / "here").exists)
                cluster.end_scheduler()
    assert f"scheduler was lost ({cluster.address})" in str(caught.value)
    cluster.end_worker("one")
    (tmp_path / "again").touch()
    cluster.start()
    cluster.add("two", "--nthreads", "1")
    found = single(slow).map({"x": range(40)}, map_over="x", config=config)
    backend.close()
    assert found == [{"y": 2 * x} for x in range(40)]
    assert calls(tmp_path / "work") == {str(x): 2 if x == 20 else 1 for x in range(40)}


def test_closing_ends_what_runs_there(remote, tmp_path):
    backend = RemoteBackend("dask", f"{remote.address}")
    other = RemoteBackend("dask", remote.address.replace("127.0.0.1", "localhost"))
    assert backend != other

    async def work(x):
        (tmp_path / "begun").touch()
        try:
            await asyncio.sleep(600)
        finally:
            (tmp_path / "cancelled").touch()

    async def main():
        config = RuntimeConfig(backend=other, executor="async")
        run = asyncio.create_task(single(work).arun({"x": 1}, config=config))
        while not (tmp_path / "begun").exists():  # noqa: ASYNC110 - files set no event
            await asyncio.sleep(0.01)
        await asyncio.to_thread(other.close)
        with pytest.raises(HyperNodesError, match="closed in the middle"):
            await run

    asyncio.run(main())
    wait_until((tmp_path / "cancelled").exists)


@pytest.mark.parametrize("inside", [False, True])
def test_closing_leaves_no_connection_of_its_workers(cluster, inside):
    cluster.add("one", "--nthreads", "1")

    def clients():
        return client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.clients))

    own = RuntimeConfig(executor="dask")
    pipeline = single(lambda x: x, config=own if inside else None)
    with distributed.Client(cluster.address, set_as_default=False) as client:
        before = clients()
        with RemoteBackend("dask", cluster.address) as backend:
            config = RuntimeConfig(backend=backend, executor="sequential" if inside else "dask")
            assert pipeline.with_config(config).run({"x": 1}) == {"y": 1}
            assert clients() == before + 2
        wait_until(lambda: clients() == before)


INTERRUPTED = """
import asyncio, signal, sys, threading
from pathlib import Path
from hypernodes import Callback, Pipeline, RuntimeConfig, node
from hypernodes.backends import RemoteBackend

address, folder = sys.argv[1], Path(sys.argv[2])

async def work(x):
    (folder / "begun").touch()
    try:
        await asyncio.sleep(600)
    finally:
        (folder / "cancelled").touch()

class Ends(Callback):
    def on_pipeline_error(self, error):
        print(type(error).__name__, flush=True)

config = RuntimeConfig(
    backend=RemoteBackend("dask", address), executor="async", callbacks=[Ends()]
)
try:
    Pipeline([node("y")(work)]).map({"x": range(3)}, map_over="x", config=config)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


def test_ctrl_c_ends_what_runs_there(remote, tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, remote.address, str(tmp_path)], stdout=subprocess.PIPE
    ) as driver:
        wait_until((tmp_path / "begun").exists)
        driver.send_signal(signal.SIGINT)
        assert driver.communicate(timeout=240)[0].split() == [b"KeyboardInterrupt", b"interrupted"]
    wait_until((tmp_path / "cancelled").exists)


# ---------------------------------------------------------------- workers that may have no children


def test_processes_become_threads_where_workers_are_daemons(tmp_path):
    remote = RemoteDask(tmp_path)
    try:
        remote.add("nanny", "--nthreads", "1", nanny=True)
        backend = RemoteBackend("dask", remote.address)
        config = RuntimeConfig(backend=backend, executor=ProcessPoolExecutor(max_workers=2))
        warn_of_threads.cache_clear()
        with pytest.warns(RuntimeWarning, match="has threads there") as warned, backend:
            found = single(pid_of).map({"x": range(9)}, map_over="x", config=config)
            single(pid_of).run({"x": 1}, config=config)
        assert len({each["y"] for each in found}) == 1
        (warning,) = (each for each in warned if each.category is RuntimeWarning)
        assert warning.filename == __file__
    finally:
        remote.end()


def test_tls(tmp_path):
    keys = distributed.Security.temporary()
    (tmp_path / "cert.pem").write_text(keys.tls_ca_file, encoding="utf-8")
    (tmp_path / "key.pem").write_text(keys.tls_client_key, encoding="utf-8")
    files = {"ca-file": "cert.pem", "cert": "cert.pem", "key": "key.pem"}
    options = [f"--tls-{name}={tmp_path / file}" for name, file in files.items()]
    remote = RemoteDask(tmp_path, options=options, protocol="tls")
    try:
        pid = remote.add("one", "--nthreads", "1")
        security = {
            "tls_ca_file": str(tmp_path / "cert.pem"),
            "tls_client_cert": str(tmp_path / "cert.pem"),
            "tls_client_key": str(tmp_path / "key.pem"),
        }
        with RemoteBackend("dask", remote.address, security) as backend:
            config = RuntimeConfig(backend=backend, executor="sequential")
            assert single(pid_of).run({"x": 1}, config=config) == {"y": pid}
    finally:
        remote.end()


# ---------------------------------------------------------------- attempts


def test_attempts_are_made_where_the_node_runs(each, tmp_path):
    def third_time(x):
        with (tmp_path / f"tries{x}").open("a") as file:
            file.write("t")
        if len((tmp_path / f"tries{x}").read_text()) < 3:
            raise OSError(x)
        return x

    inner = single(third_time, name="each")
    mapped = inner.as_node(map_over="xs", input_mapping={"xs": "x"})
    outer = Pipeline([node("xs")(lambda n: [10 * n, 10 * n + 1]), mapped])
    config = each.replace(retries=3)
    assert single(third_time).run({"x": 1}, config=config) == {"y": 1}
    found = outer.map({"n": range(1, 7)}, map_over="n", output_name="each", config=config)
    assert found == [{"each": [10 * n, 10 * n + 1]} for n in range(1, 7)]
    assert {len(path.read_text()) for path in tmp_path.glob("tries*")} == {3}
