"""What the tests share: profiles, a clean slate for each test, and every executor there is."""

import os
import signal
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, settings

from checker import Checker
from hypernodes import (
    AsyncExecutor,
    CompositeExecutor,
    RuntimeConfig,
    SequentialExecutor,
    ThreadPoolExecutor,
    register_plugins,
    set_default_config,
    unregister_plugins,
)
from remote_dask import RemoteDask

# Ray reads it when it is imported: drivers that come by address have to show the token, too.
os.environ.setdefault("RAY_AUTH_MODE", "token")

# Whoever is started in the background ignores Ctrl-C, and so would all the programs of the tests.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The fixtures that property tests take are values that never change: sharing them is fine.
settings.register_profile(
    "default",
    max_examples=50,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
)
settings.register_profile(
    "ci", settings.get_profile("default"), max_examples=200, derandomize=True, print_blob=True
)
settings.load_profile("ci" if os.environ.get("CI") else "default")

EXECUTORS = {
    "sequential": SequentialExecutor(),
    "thread": ThreadPoolExecutor(max_workers=4),
    "one-thread": ThreadPoolExecutor(max_workers=1),
    "async": AsyncExecutor(max_concurrency=4),
    "one-async": AsyncExecutor(max_concurrency=1),
    "composite": CompositeExecutor(
        map_executor=ThreadPoolExecutor(max_workers=2),
        node_executor=AsyncExecutor(max_concurrency=4),
    ),
}


def pytest_addoption(parser):
    parser.addoption("--observed", action="store_true", help="check the events of every run")


@pytest.fixture(autouse=True)
def _clean_slate(monkeypatch):
    monkeypatch.delenv("HYPERNODES_CONFIG", raising=False)
    set_default_config(None)
    yield
    set_default_config(None)
    unregister_plugins()


@pytest.fixture(autouse=True)
def _observed(request, _clean_slate):
    if not request.config.getoption("--observed"):
        yield
        return
    if request.node.originalname in UNOBSERVED:
        # It asserts what must not happen where nobody observes; the checker would be an observer.
        pytest.skip("is about runs that nobody observes")
    checker = Checker()
    register_plugins(checker)
    yield
    checker.check()


UNOBSERVED = {
    "test_runs_of_the_asynchronous_executor_need_no_thread_each",
    "test_a_lazy_map_of_many_items_keeps_memory_flat",  # the checker keeps all events
}


@pytest.fixture(params=EXECUTORS.values(), ids=EXECUTORS.keys())
def config(request):
    """A config for each executor, otherwise at its defaults."""
    return RuntimeConfig(executor=request.param)


@pytest.fixture
def sequential():
    return RuntimeConfig(executor="sequential")


@pytest.fixture
def threads():
    return RuntimeConfig(executor=ThreadPoolExecutor(max_workers=4))


@pytest.fixture(scope="session")
def remote(tmp_path_factory):
    """A Dask cluster: a worker with two threads and devices, and one with one and less memory."""
    pytest.importorskip("distributed")
    remote = RemoteDask(tmp_path_factory.mktemp("dask"))
    remote.add("big", "--nthreads", "2", "--memory-limit", "0", "--resources", "GPU=1,disk=2")
    remote.add("small", "--nthreads", "1", "--memory-limit", "1GB")
    remote.await_workers(2)
    yield remote
    remote.end()


@pytest.fixture
def run_script(tmp_path):
    """Run Python source in an interpreter of its own; a hang or a failure fails the test."""

    def run(source, *, env=(), seconds=60, status=0):
        path = tmp_path / "script.py"
        watch = f"import faulthandler; faulthandler.dump_traceback_later({seconds}, exit=True)\n"
        path.write_text(watch + source, encoding="utf-8")
        try:
            result = subprocess.run(
                [sys.executable, "-W", "error", path],
                cwd=tmp_path,
                env=os.environ | dict(env),
                capture_output=True,
                encoding="utf-8",
                timeout=2 * seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            pytest.fail(f"still running after {2 * seconds} s")
        assert result.returncode == status, result.stderr
        return result

    return run
