"""Which Dask cluster is used, how it is opened and ended, and what is refused or lost there."""

import asyncio
import ctypes
import os
import pickle
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent import futures
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from pydantic import ValidationError

from checker import Checker
from hypernodes import (
    CacheSpec,
    Callback,
    CompositeExecutor,
    DaskExecutor,
    Failure,
    HyperNodesError,
    InputError,
    NodeTimeoutError,
    Pipeline,
    ResourceError,
    RuntimeConfig,
    ThreadPoolExecutor,
    node,
)
from hypernodes._engine.clusters import lifeline, stuck
from hypernodes._engine.clusters.fitness import workers_of
from hypernodes._engine.workers import REGISTRY
from remote_dask import RemoteDask, is_alive, somebody_else, wait_until

distributed = pytest.importorskip("distributed")

from hypernodes._engine.clusters.dask import DaskCluster  # noqa: E402 - needs distributed


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


def test_a_client_in_the_place_of_an_address_is_refused_with_what_to_do():
    client = type("Client", (), {})()
    with pytest.raises(ValidationError, match=r"not a Client; .* found without it.*\['client'\]"):
        DaskExecutor(client)


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

        def is_as_before():
            after = client.run_on_scheduler(state)
            fixed = ("plugins", "workers")
            return (
                all(after[name] == before[name] for name in fixed)
                and after["clients"] <= before["clients"]  # others may have left meanwhile
                and slow.key in after["tasks"]
                and set(after["tasks"]) <= set(before["tasks"])
            )

        wait_until(is_as_before)
        assert slow.result(timeout=60) is None
        assert kept["theirs"].result(timeout=60) == [1, 2, 3]
        assert all(is_alive(pid) for pid in pids_of(remote))


def test_workers_are_not_forgotten_where_another_question_is_answered_meanwhile(
    remote, monkeypatch
):
    scheduler_info = distributed.Client.scheduler_info

    def of_another(client, n_workers=-1):
        return scheduler_info(client, n_workers=0)

    monkeypatch.setattr(distributed.Client, "scheduler_info", of_another)
    with DaskExecutor(scheduler_address=remote.address) as executor:
        wait_until(lambda: pids(RuntimeConfig(executor=executor)) == pids_of(remote))
        cluster = REGISTRY._open[executor]._cluster
        wait_until(lambda: cluster._changes > 0)  # it has looked around again
        assert pids(RuntimeConfig(executor=executor)) <= pids_of(remote)
        assert not cluster.is_over


def test_workers_that_are_there_are_told_first_though_another_one_joins_meanwhile():
    class Busy:
        id = "ours"
        loop = SimpleNamespace(add_callback=lambda *_: None, call_later=None)
        scheduler = SimpleNamespace(identity=None)

        def sync(self, _, **options):
            return {"workers": {"tcp://here:1": {"nthreads": 2}}}

        def subscribe_topic(self, _, hear):
            hear((0.0, {"action": "add-worker", "worker": "tcp://there:1"}))

    letters, joined = [], []
    listener = SimpleNamespace(later=letters.append, joined=lambda *facts: joined.append(facts))
    lifeline = SimpleNamespace(scheduler="name", watch=lambda *_: None, stop=lambda: None)
    cluster = DaskCluster(Busy(), lifeline, None, closing=[])
    cluster.open(listener)
    for letter in tuple(letters):
        letter()
    assert joined == [("tcp://here:1", 2)]
    cluster.close()


def test_equal_executors_share_their_connection(remote, executor, config):
    pids(config)
    workers = REGISTRY._open[executor]
    equal = DaskExecutor(scheduler_address=remote.address)
    pids(RuntimeConfig(executor=equal))
    assert REGISTRY._open[equal] is workers


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("tcp://127.0.0.1:9", "nothing listens there; see whether it is up, and whether the port"),
        ("tls://127.0.0.1:9", "nothing listens there; see whether it is up, and whether the port"),
        ("tcp://no..host:8786", "the host 'no..host' is not known here; see whether its name"),
    ],
)
def test_nobody_at_the_address_is_said_soon(address, told):
    config = RuntimeConfig(executor=DaskExecutor(scheduler_address=address))
    before = set(threading.enumerate())
    with pytest.raises(HyperNodesError, match=f"no Dask scheduler .* '{address}': {told}"):
        single(pid_of).run({"x": 1}, config=config)
    wait_until(lambda: not lasting(before))


def test_a_scheduler_that_is_about_to_start_is_waited_for_as_long_as_asked(cluster):
    cluster.end_scheduler()
    with DaskExecutor(cluster.address) as executor, futures.ThreadPoolExecutor(1) as thread:
        patient = Start(init_kwargs={"timeout": 60})
        config = RuntimeConfig(executor=executor, callbacks=[patient])
        running = thread.submit(pids, config)
        wait_until(lambda: patient.told)
        cluster.start()
        pid = cluster.add("one")
        assert running.result(120) == {pid}


def test_whoever_speaks_another_language_is_no_scheduler():
    with somebody_else(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 50) as where:
        config = RuntimeConfig(executor=DaskExecutor(f"tcp://{where}"))
        with pytest.raises(HyperNodesError, match=f"answers at 'tcp://{where}' is no Dask sched"):
            pids(config)


def test_whoever_is_no_scheduler_is_not_taken_for_one():
    with socket.create_server(("127.0.0.1", 0)) as server:  # says nothing
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        impatient = Start(init_kwargs={"timeout": "500 ms"})
        config = RuntimeConfig(executor=DaskExecutor(address), callbacks=[impatient])
        with pytest.raises(HyperNodesError, match=f"no Dask scheduler .* '{address}' .*TLS"):
            pids(config)


def lasting(before):
    """Return threads of connections and pools that were not there before."""
    names = ("IO loop", "hypernodes-cluster", "hypernodes-dask-loop", "hypernodes-dask-lifeline")
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


# ---------------------------------------------------------------- the client of a program


def test_the_client_of_a_program_is_used_and_left_running(remote):
    executor = DaskExecutor()
    with distributed.Client(remote.address) as client:
        assert pids(RuntimeConfig(executor=executor)) <= pids_of(remote)
        executor.close()
        assert client.status == "running"
        assert client.submit(int, 3).result(timeout=60) == 3


def test_a_cluster_in_threads_of_the_program_is_used_and_left_running():
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=2, processes=False, dashboard_address=":0"
        ) as cluster,
        distributed.Client(cluster) as client,
        DaskExecutor() as executor,
    ):
        assert pids(RuntimeConfig(executor=executor)) == {os.getpid()}
        executor.close()
        assert client.submit(int, 3).result(timeout=60) == 3


def test_a_run_after_the_client_was_closed_opens_anew(remote):
    with DaskExecutor(num_workers=1) as executor:
        config = RuntimeConfig(executor=executor)
        with distributed.Client(remote.address):
            assert pids(config) <= pids_of(remote)
        (own,) = pids(config)
        assert own not in pids_of(remote)
        with distributed.Client(remote.address):
            assert pids(config) <= pids_of(remote)
        wait_until(lambda: not is_alive(own))


def test_each_run_uses_the_client_that_is_the_default_then(remote, cluster):
    pid = cluster.add("one")
    with DaskExecutor() as executor:
        config = RuntimeConfig(executor=executor)
        with distributed.Client(remote.address):
            assert pids(config) <= pids_of(remote)
            with distributed.Client(cluster.address):
                assert pids(config) == {pid}
            assert pids(config) <= pids_of(remote)


def test_a_client_that_was_closed_in_the_middle_of_a_map_changes_nothing(remote, tmp_path):
    with DaskExecutor(chunksize=1) as executor:
        client = distributed.Client(remote.address)

        def work(x):
            time.sleep(0.01)
            return x

        found = single(work).map_iter(
            {"x": range(50)}, map_over="x", config=RuntimeConfig(executor=executor)
        )
        assert next(found) == {"y": 0}
        client.close()
        assert [each["y"] for each in found] == list(range(1, 50))


# ---------------------------------------------------------------- a cluster of our own


@pytest.fixture(scope="module")
def own():
    with DaskExecutor(num_workers=2) as executor:
        yield executor


def test_a_cluster_of_our_own_has_the_workers_that_were_asked_for(own):
    config = RuntimeConfig(executor=own)
    pids(config)
    assert REGISTRY._open[own].size == 2


def never_lets_go(x):
    """Hold Python's lock as long as it takes a regular expression to try all ways."""
    return re.match(r"(a+)+$", "a" * 60 + "b") if x == 3 else x


def test_a_late_call_that_never_lets_go_of_the_lock_is_ended_with_its_worker(own, monkeypatch):
    monkeypatch.setattr(stuck, "SILENCE", 4.0)
    checker = Checker()
    config = RuntimeConfig(executor=own, timeout=0.5, callbacks=[checker])
    found = single(never_lets_go).map(
        {"x": range(8)}, map_over="x", config=config, on_error="return"
    )
    assert [each for each in found if each is not found[3]] == [
        {"y": x} for x in range(8) if x != 3
    ]
    error = found[3].error
    assert isinstance(error, NodeTimeoutError)
    assert (error.node, error.timeout) == ("never_lets_go", 0.5)
    checker.check()


def test_a_call_without_a_timeout_may_keep_the_lock_though_others_have_one(
    own, tmp_path, monkeypatch
):
    monkeypatch.setattr(stuck, "SILENCE", 1.5)

    def keeps(a):
        with (tmp_path / "ran").open("a") as file:
            file.write("r")
        ctypes.PyDLL(None).sleep(4)  # as native code may
        return a

    pipeline = Pipeline([node("a", timeout=0.5)(lambda x: x), node("y")(keeps)])
    found = pipeline.map({"x": [1]}, map_over="x", config=RuntimeConfig(executor=own))
    assert found == [{"a": 1, "y": 1}]
    assert (tmp_path / "ran").read_text() == "r"


def test_what_needs_no_worker_starts_none():
    executor = DaskExecutor(num_workers=3)
    config = RuntimeConfig(executor=executor)
    assert single(pid_of).map({"x": []}, map_over="x", config=config) == []
    with pytest.raises(InputError):
        single(pid_of).run({"z": 1}, config=config)
    assert executor not in REGISTRY._open


def test_start_up_is_paid_once_and_shared(own):
    calls = Start()
    config = RuntimeConfig(executor=DaskExecutor(num_workers=2), callbacks=[calls])
    pids(RuntimeConfig(executor=own))
    before = REGISTRY._open[own]
    pids(config)
    single(pid_of).run({"x": 1}, config=config)
    assert REGISTRY._open[own] is before
    assert calls.told == []


LEAVES = """
import gc, logging, os, threading, time
from pathlib import Path
from hypernodes import DaskExecutor, Pipeline, RuntimeConfig, node

def left():
    # Our threads, open sockets and pipes, and handlers of logs, when they have settled.
    found, settled_at = None, time.monotonic()
    while time.monotonic() < settled_at + 1.0:
        seen = now_left()
        if seen != found:
            found, settled_at = seen, time.monotonic()
        time.sleep(0.05)
    return found

def now_left():
    gc.collect()
    links = []
    for path in Path("/proc/self/fd").iterdir():
        if path.exists():
            links.append(str(path.readlink()))
    threads = {t.name for t in threading.enumerate()}
    ours = {name for name in threads if name.startswith(("hypernodes", "IO loop"))}
    handlers = logging.getLogger("distributed").handlers
    logs = [(handler, handler.level, tuple(handler.filters)) for handler in handlers]
    return ours, sum("socket" in link or "pipe" in link for link in links), logs

one = Pipeline([node("y")(lambda x: os.getpid())])

def use():
    pids = []
    for scheduler in ("processes", "threads"):
        with DaskExecutor(num_workers=1, scheduler=scheduler) as executor:
            config = RuntimeConfig(executor=executor)
            pids.append(one.map({"x": range(3)}, map_over="x", config=config)[0]["y"])
    assert pids[0] != os.getpid() == pids[1]
    assert not Path(f"/proc/{pids[0]}").exists()

use()
before = left()
use()
assert left() == before, (before, left())
"""


def test_a_cluster_of_our_own_ends_with_close_and_leaves_nothing(run_script):
    result = run_script(LEAVES, seconds=120)
    assert result.stderr == ""


OWN = """
import os, sys, time
from hypernodes import DaskExecutor, Pipeline, RuntimeConfig, node
executor = DaskExecutor(num_workers=1, scheduler={scheduler!r})
one = Pipeline([node("y")(lambda x: os.getpid())])
print(one.run({{"x": 1}}, config=RuntimeConfig(executor=executor))["y"], flush=True)
{then}
"""


@pytest.mark.parametrize("scheduler", ["processes", "threads"])
def test_a_cluster_of_our_own_ends_with_the_program_in_silence(run_script, scheduler):
    result = run_script(OWN.format(scheduler=scheduler, then=""), seconds=120)
    assert result.stderr == ""
    wait_until(lambda: not is_alive(int(result.stdout)))


def test_a_cluster_of_our_own_ends_when_the_program_is_killed(tmp_path):
    script = OWN.format(scheduler="processes", then="time.sleep(600)")
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=tmp_path
    ) as driver:
        pid = int(driver.stdout.readline())
        assert is_alive(pid)
        driver.kill()
    wait_until(lambda: not is_alive(pid))


def test_a_worker_that_was_killed_is_replaced(own):
    config = RuntimeConfig(executor=own)
    victim = pids(config).pop()
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: not is_alive(victim))
    wait_until(lambda: REGISTRY._open[own].size == 2)
    assert victim not in pids(config)


# ---------------------------------------------------------------- a start that fails


BROKEN = """
import os, sys
from hypernodes import DaskExecutor, HyperNodesError, Pipeline, RuntimeConfig, node
import hypernodes._engine.processes.server as server
server.BOOT = "import sys; sys.exit('this environment is broken')"
executor = DaskExecutor(num_workers=2)
one = Pipeline([node("y")(lambda x: x)])
for _ in range(2):
    try:
        one.run({"x": 1}, config=RuntimeConfig(executor=executor))
    except HyperNodesError as error:
        print(error)
import threading
print([t.name for t in threading.enumerate() if t.name.startswith("hypernodes")])
"""


def test_worker_processes_that_end_at_once_are_an_error_soon(run_script):
    result = run_script(BROKEN, seconds=120)
    first, second, threads = result.stdout.splitlines()
    assert "worker processes end before they begin (exit status 1)" in first
    assert second == first
    assert threads == "[]"
    assert "this environment is broken" in result.stderr


def test_what_is_waited_for_is_logged(cluster, monkeypatch, caplog):
    monkeypatch.setattr(lifeline, "LATE", 0.1)
    with DaskExecutor(cluster.address) as executor, futures.ThreadPoolExecutor(1) as thread:
        running = thread.submit(pids, RuntimeConfig(executor=executor))
        wait_until(lambda: f"start some (`dask worker {cluster.address}`)" in caplog.text)
        pid = cluster.add("one")
        assert running.result(120) == {pid}
    assert caplog.records[0].name == "hypernodes.clusters"


def test_a_cluster_without_workers_is_an_error_in_time(cluster):
    executor = DaskExecutor(scheduler_address=cluster.address)
    config = RuntimeConfig(executor=executor, callbacks=[Start(timeout=0.5)])
    with pytest.raises(HyperNodesError, match=r"no worker for 0\.5 s; start some"):
        pids(config)
    pid = cluster.add("late")
    assert pids(RuntimeConfig(executor=executor)) == {pid}
    executor.close()


# ---------------------------------------------------------------- what callbacks have a say in


def test_callbacks_hear_of_the_start_and_of_the_end(remote):
    calls = Start(init_kwargs={"name": "ours"})
    executor = DaskExecutor(scheduler_address=remote.address, chunksize=7)
    pids(RuntimeConfig(executor=executor, callbacks=[calls]))
    pids(RuntimeConfig(executor=executor, callbacks=[calls]))
    with distributed.Client(remote.address, set_as_default=False) as client:
        names = client.run_on_scheduler(lambda dask_scheduler: list(dask_scheduler.clients))
    assert any("ours" in name for name in names)
    assert calls.told == ["start"]
    executor.close()
    assert calls.told == ["start", ("stop", True)]


def test_callbacks_can_replace_the_start_by_a_client_or_a_cluster(remote):
    with distributed.Client(remote.address, set_as_default=False) as client:
        config = RuntimeConfig(executor=DaskExecutor(), callbacks=[Start(client=client)])
        assert pids(config) <= pids_of(remote)
        DaskExecutor().close()
        assert client.status == "running"
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0"
    ) as cluster:
        config = RuntimeConfig(executor=DaskExecutor(), callbacks=[Start(cluster=cluster)])
        assert pids(config) == {os.getpid()}
        DaskExecutor().close()
        assert cluster.status.name == "running"


def test_callbacks_can_say_what_a_cluster_of_our_own_is_like():
    wish = {"n_workers": 1, "threads_per_worker": 2, "resources": {"GPU": 1}}
    with DaskExecutor(num_workers=4, scheduler="threads") as executor:
        config = RuntimeConfig(executor=executor, callbacks=[Start(cluster_kwargs=wish)])
        one = single(pid_of, resources={"num_gpus": 1, "num_cpus": 2})
        assert one.run({"x": 1}, config=config) == {"y": os.getpid()}
        assert REGISTRY._open[executor].size == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"init_kwarg": {}}, "did you mean 'init_kwargs'"),
        ({"init_kwargs": 3}, "has to be a dict"),
        ({"init_kwargs": {"tiemout": 3}}, "takes no 'tiemout' here; did you mean 'timeout'"),
        ({"init_kwargs": {"address": "tcp://other:8786"}}, "takes no 'address' here"),
        ({"cluster_kwargs": {"workers": 3}}, "did you mean 'n_workers'"),
        ({"timeout": "long"}, "a number of seconds"),
        ({"client": object(), "cluster": object()}, "one of them says it all"),
        ({"client": object()}, "'client' has to be a distributed.Client, not <object"),
        ({"client": "tcp://h:1"}, "Client, not 'tcp://h:1'; the address .* scheduler_address"),
        ({"cluster": "tcp://h:1"}, "'cluster' has to be a cluster of .*, not 'tcp://h:1'; the add"),
        ({"cluster": object()}, "leads to no scheduler"),
    ],
)
def test_options_that_mean_nothing_are_refused(options, message):
    config = RuntimeConfig(executor=DaskExecutor(chunksize=11), callbacks=[Start(**options)])
    with pytest.raises(HyperNodesError, match=message):
        single(pid_of).run({"x": 1}, config=config)


# ---------------------------------------------------------------- TLS


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """Where a certificate and its key lie, for all who take part."""
    folder = tmp_path_factory.mktemp("keys")
    made = distributed.Security.temporary()
    (folder / "cert.pem").write_text(made.tls_ca_file, encoding="utf-8")
    (folder / "key.pem").write_text(made.tls_client_key, encoding="utf-8")
    return folder


def fields_of(keys):
    return {
        "tls_ca_file": str(keys / "cert.pem"),
        "tls_client_cert": str(keys / "cert.pem"),
        "tls_client_key": str(keys / "key.pem"),
    }


@pytest.fixture(scope="module")
def secure(tmp_path_factory, keys):
    options = [
        *("--tls-ca-file", keys / "cert.pem"),
        *("--tls-cert", keys / "cert.pem"),
        *("--tls-key", keys / "key.pem"),
    ]
    remote = RemoteDask(tmp_path_factory.mktemp("secure"), options=options, protocol="tls")
    remote.add("one")
    yield remote
    remote.end()


def test_a_cluster_with_tls_is_used(secure, keys, tmp_path):
    file = keys / "security.toml"
    file.write_text(
        'tls_ca_file = "cert.pem"\ntls_client_cert = "cert.pem"\ntls_client_key = "key.pem"\n',
        encoding="utf-8",
    )
    fields = fields_of(keys)
    given = [distributed.Security(require_encryption=True, **fields), fields, file, str(file)]
    executors = [DaskExecutor(secure.address, security=security) for security in given]
    assert len({*executors}) == 1
    with executors[0] as executor:
        assert pids(RuntimeConfig(executor=executor)) == pids_of(secure)
    described = RuntimeConfig(executor=executors[0]).model_dump(mode="json")
    assert RuntimeConfig(**described).executor == executors[0]


def test_a_client_with_tls_is_used(secure, keys):
    security = distributed.Security(require_encryption=True, **fields_of(keys))
    with distributed.Client(secure.address, security=security), DaskExecutor() as executor:
        assert pids(RuntimeConfig(executor=executor)) == pids_of(secure)


def test_callbacks_can_give_the_security_as_dask_takes_it(secure, keys):
    hook = Start(init_kwargs={"security": fields_of(keys)})
    with DaskExecutor(secure.address) as executor:
        assert pids(RuntimeConfig(executor=executor, callbacks=[hook])) == pids_of(secure)


@pytest.mark.parametrize("known", [False, True])
def test_whoever_has_not_the_keys_is_told_so(secure, known):
    other = distributed.Security.temporary() if known else None
    executor = DaskExecutor(secure.address, security=other)
    config = RuntimeConfig(executor=executor, callbacks=[Start(init_kwargs={"timeout": 2})])
    told = r"no Dask scheduler can be reached .*TLS" if known else r"asks for TLS: give security="
    with pytest.raises(HyperNodesError, match=told):
        pids(config)


def test_files_of_keys_that_are_not_there_are_named(secure, keys, tmp_path):
    fields = fields_of(keys) | {"tls_client_key": str(tmp_path / "no-key.pem")}
    executor = DaskExecutor(secure.address, security=fields)
    with pytest.raises(HyperNodesError, match=r"files that are not there: .*no-key\.pem$"):
        pids(RuntimeConfig(executor=executor))


def test_the_address_of_a_worker_is_not_taken_for_that_of_a_scheduler(remote):
    with distributed.Client(remote.address, set_as_default=False) as client:
        address = next(iter(workers_of(client)))
    with pytest.raises(HyperNodesError, match="is a Dask worker; give the address of its sched"):
        pids(RuntimeConfig(executor=DaskExecutor(address)))


def test_keys_are_shown_nowhere():
    security = distributed.Security.temporary()
    executor = DaskExecutor("tls://host:8786", security=security)
    assert pickle.loads(pickle.dumps(executor)) == executor
    assert "PRIVATE KEY" not in repr(executor) + str(RuntimeConfig(executor=executor))
    with pytest.raises(ValueError, match="name files instead"):
        executor.model_dump(mode="json")
    with pytest.raises(ValidationError) as found:
        DaskExecutor("tls://host:8786", security={"tls_key": security.tls_client_key})
    assert "did you mean" in str(found.value)
    assert "PRIVATE KEY" not in str(found.value)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"scheduler_address": "tcp://host:8786", "security": {"tls_ca_file": "a"}}, "tls://"),
        ({"security": {"tls_ca_file": "a"}}, "security is for the cluster at scheduler_address"),
        ({"scheduler_address": "tls://host:8786", "security": 3}, "int is no security"),
        ({"scheduler_address": "tls://host:8786", "security": "no-file"}, "cannot be read"),
    ],
)
def test_a_security_that_fits_nothing_is_refused(fields, message):
    with pytest.raises(ValidationError, match=message):
        DaskExecutor(**fields)


# ---------------------------------------------------------------- workers that do not fit


OTHER = """
import hypernodes
hypernodes.__version__ = "99.0"
"""


@pytest.mark.parametrize(
    ("site", "message"),
    [
        (OTHER, r"worker tcp://\S+ has hypernodes 99\.0 and not 0\.1\.0"),
        (None, r"worker tcp://\S+ has no hypernodes"),
    ],
)
def test_workers_with_other_versions_are_named_before_anything_runs(
    cluster, tmp_path, site, message
):
    env, python = {}, ()
    if site is None:
        env, python = without_hypernodes(tmp_path)
    else:
        (tmp_path / "sitecustomize.py").write_text(site, encoding="utf-8")
        env = {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    cluster.add("good")
    cluster.add("other", env=env, python=python)
    cluster.await_workers(2)
    marks = tmp_path / "marks"
    with pytest.raises(HyperNodesError, match=message) as found:
        single(lambda x: marks.touch()).run(
            {"x": 1}, config=RuntimeConfig(executor=DaskExecutor(cluster.address))
        )
    assert "install the same" in str(found.value)
    assert not marks.exists()


def without_hypernodes(folder):
    """Return what starts an interpreter that has the packages of this one, except hypernodes."""
    packages = Path(distributed.__file__).parents[1]
    bare = folder / "packages"
    bare.mkdir()
    for path in packages.iterdir():
        if "hypernodes" not in path.name:
            (bare / path.name).symlink_to(path)
    return {"PYTHONPATH": str(bare)}, ("-S",)


def test_a_worker_with_other_versions_that_joins_later_is_left_out(cluster, tmp_path, caplog):
    (tmp_path / "sitecustomize.py").write_text(OTHER, encoding="utf-8")
    pid = cluster.add("good")
    with DaskExecutor(cluster.address) as executor:
        config = RuntimeConfig(executor=executor)
        assert pids(config) == {pid}
        env = {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
        cluster.add("other", env=env)
        wait_until(lambda: "has hypernodes 99.0" in caplog.text)
        assert "it is left out" in caplog.text
        assert pids(config) == {pid}


def test_what_comes_to_the_address_of_a_worker_that_has_gone_is_asked_anew(
    cluster, tmp_path, caplog
):
    (tmp_path / "sitecustomize.py").write_text(OTHER, encoding="utf-8")
    env = {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    pid = cluster.add("good")
    with DaskExecutor(cluster.address) as executor:
        config = RuntimeConfig(executor=executor)
        assert pids(config) == {pid}
        for count in (1, 2):
            cluster.add("other", "--worker-port", port, env=env)
            wait_until(lambda count=count: caplog.text.count("it is left out") == count)
            assert pids(config) == {pid}
            cluster.end_worker("other")
            same = cluster.add("same", "--worker-port", port)
            wait_until(lambda same=same: pids(config) == {pid, same})
            cluster.end_worker("same")
            wait_until(lambda: pids(config) == {pid})


@pytest.mark.parametrize("stays", [True, False])
def test_a_worker_that_cannot_be_reached_at_first_is_asked_again(cluster, monkeypatch, stays):
    asked, run = [], distributed.Client.run

    def run_badly(client, function, *args, **options):
        answers = run(client, function, *args, **options)
        if function is not eval:
            return answers
        asked.extend(options["workers"])
        late = [address for address in answers if address != asked[0] and asked.count(address) < 3]
        return answers | {address: OSError("it does not answer") for address in late}

    monkeypatch.setattr(distributed.Client, "run", run_badly)
    first = cluster.add("first")
    with DaskExecutor(cluster.address) as executor:
        config = RuntimeConfig(executor=executor)
        assert pids(config) == {first}
        there = {first}
        if not stays:
            cluster.end_worker("first")
            there.clear()
        there.add(cluster.add("second"))
        wait_until(lambda: pids(config) == there)
    assert asked.count(asked[-1]) == 3


def test_workers_of_which_none_can_be_reached_are_an_error(cluster, monkeypatch):
    run = distributed.Client.run

    def run_badly(client, function, *args, **options):
        if function is not eval:
            return run(client, function, *args, **options)
        return {address: OSError("it does not answer") for address in options["workers"]}

    monkeypatch.setattr(distributed.Client, "run", run_badly)
    cluster.add("only")
    config = RuntimeConfig(executor=DaskExecutor(cluster.address))
    with pytest.raises(HyperNodesError, match=r"could not be asked .*does not answer"):
        pids(config)


def test_a_worker_that_goes_while_it_is_asked_for_its_versions_is_no_misfit(cluster, monkeypatch):
    run = distributed.Client.run

    def run_late(client, function, *args, **options):
        if function is not eval or "first" not in cluster.workers:
            return run(client, function, *args, **options)
        cluster.end_worker("first")
        wait_until(lambda: not workers_of(client))
        cluster.add("second")
        return {address: OSError("it has gone") for address in options["workers"]}

    monkeypatch.setattr(distributed.Client, "run", run_late)
    cluster.add("first")
    with DaskExecutor(cluster.address) as executor:
        assert pids(RuntimeConfig(executor=executor)) == pids_of(cluster)


# ---------------------------------------------------------------- a cluster that is lost


def marking(folder, seconds=0.0):
    """Return a function that leaves a mark for each call, and takes its time."""

    def work(x):
        with (folder / f"{x}-{time.monotonic_ns()}").open("w"):
            time.sleep(seconds)
        return x

    return work


def marks_of(folder):
    """Return how often each item was called."""
    names = [int(path.name.partition("-")[0]) for path in folder.iterdir()]
    return {name: names.count(name) for name in names}


@pytest.fixture
def marks(tmp_path):
    folder = tmp_path / "marks"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("way", ["killed", "restarted", "frozen"])
def test_a_scheduler_that_is_lost_in_a_map_is_an_error_soon_and_can_come_back(
    cluster, tmp_path, marks, monkeypatch, way
):
    if way == "frozen":
        monkeypatch.setattr("hypernodes._engine.clusters.lifeline.SILENCE", 5.0)
    cluster.add("first")
    cache = CacheSpec(kind="disk", path=str(tmp_path / "cache"))
    one = single(marking(marks, 0.02), cache=True)
    count = 400
    with DaskExecutor(cluster.address, chunksize=4) as executor:
        config = RuntimeConfig(executor=executor, cache=cache)
        found = one.map_iter({"x": range(count)}, map_over="x", config=config)
        for _ in range(20):
            next(found)
        lose(cluster, way)
        with pytest.raises(HyperNodesError, match="see whether it is up, and run again"):
            list(found)
        if way == "frozen":
            cluster.thaw()
        if way == "killed":
            cluster.start()
        if way != "frozen":
            cluster.add("second")
        done = set(finished(one, count, config))
        assert len(done) >= 20
        before = marks_of(marks)
        results = one.map({"x": range(count)}, map_over="x", config=config)
        assert [each["y"] for each in results] == list(range(count))
        assert {x: n for x, n in marks_of(marks).items() if x in done} == {
            x: before[x] for x in done
        }


def finished(one, count, config):
    """Yield the items that are in the cache."""
    for x in range(count):
        if one.explain({"x": x}, config=config)["work"][0] == "hit":
            yield x


def lose(cluster, way):
    if way == "frozen":
        cluster.freeze()
        return
    cluster.end_scheduler()
    if way == "restarted":
        cluster.start()


def test_a_run_that_waits_for_a_frozen_scheduler_ends(cluster, monkeypatch):
    cluster.add("one")
    with DaskExecutor(cluster.address) as executor:
        config = RuntimeConfig(executor=executor)
        pids(config)
        cluster.freeze()
        monkeypatch.setattr("hypernodes._engine.clusters.lifeline.SILENCE", 1.0)
        many = bytes(5_000_000)  # goes by way of the scheduler, which is asked at once
        with pytest.raises(HyperNodesError, match="not answered for 1 s"):
            single(len).run({"obj": many}, config=config)
        before = set(threading.enumerate())
        executor.close()
        wait_until(lambda: not lasting(before))
        cluster.thaw()


def test_a_scheduler_that_is_lost_between_runs_costs_the_next_one_nothing(cluster):
    cluster.add("first")
    with DaskExecutor(cluster.address) as executor:
        config = RuntimeConfig(executor=executor)
        pids(config)
        cluster.end_scheduler()
        cluster.start()
        pid = cluster.add("second")
        assert pids(config) == {pid}


def test_a_cluster_whose_last_worker_is_gone_is_an_error_in_time(cluster, monkeypatch, caplog):
    monkeypatch.setattr(lifeline, "LATE", 0.1)
    cluster.add("one")
    cluster.await_workers(1)
    executor = DaskExecutor(cluster.address, chunksize=1)
    config = RuntimeConfig(executor=executor, callbacks=[Start(timeout=2)])
    found = single(lambda x: time.sleep(0.05)).map_iter(
        {"x": range(1000)}, map_over="x", config=config
    )
    next(found)
    cluster.end_worker("one")
    with pytest.raises(HyperNodesError, match="no worker for 2 s"):
        list(found)
    assert "a run waits for workers" in caplog.text
    executor.close()


# ---------------------------------------------------------------- resources


@pytest.mark.parametrize(
    "resources",
    [
        {"num_gpus": 1},
        {"num_cpus": 2},
        {"disk": 2},
        {"num_gpus": 1, "disk": 1, "num_cpus": 2, "memory": 10**12},
        {"num_gpus": 0, "tape": 0},
    ],
)
def test_what_a_worker_has_can_be_asked_for(remote, config, resources):
    with_it = single(pid_of, resources=resources)
    found = with_it.map({"x": range(10)}, map_over="x", config=config)
    expected = pids_of(remote) if not any(resources.values()) else {remote.workers["big"].pid}
    assert {each["y"] for each in found} <= expected


@pytest.mark.parametrize(
    ("resources", "missing"),
    [
        ({"num_gpus": 2}, "num_gpus"),
        ({"num_cpus": 3}, "num_cpus"),
        ({"tape": 1}, "tape"),
        ({"num_gpus": 1, "disk": 3}, "disk"),
    ],
)
@pytest.mark.parametrize("way", ["run", "map", "map_iter", "nested", "mapped", "own config"])
def test_what_no_worker_has_is_refused_before_anything_is_submitted(
    config, marks, way, resources, missing
):
    def first(x):
        (marks / str(x)).touch()
        return x

    needy = node("z", resources=resources)(lambda y: y)
    one = Pipeline([node("y")(first), needy], name="one")
    with pytest.raises(ResourceError) as found:
        drive(one, way, config)
    assert found.value.node == needy.name
    assert found.value.resource == missing
    assert found.value.requested == resources[missing]
    assert "which no worker has" in str(found.value)
    if way != "own config":
        assert not list(marks.iterdir())


@pytest.mark.parametrize(
    ("name", "amount", "words"),
    [
        ("num_gpus", 2, "2 of 'num_gpus', which no worker has (the largest has 1); ask for less"),
        ("num_cpus", 3, "3 of 'num_cpus', which no worker has (the largest has 2); ask for less"),
        ("tape", 0.5, "0.5 of 'tape', which no worker has; ask for less, or add workers"),
        ("num_cpu", 1, "1 of 'num_cpu', which no worker has; did you mean 'num_cpus'?"),
        ("disks", 1, "1 of 'disks', which no worker has; did you mean 'disk'?"),
        ("CPU", 1, "1 of 'CPU', which no worker has; did you mean 'num_cpus'?"),
        ("gpu", 1, "1 of 'gpu', which no worker has; did you mean 'num_gpus'?"),
    ],
)
def test_a_refusal_says_what_there_is_or_what_was_meant(config, name, amount, words):
    with pytest.raises(ResourceError, match=re.escape(f"node 'pid_of' asks for {words}")) as found:
        single(pid_of, resources={name: amount}).run({"x": 1}, config=config)
    error = found.value
    assert (error.node, error.resource, error.requested) == ("pid_of", name, amount)
    assert error.available == {"num_gpus": 1, "num_cpus": 2}.get(name, 0)
    meant = {"num_cpu": "num_cpus", "disks": "disk", "CPU": "num_cpus", "gpu": "num_gpus"}
    assert error.suggestion == meant.get(name)


def test_what_no_worker_has_together_is_refused_too(cluster):
    cluster.add("one", "--resources", "tape=1")
    cluster.add("other", "--resources", "disk=1")
    cluster.await_workers(2)
    both = single(pid_of, resources={"tape": 1, "disk": 1})
    with DaskExecutor(cluster.address) as executor:
        config = RuntimeConfig(executor=executor)
        with pytest.raises(ResourceError, match=r"1 of 'disk' and 1 of 'tape', .* has together; "):
            both.run({"x": 1}, config=config)


def drive(one, way, config):
    """Run a pipeline of `y` and `z` in one of several ways."""
    if way == "run":
        one.run({"x": 1}, config=config)
    elif way == "map":
        one.map({"x": [1, 2]}, map_over="x", config=config)
    elif way == "map_iter":
        list(one.map_iter({"x": [1, 2]}, map_over="x", config=config))
    elif way == "nested":
        Pipeline([one]).run({"x": 1}, config=config)
    elif way == "mapped":
        Pipeline([one.as_node(map_over="x")]).run({"x": [1, 2]}, config=config)
    else:
        first, needy = one.nodes
        threads = RuntimeConfig(executor=ThreadPoolExecutor(max_workers=2))
        Pipeline([first, needy.with_config(config)], config=threads).run({"x": 1})


async def amapped(one, config):
    return await one.amap({"x": [1, 2]}, map_over="x", config=config)


def test_what_no_worker_has_is_refused_by_amap_too(config):
    with pytest.raises(ResourceError):
        asyncio.run(amapped(single(pid_of, resources={"tape": 1}), config))


def test_a_cluster_of_our_own_has_no_more_memory_than_its_machine(own):
    config = RuntimeConfig(executor=own)
    assert single(pid_of, resources={"memory": 1e6}).run({"x": 1}, config=config)
    with pytest.raises(ResourceError, match=r"16 PiB of 'memory'.*the largest has \d[\d.]* [GT]iB"):
        single(pid_of, resources={"memory": 2**54}).run({"x": 1}, config=config)


@pytest.mark.parametrize(
    ("resources", "wish"),
    [
        ({"num_gpus": 1}, "{'resources': {'GPU': 1}}"),
        ({"tape": 0.5}, "{'resources': {'tape': 0.5}}"),
        ({"num_cpus": 3}, "{'threads_per_worker': 3}"),
    ],
)
def test_a_refusal_says_how_workers_of_our_own_come_to_have_it(own, resources, wish):
    words = re.escape(f"ask for less, or have an on_executor_start hook set {WISH} = {wish}")
    with pytest.raises(ResourceError, match=f"{words}$"):
        single(pid_of, resources=resources).run({"x": 1}, config=RuntimeConfig(executor=own))


WISH = "options['cluster_kwargs']"


def test_what_only_another_executor_is_asked_for_is_not_refused(config):
    threads = RuntimeConfig(executor=ThreadPoolExecutor(max_workers=2))
    first = node("y")(pid_of)
    second = node("z", resources={"tape": 1}, config=threads)(lambda y: (y, os.getpid()))
    (found,) = Pipeline([first, second], config=config).run({"x": 1}, output_name="z").values()
    assert found[1] == os.getpid() != found[0]


def test_two_nodes_never_have_the_same_device(config, marks):
    def alone(x):
        lock = marks / "lock"
        lock.touch(exist_ok=False)  # fails where another one is at it
        time.sleep(0.02)
        lock.unlink()
        return x

    devices = single(alone, resources={"num_gpus": 1})
    found = devices.map({"x": range(20)}, map_over="x", config=config)
    assert [each["y"] for each in found] == list(range(20))
    several = Pipeline(
        [
            node(f"y{n}", resources={"num_gpus": 1})(partial(lambda n, x: alone(x), n))
            for n in range(4)
        ]
    )
    assert set(several.run({"x": 3}, config=config).values()) == {3}


def test_a_worker_with_two_threads_runs_two_nodes_at_once(remote, config, marks):
    def meets(x):
        (marks / str(x)).touch()
        end = time.monotonic() + 60
        while time.monotonic() < end:
            if len(list(marks.iterdir())) == 2:
                return os.getpid()
            time.sleep(0.01)
        return None

    def meets_too(y):
        return meets(y)

    both = Pipeline(
        [
            node("a", resources={"disk": 1})(meets),
            node("b", resources={"disk": 1})(meets_too),
        ]
    )
    pid = remote.workers["big"].pid
    assert both.run({"x": 1, "y": 2}, config=config) == {"a": pid, "b": pid}


# ---------------------------------------------------------------- workers that come and go


def test_workers_that_join_in_a_map_take_part(cluster):
    cluster.add("first")
    with DaskExecutor(cluster.address, chunksize=1) as executor:
        found = single(slow_pid).map_iter(
            {"x": range(10_000)}, map_over="x", config=RuntimeConfig(executor=executor)
        )
        next(found)
        late = cluster.add("late")
        assert any(each["y"] == late for each in found)
        found.close()


def slow_pid(x):
    time.sleep(0.01)
    return os.getpid()


def test_workers_that_retire_in_a_map_finish_what_they_run(cluster, marks):
    cluster.add("first")
    cluster.add("second")
    count = 200
    with (
        distributed.Client(cluster.address, set_as_default=False) as client,
        DaskExecutor(cluster.address, chunksize=2) as executor,
    ):
        client.wait_for_workers(2, timeout=60)
        found = single(marking(marks, 0.02)).map_iter(
            {"x": range(count)}, map_over="x", config=RuntimeConfig(executor=executor)
        )
        first = [next(found) for _ in range(10)]
        leaving = next(iter(workers_of(client)))
        client.retire_workers([leaving])
        assert [each["y"] for each in (*first, *found)] == list(range(count))
    assert set(marks_of(marks)) == set(range(count))


def test_a_cluster_that_adapts_starts_workers_for_a_run_and_ends_them():
    with distributed.LocalCluster(
        n_workers=0, threads_per_worker=1, processes=False, dashboard_address=":0"
    ) as cluster:
        cluster.adapt(minimum=0, maximum=2, interval="100ms", wait_count=2)
        with distributed.Client(cluster), DaskExecutor() as executor:
            config = RuntimeConfig(executor=executor)
            assert pids(config) == {os.getpid()}
            wait_until(lambda: not cluster.scheduler_info["workers"])
            assert pids(config) == {os.getpid()}


# ---------------------------------------------------------------- threads and logs


def test_a_cluster_of_our_own_in_threads_runs_all_here():
    with DaskExecutor(num_workers=2, scheduler="threads") as executor:
        config = RuntimeConfig(executor=executor)
        found = single(lambda x: x + 1).map({"x": range(50)}, map_over="x", config=config)
        failed = single(lambda x: 1 // x).map(
            {"x": [0, 1]}, map_over="x", config=config, on_error="return"
        )
        assert pids(config) == {os.getpid()}
    assert [each["y"] for each in found] == list(range(1, 51))
    assert isinstance(failed[0], Failure)
    assert failed[1] == {"y": 1}


LOGS = """
import asyncio
import logging
import distributed
handler = logging.StreamHandler()
logging.getLogger("distributed").addHandler(handler)
logging.getLogger("distributed").setLevel(logging.DEBUG)
from hypernodes import DaskExecutor, Pipeline, RuntimeConfig, node
one = Pipeline([node("y")(lambda x: x)])
with DaskExecutor(num_workers=1) as executor:
    one.run({"x": 1}, config=RuntimeConfig(executor=executor))
    logging.getLogger("distributed.scheduler").warning("of the user")
assert handler.level == 0
assert logging.getLogger("distributed").level == logging.DEBUG
assert not handler.filters
"""


def test_logs_of_our_cluster_are_kept_away_and_those_of_the_user_are_not(run_script):
    result = run_script(LOGS, seconds=120)
    lines = {line for line in result.stderr.splitlines() if "of the user" not in line}
    assert "of the user" in result.stderr
    assert lines == set()


# ---------------------------------------------------------------- code that runs more


def test_code_that_waits_for_its_own_worker_by_another_executor_lends_its_place(cluster):
    cluster.add("only", "--nthreads", "1")
    inside = RuntimeConfig(executor=DaskExecutor(cluster.address, chunksize=1))
    inner = single(lambda x: x + 1)

    def total(x):
        found = inner.map({"x": range(x)}, map_over="x", config=inside)
        return sum(each["y"] for each in found)

    with DaskExecutor(cluster.address) as executor:
        config = RuntimeConfig(executor=executor)
        found = single(total).map({"x": [2, 3]}, map_over="x", config=config)
    assert [each["y"] for each in found] == [3, 6]


def is_open(executor):
    """Say, in a worker, whether an executor has opened anything."""
    from hypernodes._engine.workers import REGISTRY

    return executor in REGISTRY._open


@pytest.mark.parametrize("options", [{}, {"timeout": 120.0}])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_an_executor_that_differs_runs_right_in_the_worker_whose_cluster_it_leads_to(
    config, remote, options, host
):
    address = remote.address.replace("127.0.0.1", host)

    @node(output_name="z", **options)
    def outer(x):
        other = RuntimeConfig(executor=DaskExecutor(address, chunksize=1))
        rows = single(lambda x: x + 1).map({"x": [x] * 3}, map_over="x", config=other)
        return [row["y"] for row in rows], is_open(other.executor)

    found = Pipeline([outer]).map({"x": range(6)}, map_over="x", config=config)
    assert [row["z"] for row in found] == [([x + 1] * 3, False) for x in range(6)]


def test_the_same_in_a_coroutine(config, remote):
    address = remote.address

    @node(output_name="z")
    async def outer(x):
        other = RuntimeConfig(executor=DaskExecutor(address, chunksize=1))
        inner = single(lambda x: x + 1)
        return [row["y"] for row in await inner.amap({"x": [x] * 3}, map_over="x", config=other)]

    found = Pipeline([outer]).map({"x": range(6)}, map_over="x", config=config)
    assert [row["z"] for row in found] == [[x + 1] * 3 for x in range(6)]


def test_the_same_with_nodes_on_one_and_items_on_the_other(config, remote):
    both = CompositeExecutor(
        map_executor=config.executor, node_executor=DaskExecutor(remote.address, chunksize=1)
    )
    found = single(lambda x: x + 1).map(
        {"x": range(6)}, map_over="x", config=RuntimeConfig(executor=both)
    )
    assert [row["y"] for row in found] == list(range(1, 7))


@pytest.mark.parametrize("way", ["run", "map"])
def test_a_resource_that_leaves_with_its_only_worker_ends_the_run_after_a_while(
    cluster, marks, monkeypatch, way
):
    monkeypatch.setattr("hypernodes._engine.clusters.pool.SCARCE", 1.0)
    cluster.add("plain")
    cluster.add("special", "--resources", "tape=1")
    cluster.await_workers(2)

    def work(x):
        (marks / str(os.getpid())).touch()
        time.sleep(30)
        return x

    pipeline = single(work, resources={"tape": 1})
    with DaskExecutor(cluster.address) as executor, futures.ThreadPoolExecutor(1) as thread:
        config = RuntimeConfig(executor=executor)
        one = partial(pipeline.run, {"x": 1}, config=config)
        many = partial(pipeline.map, {"x": range(9)}, map_over="x", config=config)
        running = thread.submit(one if way == "run" else many)
        wait_until(lambda: any(marks.iterdir()))
        cluster.end_worker("special")
        with pytest.raises(ResourceError) as caught:
            running.result(60)
    assert (caught.value.node, caught.value.resource) == ("work", "tape")


def test_nodes_can_ask_dask_which_worker_they_are_in(remote, config):
    def own_name(x):
        return distributed.get_worker().name

    names = single(own_name).map({"x": range(4)}, map_over="x", config=config)
    assert {row["y"] for row in names} <= {str(name) for name in remote.workers}


def plans_kept():
    """Say, in a worker, how many plans it keeps."""
    from hypernodes._engine.clusters import worker

    return len(worker._jobs)


def test_workers_let_go_of_plans_and_of_what_they_share(remote):
    with (
        DaskExecutor(remote.address) as executor,
        distributed.Client(remote.address, set_as_default=False) as client,
    ):
        before = sum(client.run(plans_kept).values())
        for size in (10, 3_000_000):
            inputs = {"x": range(4), "shared": bytes(size)}
            length = single(lambda x, shared: len(shared) + x)
            length.map(inputs, map_over="x", config=RuntimeConfig(executor=executor))
            few = 0 if size > 1 << 20 else len(remote.workers)
            wait_until(lambda few=few: sum(client.run(plans_kept).values()) <= before + few)
        executor.close()
        wait_until(lambda: sum(client.run(plans_kept).values()) <= before)
