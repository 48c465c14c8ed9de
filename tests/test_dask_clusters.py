"""Which Dask cluster is used, how it is opened and ended, and what is refused or lost there."""

import os
import pickle
import threading
import time

import pytest
from pydantic import ValidationError

from hypernodes import (
    Callback,
    DaskExecutor,
    HyperNodesError,
    Pipeline,
    RuntimeConfig,
    node,
)
from hypernodes._engine.workers import REGISTRY
from remote_dask import RemoteDask, is_alive, wait_until

distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="session")
def remote(tmp_path_factory):
    """Two workers: one with two threads and devices, one with one thread and little memory."""
    remote = RemoteDask(tmp_path_factory.mktemp("dask"))
    remote.add("big", "--nthreads", "2", "--memory-limit", "0", "--resources", "GPU=1,disk=2")
    remote.add("small", "--nthreads", "1", "--memory-limit", "1GB")
    with distributed.Client(remote.address, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=60)
    yield remote
    remote.end()


@pytest.fixture(scope="module")
def executor(remote):
    with DaskExecutor(scheduler_address=remote.address) as executor:
        yield executor


@pytest.fixture
def config(executor):
    return RuntimeConfig(executor=executor)


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


def pids(config, count=20):
    found = single(pid_of).map({"x": range(count)}, map_over="x", config=config)
    return {each["y"] for each in found}


def pids_of(remote):
    return {process.pid for process in remote.workers.values()}


# ---------------------------------------------------------------- what it is


def test_it_is_a_value():
    one = DaskExecutor("tcp://host:8786", "threads", 2, 5)
    assert one == DaskExecutor(
        scheduler_address="tcp://host:8786", scheduler="threads", num_workers=2, chunksize=5
    )
    assert pickle.loads(pickle.dumps(one)) == one
    assert hash(pickle.loads(pickle.dumps(one))) == hash(one)
    assert RuntimeConfig(executor="dask").executor == DaskExecutor()
    config = RuntimeConfig(executor=one)
    assert RuntimeConfig(**config.model_dump(mode="json")) == config


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("", "no address of a scheduler"),
        ("tcp://host", "a host and a port"),
        ("tcp://host:port", "a host and a port"),
        ("tcp://:8786", "a host and a port"),
        ("host:99999", "a host and a port"),
        ("tpc://host:8786", "did you mean 'tcp'"),
    ],
)
def test_an_address_that_can_be_none_is_refused(address, message):
    with pytest.raises(ValidationError, match=message):
        DaskExecutor(scheduler_address=address)


@pytest.mark.parametrize(
    "fields", [{"num_workers": 0}, {"chunksize": 0}, {"scheduler": "process"}, {"workers": 2}]
)
def test_fields_are_checked(fields):
    with pytest.raises(ValidationError):
        DaskExecutor(**fields)


# ---------------------------------------------------------------- a cluster at an address


def test_a_cluster_at_an_address_is_used(remote, config):
    assert pids(config) <= pids_of(remote)
    assert os.getpid() not in pids(config)


def test_what_others_do_there_is_left_alone_and_nothing_is_left_behind(remote):
    def state(dask_scheduler):
        return {
            "tasks": sorted(map(str, dask_scheduler.tasks)),
            "clients": len(dask_scheduler.clients),
            "plugins": sorted(dask_scheduler.plugins),
            "workers": sorted(dask_scheduler.workers),
        }

    with distributed.Client(remote.address, set_as_default=False) as client:
        kept = client.scatter({"theirs": [1, 2, 3]})
        slow = client.submit(time.sleep, 1, pure=False)
        wait_until(lambda: slow.key in client.run_on_scheduler(state)["tasks"])
        before = client.run_on_scheduler(state)
        with DaskExecutor(scheduler_address=remote.address, chunksize=3) as executor:
            assert len(pids(RuntimeConfig(executor=executor), 50)) >= 1
        wait_until(lambda: client.run_on_scheduler(state) == before)
        assert slow.result(timeout=60) is None
        assert kept["theirs"].result(timeout=60) == [1, 2, 3]
        assert all(is_alive(pid) for pid in pids_of(remote))


def test_equal_executors_share_their_connection(remote, executor, config):
    pids(config)
    workers = REGISTRY._open[executor]
    equal = DaskExecutor(scheduler_address=remote.address)
    pids(RuntimeConfig(executor=equal))
    assert REGISTRY._open[equal] is workers


def test_nobody_at_the_address_is_said_soon():
    executor = DaskExecutor(scheduler_address="tcp://127.0.0.1:9")
    config = RuntimeConfig(executor=executor, callbacks=[Start(init_kwargs={"timeout": 1})])
    before = set(threading.enumerate())
    with pytest.raises(HyperNodesError, match=r"no Dask scheduler .* 'tcp://127.0.0.1:9'") as found:
        single(pid_of).run({"x": 1}, config=config)
    assert "see whether it is up" in str(found.value)
    wait_until(lambda: not lasting(before))


def lasting(before):
    """Return threads of connections and of ours that were not there before."""
    names = ("IO loop", "hypernodes", "AsyncProcess", "Profile")
    return [t for t in set(threading.enumerate()) - before if t.name.startswith(names)]


class Start(Callback):
    def __init__(self, **options):
        self.options = options
        self.told = []

    def on_executor_start(self, executor, options):
        self.told.append("start")
        options.update(self.options)

    def on_executor_stop(self, executor, options):
        self.told.append(("stop", dict(options) == self.options))
