"""Which Ray is used, and how it is left: that of the program, one at an address, or our own."""

import importlib
import os
import re
import sys
import textwrap
import threading
import time
from concurrent import futures
from pathlib import Path

import pytest
from pydantic import ValidationError

from checker import Checker
from hypernodes import (
    Callback,
    HyperNodesError,
    NodeTimeoutError,
    Pipeline,
    RayExecutor,
    ResourceError,
    RuntimeConfig,
    node,
    report,
)
from hypernodes._engine.clusters import stuck
from hypernodes._engine.workers import REGISTRY
from hypernodes.backends import RemoteBackend
from hypernodes.testing._work import Gate, Marks
from remote_dask import is_alive, somebody_else, wait_until

ray = pytest.importorskip("ray")
cluster_utils = pytest.importorskip("ray.cluster_utils")

from hypernodes._engine.clusters import ray as ray_adapter  # noqa: E402 - needs Ray
from hypernodes._engine.clusters import ray_home, ray_watch  # noqa: E402 - needs Ray

LIMIT = 120


@pytest.fixture(scope="module")
def cluster():
    """Two nodes, one of them with something special."""
    cluster = cluster_utils.Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
    )
    cluster.add_node(num_cpus=1, resources={"special": 1})
    yield cluster
    cluster.shutdown()


@pytest.fixture(scope="module")
def executor(cluster):
    with RayExecutor(ray_address=cluster.address) as executor:
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


def single(function, **options):
    return Pipeline([node("y", **options)(function)], name="single")


def pids(config):
    found = single(lambda x: os.getpid()).map({"x": range(40)}, map_over="x", config=config)
    return {each["y"] for each in found}


def places(config):
    found = single(lambda x: ray.get_runtime_context().get_node_id()).map(
        {"x": range(40)}, map_over="x", config=config
    )
    return {each["y"] for each in found}


def await_places(config, count):
    """Wait until so many nodes have run something."""
    found = set()
    wait_until(lambda: len(found.update(places(config)) or found) == count)


# ---------------------------------------------------------------- at an address


@pytest.mark.parametrize("address", ["", "ray://host:10001"])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(ValidationError, match="host:port"):
        RayExecutor(ray_address=address)


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("127.0.0.1:9", "nothing listens there; see whether it is up"),
        ("no..host:6379", r"the host 'no..host' is not known here; see whether its name is right"),
        ("host.invalid:6379", "the host 'host.invalid' is not known here"),
    ],
)
def test_an_address_where_nobody_is_is_told_soon(address, problem):
    config = RuntimeConfig(executor=RayExecutor(ray_address=address))
    with pytest.raises(HyperNodesError, match=f"no Ray can be reached at '{address}': {problem}"):
        pids(config)


@pytest.mark.parametrize("words", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b""])
def test_whoever_is_no_ray_is_not_waited_for(words, monkeypatch):
    monkeypatch.setattr(ray_home, "GREETS_IN", 1.0)
    with somebody_else(words) as where:
        config = RuntimeConfig(executor=RayExecutor(ray_address=where))
        with pytest.raises(HyperNodesError, match=f"'{where}' .*who listens there is no Ray"):
            pids(config)


def test_all_nodes_are_used(config):
    await_places(config, 2)


def test_workers_there_stay_where_they_are(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYPERNODES_TEST", "here")
    found = single(lambda x: (str(Path.cwd()), os.environ.get("HYPERNODES_TEST"))).run(
        {"x": 1}, config=config
    )["y"]
    assert found[0] != str(tmp_path)
    assert found[1] is None


def test_so_many_cpus_are_used_at_the_most(cluster, config):
    pids(config)
    with RayExecutor(ray_address=cluster.address, num_cpus=1) as one:
        assert len(pids(RuntimeConfig(executor=one))) == 1


def test_nodes_run_where_their_resources_are(config):
    pids(config)  # so that this program is connected
    there = {each["NodeID"] for each in ray.nodes() if "special" in each["Resources"]}
    where = node("y", resources={"special": 0.5})(lambda x: ray.get_runtime_context().get_node_id())
    found = Pipeline([where]).map({"x": range(5)}, map_over="x", config=config)
    assert {each["y"] for each in found} == there
    with pytest.raises(ResourceError):
        Pipeline([where.with_options(resources={"special": 2})]).run({"x": 1}, config=config)


def test_closing_ends_our_workers_and_leaves_the_cluster(cluster, config):
    before = pids(config)
    config.executor.close()
    wait_until(lambda: not any(map(is_alive, before)))
    assert not ray.is_initialized()
    assert not pids(config) & before


def test_nodes_that_come_are_used_and_what_is_lost_with_them_is_made_again(
    cluster, config, marks, gate
):
    places(config)
    new = cluster.add_node(num_cpus=1, resources={"new": 1})
    await_places(config, 3)
    (gone,) = (
        each["NodeID"] for each in ray.nodes() if each["Alive"] and "new" in each["Resources"]
    )

    def made(x):
        marks.leave("made")
        return bytes(2_000_000)

    def waits(made):
        marks.leave("waits")
        gate.wait()
        return 1

    def after(made, waited):
        return len(made)

    # The first time there is only one place for it; when that is gone, there is another.
    nodes = [
        node("made", resources={"new": 1})(made),
        node("waited")(waits),
        node("after")(after),
    ]
    found = {}
    running = threading.Thread(
        target=lambda: found.update(
            Pipeline(nodes).run({"x": 1}, output_name="after", config=config)
        )
    )
    running.start()
    wait_until(lambda: marks.count("waits"))
    cluster.remove_node(new)
    cluster.add_node(num_cpus=1, resources={"new": 1})
    wait_until(lambda: gone not in REGISTRY._open[config.executor]._cluster._there)
    gate.open()
    running.join(LIMIT)
    assert found == {"after": 2_000_000}
    assert marks.count("made") == 2


# ---------------------------------------------------------------- programs of their own

START = """
    import os, signal, sys, threading, time
    from pathlib import Path
    from hypernodes import HyperNodesError, Pipeline, RayExecutor, RuntimeConfig, node

    config = RuntimeConfig(executor=RayExecutor(num_cpus=2))

    def single(function, **options):
        return Pipeline([node("y", **options)(function)])

    def pids(count=20):
        found = single(lambda x: os.getpid()).map({"x": range(count)}, map_over="x", config=config)
        return {each["y"] for each in found}

    def children():
        found = {}
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                head, _, rest = path.read_text().rpartition(")")
            except OSError:
                continue
            if int(rest.split()[1]) == os.getpid():
                found[head.partition("(")[2]] = int(head.split()[0])
        return found
"""


def program(source):
    return textwrap.dedent(START) + textwrap.dedent(source)


def test_modules_are_found_where_the_driver_finds_them(config, tmp_path, monkeypatch):
    source = "class Thing:\n    pass\n"
    (tmp_path / "beside_a_driver_of_ray.py").write_text(source, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    thing = importlib.import_module("beside_a_driver_of_ray").Thing
    pipeline = Pipeline([node("y")(lambda x: x)])
    assert type(pipeline.run({"x": thing()}, config=config)["y"]) is thing


def test_a_ray_that_the_program_has_initialised_is_used_and_left_running(run_script):
    run_script(
        program("""
    import ray

    options = {"include_dashboard": False, "log_to_driver": False, "logging_level": 50}
    ray.init("local", num_cpus=2, **options)

    @ray.remote(num_cpus=1)
    class Counter:
        def count(self):
            return 1

    counters = [Counter.remote() for _ in range(2)]  # all CPUs are taken
    assert ray.get([counter.count.remote() for counter in counters]) == [1, 1]
    here = os.environ.setdefault("HYPERNODES_TEST", "here")
    first = pids()
    assert os.getpid() not in first
    env = RayExecutor(num_cpus=1, runtime_env={"env_vars": {"MINE": "1"}})
    found = single(lambda x: (os.environ.get("MINE"), os.environ.get("HYPERNODES_TEST")))
    assert found.run({"x": 1}, config=RuntimeConfig(executor=env)) == {"y": ("1", None)}
    env.close()
    config.executor.close()
    assert ray.is_initialized()
    assert ray.get([counter.count.remote() for counter in counters]) == [1, 1]
    assert not pids() & first
    config.executor.close()
    ray.shutdown()
    assert pids()  # now on one of our own
    ray.shutdown()
    assert pids()  # on another one
    """),
        seconds=240,
    )


def test_a_ray_that_is_left_while_it_is_looked_at_is_none(monkeypatch):
    here, is_initialized = threading.current_thread(), ray.is_initialized
    answers = iter([True, False])

    def left_meanwhile():
        return next(answers) if threading.current_thread() is here else is_initialized()

    with monkeypatch.context() as patch:
        patch.setattr(ray, "is_initialized", left_meanwhile)
        assert ray_watch.connection() == ""


@pytest.mark.parametrize("seconds", [0.0, 0.1])
def test_nothing_starts_a_ray_when_the_program_has_left_it(run_script, seconds):
    run_script(
        program(f"""
    import ray

    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=50)
    assert pids()
    time.sleep({seconds})
    ray.shutdown()
    time.sleep(2)
    assert not ray.is_initialized()
    """),
        seconds=240,
    )


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
@pytest.mark.parametrize("part", ["gcs_server", "raylet"])
def test_a_cluster_that_is_gone_is_told_soon_and_the_program_goes_on(run_script, part):
    run_script(
        program(f"""
    assert pids()

    def stuck(x):
        Path(f"begun-{{x}}").touch()
        time.sleep(600)

    def end():
        while not Path("begun-1").exists():
            time.sleep(0.01)
        os.kill(children()[{part!r}], signal.SIGKILL)

    threading.Thread(target=end).start()
    try:
        single(stuck).map({{"x": [1, 2]}}, map_over="x", config=config)
    except HyperNodesError as error:
        assert "the connection to Ray was lost" in str(error)
    else:
        raise AssertionError
    assert pids()
    """),
        seconds=240,
    )


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_nothing_is_left_of_a_driver_that_is_killed(run_script, tmp_path):
    run_script(
        program("""
    found = pids() | set(children().values())
    Path("pids").write_text(" ".join(map(str, found)))
    os.kill(os.getpid(), signal.SIGKILL)
    """),
        status=-9,
        seconds=240,
    )
    found = [int(pid) for pid in (tmp_path / "pids").read_text(encoding="utf-8").split()]
    assert len(found) > 3
    wait_until(lambda: not any(map(is_alive, found)))


def test_a_script_needs_no_guard_and_its_functions_reach_workers(run_script):
    result = run_script(
        program("""
    print("once")

    class Point:
        def __init__(self, x):
            self.x = x

    def moved(point):
        return Point(point.x + 1)

    nodes = [node("point")(lambda x: Point(x)), node("y")(moved)]
    found = Pipeline(nodes).run({"x": 1}, config=config)
    assert type(found["y"]) is Point
    assert found["y"].x == 2
    seen = set()
    while len(seen) < 2:
        seen |= pids()
    """),
        seconds=240,
    )
    assert result.stdout == "once\n"


# ---------------------------------------------------------------- whole pipelines


def test_a_late_call_that_never_lets_go_of_the_lock_is_ended_with_its_worker(executor, monkeypatch):
    monkeypatch.setattr(stuck, "SILENCE", 4.0)
    checker = Checker()
    config = RuntimeConfig(executor=executor, timeout=0.5, callbacks=[checker])
    never = single(lambda x: re.match(r"(a+)+$", "a" * 60 + "b"))
    with pytest.raises(NodeTimeoutError) as caught:
        never.run({"x": 1}, config=config)
    assert caught.value.timeout == 0.5
    assert single(lambda x: x + 1).run({"x": 1}, config=config) == {"y": 2}
    checker.check()


def test_that_no_worker_comes_up_is_logged(cluster, executor, config, monkeypatch, caplog):
    pids(config)
    monkeypatch.setattr(ray_adapter, "LATE", 0.1)
    lost = RayExecutor(cluster.address, runtime_env={"py_executable": "/no/such/python"})
    with futures.ThreadPoolExecutor(1) as thread:
        running = thread.submit(pids, RuntimeConfig(executor=lost))
        wait_until(lambda: "a run waits for a Ray worker" in caplog.text)
        lost.close()
        with pytest.raises(HyperNodesError):
            running.result(LIMIT)
    assert caplog.records[0].name == "hypernodes.clusters"


@pytest.fixture(scope="module")
def backend(cluster):
    with RemoteBackend(kind="ray", address=cluster.address) as backend:
        yield backend


@pytest.mark.parametrize("kind", ["sequential", "thread", "async", "process"])
def test_whole_pipelines_run_there(backend, kind):
    checker = Checker()
    config = RuntimeConfig(backend=backend, executor=kind, callbacks=[checker])

    def fail_at_three(x):
        if x == 3:
            raise ValueError(x)
        return os.getpid()

    pipeline = Pipeline([node("y")(fail_at_three), node("z")(lambda y: y)], name="whole")
    run = pipeline.run({"x": 1}, config=config)
    mapped = pipeline.map({"x": range(60)}, map_over="x", config=config, on_error="return")
    assert os.getpid() not in run.values()
    failure = mapped.pop(3)
    assert (failure.index, failure.inputs) == (3, {"x": 3})
    assert failure.error.__notes__ == [
        "hypernodes: in node 'fail_at_three' of pipeline 'whole', item 3"
    ]
    assert os.getpid() not in {each["z"] for each in mapped}
    assert all(each["y"] == each["z"] for each in mapped) or kind == "process"
    checker.check()


@pytest.mark.parametrize("by_address", [False, True])
def test_whole_pipelines_have_the_cluster_for_an_executor_of_its_kind(
    cluster, backend, tmp_path, by_address
):
    def meet(name):
        def meeting(x):
            (tmp_path / name).touch()
            end = time.monotonic() + LIMIT
            while len(list(tmp_path.iterdir())) < 2 and time.monotonic() < end:
                time.sleep(0.01)
            return os.getpid()

        return node(name)(meeting)

    executor = RayExecutor(ray_address=cluster.address if by_address else None)
    config = RuntimeConfig(backend=backend, executor=executor)
    assert len({*Pipeline([meet("a"), meet("b")]).run({"x": 1}, config=config).values()}) == 2
    found = single(lambda x: x + 1).map({"x": range(30)}, map_over="x", config=config)
    assert found == [{"y": x + 1} for x in range(30)]


def test_what_goes_on_in_whole_pipelines_is_told_while_they_run(backend, tmp_path):
    def wait(x):
        report("begun", x=x)
        end = time.monotonic() + LIMIT
        while not (tmp_path / f"{x}").exists() and time.monotonic() < end:
            time.sleep(0.01)
        return (tmp_path / f"{x}").exists()

    class Answers(Callback):
        def on_report(self, data):
            (tmp_path / f"{data['x']}").touch()

    checker = Checker()
    config = RuntimeConfig(backend=backend, executor="thread", callbacks=[Answers(), checker])
    assert single(wait).run({"x": 100}, config=config) == {"y": True}
    assert single(wait).map({"x": range(8)}, map_over="x", config=config) == [{"y": True}] * 8
    checker.check()


def test_what_is_lost_with_a_worker_of_ray_is_told_to_one_end(backend, tmp_path):
    def dies(x):
        end = time.monotonic() + LIMIT
        while not (tmp_path / "told").exists() and time.monotonic() < end:
            time.sleep(0.01)
        if not (tmp_path / "died").exists():
            (tmp_path / "died").touch()
            os._exit(1)
        return x

    class Answers(Callback):
        def on_node_start(self):
            (tmp_path / "told").touch()

    checker = Checker()
    config = RuntimeConfig(backend=backend, executor="thread", callbacks=[Answers(), checker])
    assert single(dies).run({"x": 1}, config=config) == {"y": 1}
    checker.check()
    assert checker.hooks("dies") == ["on_node_start", "on_node_retry", "on_node_end"]


def test_closing_ends_whole_pipelines_there(cluster, tmp_path):
    def work(x):
        (tmp_path / f"{os.getpid()}").touch()
        time.sleep(600)

    backend = RemoteBackend(kind="ray", address=cluster.address)
    config = RuntimeConfig(backend=backend, executor="sequential")
    found = futures.ThreadPoolExecutor(1).submit(single(work).run, {"x": 1}, config=config)
    wait_until(lambda: list(tmp_path.iterdir()))
    backend.close()
    with pytest.raises(HyperNodesError, match="closed in the middle"):
        found.result(timeout=LIMIT)
    (pid,) = (int(path.name) for path in tmp_path.iterdir())
    wait_until(lambda: not is_alive(pid))


def test_an_address_where_no_ray_is_is_told_to_a_backend_too():
    config = RuntimeConfig(backend=RemoteBackend("ray", "127.0.0.1:9"))
    with pytest.raises(HyperNodesError, match=r"127\.0\.0\.1:9"):
        pids(config)
