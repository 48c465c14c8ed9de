"""What callbacks and configs are like in workers, and what of a run outlives it."""

import gc
import threading
import time
import weakref

import pytest

from hypernodes import (
    AsyncExecutor,
    Callback,
    Pipeline,
    ProcessPoolExecutor,
    RuntimeConfig,
    SequentialExecutor,
    ThreadPoolExecutor,
    get_default_config,
    node,
    report,
)
from hypernodes.config import current_config

EXECUTORS = {
    "sequential": SequentialExecutor(),
    "thread": ThreadPoolExecutor(max_workers=2),
    "async": AsyncExecutor(max_concurrency=2),
    "process": ProcessPoolExecutor(max_workers=2),
}


@pytest.fixture(params=EXECUTORS.values(), ids=EXECUTORS.keys())
def executor(request):
    return request.param


class Ends(Callback):
    def on_node_end(self):
        """Note an end."""


@node
def retries_of_a_replaced_config(x):
    config = current_config()
    assert isinstance(config.callbacks, tuple)
    return x + config.replace(retries=x).retries


def test_the_config_in_force_can_be_replaced_in_a_worker(executor):
    config = RuntimeConfig(executor=executor, callbacks=[Ends()])
    with RuntimeConfig.use(config):
        found = Pipeline([retries_of_a_replaced_config]).map({"x": [1, 2]}, map_over="x")
    assert [each["retries_of_a_replaced_config"] for each in found] == [2, 4]


def test_the_config_of_a_context_can_be_replaced_where_the_node_runs(executor):
    class Wraps(Callback):
        def wrap_node(self, ctx, call):
            return call() + ctx.config.replace(retries=5).retries

    config = RuntimeConfig(executor=executor, callbacks=[Wraps()])
    assert Pipeline([node("y")(lambda x: x)]).run({"x": 1}, config=config) == {"y": 6}
    assert get_default_config().callbacks == ()


@pytest.mark.parametrize("hook", ["on_node_retry", "on_node_end", None])
def test_reports_know_their_attempt_whoever_listens(executor, hook, tmp_path):
    attempts = []

    class Reads(Callback):
        def on_report(self, ctx):
            attempts.append(ctx.attempt)

    if hook is not None:
        setattr(Reads, hook, lambda self: None)

    @node(retries=2)
    def third_time(x):
        report("try")
        (tmp_path / str(len(list(tmp_path.iterdir())))).touch()
        if len(list(tmp_path.iterdir())) < 3:
            raise OSError
        return x

    config = RuntimeConfig(executor=executor, callbacks=[Reads()])
    assert Pipeline([third_time]).run({"x": 1}, config=config) == {"third_time": 1}
    assert attempts == [1, 2, 3]


# ---------------------------------------------------------------- what outlives a run


class Big:
    """Something that is not to be kept."""


def big(x, big):
    return x


@pytest.mark.parametrize(
    "executor", [ThreadPoolExecutor(max_workers=5), AsyncExecutor(max_concurrency=57)]
)
def test_workers_keep_nothing_of_the_run_that_opened_them(executor):
    seen = []

    class Closes(Callback):
        def on_pipeline_start(self, ctx):
            ctx.state["inputs"] = ctx.inputs

        def on_executor_stop(self, ctx, options):
            seen.append((ctx.run_id, ctx.path, ctx.state, options))

    pipeline = Pipeline([node("y")(big), node("z")(big)], name="p")
    given = Big()
    kept = weakref.ref(given)
    with executor:
        config = RuntimeConfig(executor=executor, callbacks=[Closes()])
        pipeline.map({"x": [1, 2, 3], "big": given}, map_over="x", config=config)
        del given
        gc.collect()
        deadline = time.monotonic() + 30  # a worker drops its last piece of work in a moment
        while kept() is not None and time.monotonic() < deadline:
            time.sleep(0.001)
            gc.collect()
        assert kept() is None
        assert not seen
    ((run_id, *facts),) = seen
    assert run_id
    assert facts == [("p",), {}, {}]


def test_a_hook_that_uses_the_workers_that_are_being_opened_leaves_none_behind():
    stopped = []

    class Uses(Callback):
        errors = "raise"

        def on_executor_start(self, executor):
            plain = RuntimeConfig(executor=executor)
            assert Pipeline([node("a")(abs), node("b")(abs)]).run({"x": 1}, config=plain)

        def on_executor_stop(self, executor):
            stopped.append(executor)

    executor = ThreadPoolExecutor(max_workers=5)
    executor.close()
    before = {*threading.enumerate()}
    config = RuntimeConfig(executor=executor, callbacks=[Uses()])
    Pipeline([node("a")(abs), node("b")(abs)]).run({"x": 1}, config=config)
    executor.close()
    assert stopped == [executor]
    assert {*threading.enumerate()} <= before


def test_a_lazy_map_tells_of_the_workers_that_it_opens():
    told = []

    class Tells(Callback):
        def on_executor_start(self, executor):
            told.append(executor)

    with ThreadPoolExecutor(max_workers=6) as executor:
        executor.close()
        config = RuntimeConfig(executor=executor, callbacks=[Tells()])
        one = Pipeline([node("y")(abs)])
        assert list(one.map_iter({"x": [1, 2]}, map_over="x", config=config)) == [
            {"y": 1},
            {"y": 2},
        ]
    assert told == [executor]
