"""What callbacks and configs are like in workers, and what of a run outlives it."""

import gc
import threading
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
    register_plugins,
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
    "executor", [ThreadPoolExecutor(max_workers=8), AsyncExecutor(max_concurrency=8)]
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

    executor = ThreadPoolExecutor(max_workers=9)
    executor.close()
    before = {*threading.enumerate()}
    config = RuntimeConfig(executor=executor, callbacks=[Uses()])
    Pipeline([node("a")(abs), node("b")(abs)]).run({"x": 1}, config=config)
    executor.close()
    assert stopped == [executor]
    assert {*threading.enumerate()} <= before


class AddsTen(Callback):
    def wrap_node(self, call):
        return call() + 10

    def on_report(self, kind, data):
        REPORTED.append(data["x"])


REPORTED = []


@node
def reports(x):
    report("x", x=x)
    return x


@pytest.mark.parametrize("how", ["plugin", "own config", "nested", "config in force"])
def test_wrap_node_is_called_in_runs_that_user_code_starts_in_any_worker(executor, how):
    REPORTED.clear()
    config = RuntimeConfig(executor=executor)
    wrapped = RuntimeConfig(executor="sequential", callbacks=[AddsTen()])
    inner = Pipeline([reports], name="inner")
    if how == "plugin":
        register_plugins(AddsTen())
    elif how == "own config":
        inner = inner.with_config(wrapped)
    elif how == "nested":
        inner = Pipeline([Pipeline([reports.with_config(wrapped)]).as_node()], name="inner")
    outer = Pipeline([node("y")(lambda x: inner.run({"x": x})["reports"])])
    used = wrapped if how == "config in force" else RuntimeConfig()
    with RuntimeConfig.use(used):
        found = outer.map({"x": [1, 2]}, map_over="x", config=config)
    added = 20 if how == "plugin" else 10
    assert [each["y"] for each in found] == [1 + added, 2 + added]
    is_told = how == "plugin" or not isinstance(executor, ProcessPoolExecutor)
    assert sorted(REPORTED) == ([1, 2] if is_told else [])
