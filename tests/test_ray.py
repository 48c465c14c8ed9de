"""What holds on a Ray of our own, beyond what the conformance suite asks of every executor."""

import os
import random
import signal
import threading
from pathlib import Path

import pytest
from pydantic import ValidationError

from hypernodes import (
    Callback,
    CompositeExecutor,
    DiskCache,
    HyperNodesError,
    InputError,
    NodeTimeoutError,
    Pipeline,
    RayExecutor,
    ResourceError,
    RuntimeConfig,
    SequentialExecutor,
    node,
)
from hypernodes._engine.shipping import crew
from hypernodes.testing._work import Gate, Marks, mixing
from remote_dask import is_alive, wait_until

ray = pytest.importorskip("ray")
numpy = pytest.importorskip("numpy")

LIMIT = 120


@pytest.fixture(scope="module")
def executor():
    with RayExecutor(num_cpus=2) as executor:
        yield executor


@pytest.fixture
def config(executor):
    return RuntimeConfig(executor=executor)


@pytest.fixture
def marks(tmp_path):
    (tmp_path / "marks").mkdir()
    return Marks(tmp_path / "marks")


@pytest.fixture
def gate(tmp_path):
    gate = Gate(tmp_path / "gate", LIMIT)
    yield gate
    gate.open()


def single(function, name="y", **options):
    return Pipeline([node(name, **options)(function)], name="single")


def pid_of(x):
    return os.getpid()


def pids(config, count=40):
    return {each["y"] for each in single(pid_of).map(items(count), map_over="x", config=config)}


def items(count):
    return {"x": range(count)}


# ---------------------------------------------------------------- what it is


def test_it_is_a_value():
    one = RayExecutor("auto", 2, 0, {"env_vars": {"A": "1"}, "pip": ["x"]}, 5)
    other = RayExecutor(
        ray_address="auto",
        num_cpus=2,
        num_gpus=0,
        runtime_env={"pip": ["x"], "env_vars": {"A": "1"}},
        chunksize=5,
    )
    assert one == other
    assert hash(one) == hash(other)
    assert one != RayExecutor("auto", 2, 0, {"env_vars": {"A": "2"}, "pip": ["x"]}, 5)
    assert RuntimeConfig(executor="ray").executor == RayExecutor()


def test_it_does_not_show_the_values_of_environment_variables():
    assert "hush" not in repr(RayExecutor(runtime_env={"env_vars": {"TOKEN": "hush"}}))


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"env_var": {"A": "1"}}, "did you mean 'env_vars'"),
        ({"env_vars": {"A": 1}}, "Dict"),
        ("pip", "a runtime_env is a dict"),
    ],
)
def test_a_wrong_runtime_env_is_refused_at_once(wrong, told):
    with pytest.raises(ValidationError, match=told):
        RayExecutor(runtime_env=wrong)


@pytest.mark.parametrize("name", ["num_cpus", "chunksize"])
def test_sizes_are_positive_integers(name):
    for wrong in (0, -1, 1.5, True, "2"):
        with pytest.raises(ValidationError):
            RayExecutor(**{name: wrong})


# ---------------------------------------------------------------- workers


def test_there_is_a_worker_for_each_cpu(config):
    found = set()
    wait_until(lambda: len(found.update(pids(config)) or found) == 2)


def test_workers_live_on_between_runs(config):
    before = set()
    wait_until(lambda: len(before.update(pids(config)) or before) == 2)
    for _ in range(3):
        assert pids(config) <= before


def test_workers_are_where_the_driver_is(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYPERNODES_TEST", "here")

    def where(x):
        facts = (
            str(Path.cwd()),
            os.environ.get("HYPERNODES_TEST"),
            os.environ.get("OMP_NUM_THREADS"),
        )
        return (*facts, "RAY_JOB_ID" in os.environ)

    found = single(where).run({"x": 1}, config=config)["y"]
    assert found == (str(tmp_path), "here", os.environ.get("OMP_NUM_THREADS", "1"), True)


def test_a_shared_value_is_built_once_for_each_worker(config, marks):
    class Model:
        def __init__(self, scale):
            self.scale = scale

        def __reduce__(self):
            return built, (self.scale,)

    def built(scale):
        marks.leave("built")
        return Model(scale)

    pipeline = Pipeline([node("y", stateful_params=("model",))(lambda x, model: x * model.scale)])
    inputs = items(2000) | {"model": Model(3)}
    found = pipeline.map(inputs, map_over="x", config=config)
    assert found == [{"y": 3 * x} for x in range(2000)]
    assert marks.count("built") <= 2


def test_a_worker_lets_go_of_what_a_map_has_shared(config, marks):
    class Model:
        def __reduce__(self):
            return built, ()

    def built():
        model = Model()
        import weakref

        weakref.finalize(model, marks.leave, "gone")
        marks.leave("built")
        return model

    pipeline = Pipeline([node("y")(lambda x, model: x)])
    pipeline.map(items(10) | {"model": Model()}, map_over="x", config=config)
    wait_until(lambda: 0 < marks.count("built") == marks.count("gone"))


def test_coroutines_that_are_late_are_cancelled(config):
    async def late(x):
        import asyncio

        await asyncio.sleep(LIMIT)

    with pytest.raises(NodeTimeoutError):
        single(late, timeout=0.2).run({"x": 1}, config=config)


# ---------------------------------------------------------------- values


@pytest.fixture
def sizes(monkeypatch):
    """The bytes of all that comes back to the driver."""
    found = []

    def unpack(parcel, **options):
        found.append(parcel.size)
        return real(parcel, **options)

    real = crew.unpack
    monkeypatch.setattr(crew, "unpack", unpack)
    return found


def test_what_only_other_nodes_need_does_not_come_to_the_driver(config, sizes):
    def big(x):
        return numpy.full(50_000_000, x, dtype=numpy.uint8)

    def total(big):
        return int(big.sum())

    nodes = [node("big")(big), node("left")(total), node("right")(total)]
    nodes.append(node("both")(lambda left, right: left + right))
    found = Pipeline(nodes).run({"x": 2}, output_name="both", config=config)
    assert found == {"both": 200_000_000}
    assert max(sizes) < 10_000


def test_what_is_asked_for_comes_to_the_driver(config, sizes):
    found = single(lambda x: numpy.full(5_000_000, x, dtype=numpy.uint8)).run(
        {"x": 7}, config=config
    )
    assert int(found["y"].sum()) == 35_000_000
    assert max(sizes) >= 5_000_000


@pytest.mark.parametrize("size", [100, 3_000_000])
def test_what_a_node_gets_it_may_change_in_place(config, size):
    def change(made):
        made += 1
        return made

    def total(changed, shared):
        shared[0] += 1
        return int(changed.sum())

    nodes = [
        node("made")(lambda x: numpy.zeros(size, dtype=numpy.uint8)),
        node("changed")(change),
        node("total")(total),
    ]
    shared = numpy.zeros(size, dtype=numpy.uint8)
    inputs = {"x": [1, 2], "shared": shared}
    found = Pipeline(nodes).map(inputs, map_over="x", output_name="total", config=config)
    assert found == [{"total": size}, {"total": size}]
    run = Pipeline(nodes).run({"x": 1, "shared": shared}, output_name="total", config=config)
    assert run == {"total": size}
    assert not shared.any()


def test_a_random_graph_of_a_thousand_nodes_gives_what_it_gives_here(config):
    rng = random.Random(7)
    names, nodes = ["x0", "x1"], []
    for number in range(1000):
        takes = rng.randint(1, 3)
        function = mixing(takes, 1, number, is_later=rng.random() < 0.1)
        given = dict(zip("abc", rng.sample(names[-40:], min(takes, len(names))), strict=False))
        made = node(f"v{number}")(function)
        nodes.append(made.rename(inputs={**given, "salt": f"salt{number}"}))
        names.append(f"v{number}")
    pipeline = Pipeline(nodes)
    inputs = {"x0": 1, "x1": 2}
    expected = pipeline.run(inputs, config=RuntimeConfig(executor=SequentialExecutor()))
    assert pipeline.run(inputs, config=config) == expected


def test_a_cache_that_can_be_shared_is_filled_by_workers(executor, tmp_path, marks):
    config = RuntimeConfig(executor=executor, cache=DiskCache(tmp_path / "cache"))

    def work(x):
        marks.leave(x)
        return os.getpid()

    first = single(work).map(items(20), map_over="x", config=config)
    assert os.getpid() not in {each["y"] for each in first}
    found = single(work).map(items(25), map_over="x", config=config)
    assert found[:20] == first
    assert all(marks.count(x) == 1 for x in range(25))


# ---------------------------------------------------------------- lost workers


def test_what_a_killed_worker_had_finished_is_not_run_again(config, marks, gate):
    def work(x):
        marks.leave(x)
        if x == 57:
            marks.leave(f"pid{os.getpid()}")
            gate.wait()
        return x

    found = single(work).map_iter(items(100), map_over="x", config=config, ordered=False)
    first = [next(found) for _ in range(99)]  # all the others: the driver has been told of them
    (pid,) = (int(name[3:]) for name in marks.names() if name.startswith("pid"))
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(pid))
    gate.open()
    assert dict([*first, *found]) == {x: {"y": x} for x in range(100)}
    assert marks.count(57) == 2
    assert {x for x in range(100) if marks.count(x) > 1} == {57}


def test_values_outlive_the_worker_that_has_made_them(config, marks, gate):
    def big(x):
        marks.leave("made")
        marks.leave(f"pid{os.getpid()}")
        return bytes(200_000)

    def after(big, waited):
        return len(big)

    nodes = [node("big")(big), node("waited")(lambda x: gate.wait()), node("after")(after)]
    found = {}
    running = threading.Thread(
        target=lambda: found.update(Pipeline(nodes).run({"x": 1}, config=config))
    )
    running.start()
    wait_until(lambda: any(name.startswith("pid") for name in marks.names()))
    (pid,) = (int(name[3:]) for name in marks.names() if name.startswith("pid"))
    wait_until(lambda: len(pids(config, 1)) == 1)  # its worker has reported, and works on
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(pid))
    gate.open()
    running.join(LIMIT)
    assert found["after"] == 200_000
    assert marks.count("made") == 1


# ---------------------------------------------------------------- resources


@pytest.mark.parametrize(
    ("needs", "words"),
    [
        ({"num_gpus": 1}, "1 of 'num_gpus', which no worker has; ask for less, or add workers"),
        ({"num_cpus": 3}, "3 of 'num_cpus', which no worker has (the largest has 2); "),
        ({"unheard_of": 0.5}, "0.5 of 'unheard_of', which no worker has; "),
        ({"num_cpu": 1}, "1 of 'num_cpu', which no worker has; did you mean 'num_cpus'?"),
        ({"memory": 2**54}, "16 PiB of 'memory', which no worker has (the largest has "),
    ],
)
def test_what_nobody_has_is_refused_before_anything_runs(config, marks, needs, words):
    nodes = [
        node("a")(lambda x: marks.leave("ran")),
        node("b", resources=needs)(lambda a: a),
    ]
    with pytest.raises(ResourceError) as caught:
        Pipeline(nodes).run({"x": 1}, config=config)
    assert (caught.value.node, caught.value.resource) == ("b", *needs)
    assert f"node 'b' asks for {words}" in str(caught.value)
    with pytest.raises(ResourceError):
        Pipeline(nodes).map(items(3), map_over="x", config=config)
    assert not marks.counts()


def test_nodes_get_what_they_ask_for(config):
    def granted(x):
        return ray.get_runtime_context().get_assigned_resources()

    nodes = [
        node("plain")(granted),
        node("one", resources={"num_cpus": 1})(granted),
        node("two", resources={"num_cpus": 2})(granted),
        node("more", resources={"memory": 100_000_000})(granted),
    ]
    found = Pipeline(nodes).run({"x": 1}, config=config)
    assert (found["plain"], found["one"]) == ({}, {})
    assert found["two"] == {"CPU": 2.0}
    assert found["more"] == {"memory": 100_000_000.0}


def test_kinds_of_workers_that_exclude_one_another_take_turns(config):
    two = node("y", resources={"num_cpus": 2})(pid_of)
    both = node("y", resources={"num_cpus": 2, "memory": 1_000_000})(pid_of)
    for each in (two, both, two):
        assert Pipeline([each]).run({"x": 1}, config=config)["y"] != os.getpid()


def test_a_map_whose_nodes_need_much_is_done(config):
    pipeline = single(lambda x: x, resources={"num_cpus": 2})
    assert pipeline.map(items(300), map_over="x", config=config) == [{"y": x} for x in range(300)]


# ---------------------------------------------------------------- Ray inside and beside


def test_nodes_may_use_ray_themselves(config):
    @ray.remote
    def there(x):
        return x + 1

    def work(x):
        return ray.get(there.remote(x))

    found = single(work).map(items(8), map_over="x", config=config)
    assert found == [{"y": x + 1} for x in range(8)]


def test_the_program_may_use_the_same_ray(config):
    pids(config)
    assert ray.get([ray.remote(lambda x: x).remote(x) for x in range(4)]) == [0, 1, 2, 3]


def test_several_executors_share_one_ray(config):
    with RayExecutor(num_cpus=1, chunksize=1) as other:
        assert len(pids(RuntimeConfig(executor=other), 5)) == 1
        assert not pids(RuntimeConfig(executor=other), 5) & pids(config)
    assert pids(config)


def test_another_cluster_than_that_of_the_program_is_refused(config):
    pids(config)
    there = ray.get_runtime_context().gcs_address
    with RayExecutor(ray_address=there, num_cpus=1) as same:
        assert pids(RuntimeConfig(executor=same))
    with pytest.raises(HyperNodesError, match="connected to the Ray at"):
        pids(RuntimeConfig(executor=RayExecutor(ray_address="127.0.0.1:9")))


def test_a_node_may_have_another_ray_executor(config):
    with RayExecutor(num_cpus=1, chunksize=1) as other:
        there = RuntimeConfig(executor=other)
        nodes = [node("a")(pid_of), node("b", config=there)(lambda a: (a, os.getpid()))]
        found = Pipeline(nodes, config=config).map(items(5), map_over="x")
    assert all(each["b"][0] != each["b"][1] for each in found)


def test_what_a_node_runs_on_an_equal_executor_runs_right_there(config):
    def outer(x):
        return single(pid_of).map(items(3), map_over="x", config=config), os.getpid()

    for each in single(outer).map(items(4), map_over="x", config=config):
        inner, pid = each["y"]
        assert inner == [{"y": pid}] * 3


@pytest.mark.parametrize("inside", ["thread", "async", "sequential"])
def test_items_run_on_ray_and_their_nodes_inside(executor, inside):
    composite = CompositeExecutor(map_executor=executor, node_executor=inside)
    config = RuntimeConfig(executor=composite)

    async def double(x):
        return 2 * x

    nodes = [node("a")(double), node("b")(lambda x: os.getpid()), node("c")(lambda a, b: (a, b))]
    found = Pipeline(nodes).map(items(30), map_over="x", output_name="c", config=config)
    assert [each["c"][0] for each in found] == [2 * x for x in range(30)]
    assert os.getpid() not in {each["c"][1] for each in found}


# ---------------------------------------------------------------- opened, and what hooks fill in


class Filling(Callback):
    def __init__(self, **options):
        self.options = options
        self.told = []

    def on_executor_start(self, executor, options):
        self.told.append(("start", executor, dict(options)))
        options.update(self.options)

    def on_executor_stop(self, executor, options):
        self.told.append(("stop", executor, dict(options)))


def test_hooks_hear_of_opening_and_closing(executor):
    hook = Filling()
    config = RuntimeConfig(executor=RayExecutor(num_cpus=1, chunksize=2), callbacks=[hook])
    pids(config)
    pids(config)
    config.executor.close()
    assert hook.told == [("start", config.executor, {}), ("stop", config.executor, {})]


def test_unknown_options_of_hooks_are_refused(executor):
    hook = Filling(placement_groups=[])
    config = RuntimeConfig(executor=RayExecutor(num_cpus=1, chunksize=3), callbacks=[hook])
    with pytest.raises(InputError, match="did you mean 'placement_group'"):
        pids(config)
    hook.options = {"init_kwargs": 1}
    with pytest.raises(InputError, match="has to be a dict"):
        pids(config)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"placement_group": "x"}, "has to be a PlacementGroup, its bundles, .*, not 'x'"),
        ({"placement_group": [{"CPU": "x"}]}, "has to be a PlacementGroup, its bundles"),
        ({"placement_group": {"strategy": "PACK"}}, "that has 'bundles', not"),
        ({"placement_group": [{}]}, "Ray refuses the option 'placement_group': "),
        ({"placement_group": {"bundles": [{"CPU": 1}], "strategies": 3}}, "'strategies'"),
        ({"timeout": -1}, "a number of seconds, more than 0, not -1"),
        ({"timeout": "long"}, "a number of seconds"),
    ],
)
def test_options_of_hooks_that_mean_nothing_are_refused(config, options, message):
    pids(config)
    config = RuntimeConfig(executor=RayExecutor(num_cpus=1, chunksize=3))
    with pytest.raises(InputError, match=message) as caught:
        pids(config.replace(callbacks=[Filling(**options)]))
    assert caught.value.name in options


def test_a_runtime_env_reaches_workers_and_hooks_may_add_to_it(config):
    pids(config)
    hook = Filling(runtime_env={"env_vars": {"THEIRS": "2"}})
    other = RayExecutor(num_cpus=1, runtime_env={"env_vars": {"OURS": "1"}})
    there = RuntimeConfig(executor=other, callbacks=[hook])
    with other:
        found = single(lambda x: (os.environ["OURS"], os.environ["THEIRS"])).run(
            {"x": 1}, config=there
        )
    assert found == {"y": ("1", "2")}


def test_workers_run_in_a_placement_group(config):
    def group(x):
        found = ray.util.get_current_placement_group()
        return None if found is None else found.id.hex()

    pids(config)
    hook = Filling(placement_group=[{"CPU": 1}])
    other = RuntimeConfig(executor=RayExecutor(chunksize=4), callbacks=[hook])
    with other.executor:
        names = {each["y"] for each in single(group).map(items(9), map_over="x", config=other)}
        assert len(names) == 1
        assert None not in names
        assert len(pids(other)) == 1
        with pytest.raises(ResourceError):
            single(group, resources={"num_cpus": 2}).run({"x": 1}, config=other)
    assert single(group).run({"x": 1}, config=config) == {"y": None}


def test_a_placement_group_that_no_node_has_room_for_is_refused(config):
    pids(config)
    hook = Filling(placement_group={"bundles": [{"CPU": 1}, {"GPU": 1}], "strategy": "SPREAD"})
    other = RuntimeConfig(executor=RayExecutor(chunksize=5), callbacks=[hook])
    with pytest.raises(ResourceError) as caught:
        pids(other)
    assert caught.value.resource == "GPU"
    assert "1 of 'GPU', which no node has; " in str(caught.value)
    assert pids(config)


def is_open(executor):
    """Say, in a worker, whether an executor has opened anything."""
    from hypernodes._engine.workers import REGISTRY

    return executor in REGISTRY._open


def test_an_executor_that_differs_runs_right_in_the_worker_whose_cluster_it_leads_to(config):
    @node(output_name="z")
    def outer(x):
        other = RuntimeConfig(executor=RayExecutor(num_cpus=2, chunksize=1))
        rows = single(lambda x: x + 1).map({"x": [x] * 3}, map_over="x", config=other)
        return [row["y"] for row in rows], is_open(other.executor)

    found = Pipeline([outer]).map({"x": range(6)}, map_over="x", config=config)
    assert [row["z"] for row in found] == [([x + 1] * 3, False) for x in range(6)]
    both = CompositeExecutor(
        map_executor=config.executor, node_executor=RayExecutor(num_cpus=2, chunksize=1)
    )
    found = single(lambda x: x + 1).map(
        {"x": range(6)}, map_over="x", config=RuntimeConfig(executor=both)
    )
    assert [row["y"] for row in found] == list(range(1, 7))
