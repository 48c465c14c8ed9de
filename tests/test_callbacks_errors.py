"""Which errors are told: those that surface, at each level, on every executor, and in time."""

import asyncio
import logging
import threading
import time
from dataclasses import dataclass
from functools import partial

import pytest

from checker import Checker
from hypernodes import (
    AsyncExecutor,
    Callback,
    CallbackError,
    CompositeExecutor,
    Pipeline,
    ProcessPoolExecutor,
    RuntimeConfig,
    SequentialExecutor,
    ThreadPoolExecutor,
    node,
)

EXECUTORS = {
    "sequential": SequentialExecutor(),
    "thread": ThreadPoolExecutor(max_workers=2),
    "async": AsyncExecutor(max_concurrency=2),
    "process": ProcessPoolExecutor(max_workers=2),
    "composite": CompositeExecutor(
        map_executor=ProcessPoolExecutor(max_workers=2), node_executor=SequentialExecutor()
    ),
}


@pytest.fixture(params=EXECUTORS.values(), ids=EXECUTORS.keys())
def executor(request):
    return request.param


class Errors(Callback):
    """Keeps the errors that it is told, by hook."""

    def __init__(self):
        self.seen = []

    def on_node_error(self, ctx, error):
        self.seen.append(("node", error, ctx.exception))

    def on_item_error(self, ctx, error):
        self.seen.append(("item", error, ctx.exception))

    def on_pipeline_error(self, ctx, error):
        self.seen.append(("pipeline", error, ctx.exception))


@node
def fails(x):
    raise ValueError(x)


FLAT = Pipeline([fails], name="flat")
NESTED = Pipeline([FLAT.as_node()], name="outer")
MAPPED = Pipeline([FLAT.as_node(map_over="x")], name="outer")


@pytest.mark.parametrize(
    ("pipeline", "inputs", "levels"),
    [
        (FLAT, {"x": 1}, ["node", "pipeline"]),
        (NESTED, {"x": 1}, ["node", "pipeline", "pipeline"]),
        (MAPPED, {"x": [1]}, ["node", "item", "pipeline", "pipeline"]),
    ],
    ids=["flat", "nested", "mapped"],
)
def test_the_error_that_is_told_is_the_one_that_surfaces(executor, pipeline, inputs, levels):
    errors, checker = Errors(), Checker()
    config = RuntimeConfig(executor=executor, callbacks=[errors, checker])
    with pytest.raises(ValueError, match="1") as caught:
        pipeline.run(inputs, config=config)
    assert [level for level, *_ in errors.seen] == levels
    assert all(error is caught.value is known for _, error, known in errors.seen)
    checker.check()


def test_the_error_that_is_told_is_that_of_the_failure(executor):
    errors = Errors()
    config = RuntimeConfig(executor=executor, callbacks=[errors])
    found = NESTED.map({"x": range(4)}, map_over="x", config=config, on_error="return")
    assert {id(error) for _, error, _ in errors.seen} == {id(each.error) for each in found}
    assert (
        sorted(level for level, *_ in errors.seen) == ["item"] * 4 + ["node"] * 4 + ["pipeline"] * 4
    )


@pytest.mark.parametrize("hook", ["on_node_error", "on_item_error"])
def test_a_callback_that_fails_beside_user_code_is_a_note_on_its_error(executor, hook):
    def fail(self):
        raise RuntimeError("disk full")

    bad = type("Bad", (Callback,), {"errors": "raise", hook: fail})
    config = RuntimeConfig(executor=executor, callbacks=[bad])
    with pytest.raises(ValueError, match="1") as caught:
        FLAT.map({"x": [1, 1, 1]}, map_over="x", config=config)
    assert "disk full" in "\n".join(caught.value.__notes__)
    found = FLAT.map({"x": [1, 1, 1]}, map_over="x", config=config, on_error="return")
    assert all("disk full" in "\n".join(each.error.__notes__) for each in found)
    assert not isinstance(caught.value, CallbackError)


# ---------------------------------------------------------------- what is no Exception


@node
def leaves(x):
    raise SystemExit(7)


@pytest.mark.parametrize("map_over", [None, "x"], ids=["nested", "mapped"])
@pytest.mark.parametrize("how", ["run", "map"])
def test_what_a_node_raises_that_is_no_exception_is_told_at_each_level(executor, how, map_over):
    errors, checker = Errors(), Checker()
    config = RuntimeConfig(executor=executor, callbacks=[errors, checker])
    inner = Pipeline([leaves], name="inner")
    pipeline = Pipeline([inner.as_node(map_over=map_over)], name="outer")
    x = [1] if map_over else 1
    run = partial(pipeline.run, {"x": x}, config=config)
    if how == "map":
        facts = {"map_over": "x", "config": config, "on_error": "return"}
        run = partial(pipeline.map, {"x": [x]}, **facts)
    with pytest.raises(SystemExit) as caught:
        run()
    levels = ["node", *(["item"] if map_over else []), "pipeline"]
    levels += [*(["item"] if how == "map" else []), "pipeline"]
    assert [level for level, *_ in errors.seen] == levels
    assert all(repr(error) == "SystemExit(7)" for _, error, _ in errors.seen)
    assert errors.seen[-1][1] is caught.value
    checker.check()


async def leave(x):
    await asyncio.sleep(0)
    raise SystemExit(7)


def test_so_is_what_a_coroutine_raises(executor):
    errors = Errors()
    config = RuntimeConfig(executor=executor, callbacks=[errors])
    with pytest.raises(SystemExit):
        Pipeline([node("y")(leave)]).map({"x": [1]}, map_over="x", config=config)
    assert [repr(error) for _, error, _ in errors.seen] == ["SystemExit(7)"] * 3


# ---------------------------------------------------------------- in time


@pytest.mark.parametrize("executor", ["sequential", "thread", "async"])
@pytest.mark.parametrize("how", ["run", "map"])
def test_a_cancelled_run_is_told_before_a_node_that_cannot_be_stopped_ends(executor, how):
    is_running, may_end, is_told = threading.Event(), threading.Event(), threading.Event()
    checker = Checker()

    class Ends(Callback):
        def on_pipeline_error(self, error):
            is_told.set()

    def work(x):
        is_running.set()
        assert may_end.wait(30)
        return x

    config = RuntimeConfig(executor=executor, callbacks=[Ends(), checker])
    pipeline = Pipeline([node("y")(work)])

    async def cancelled():
        if how == "run":
            coroutine = pipeline.arun({"x": 1}, config=config)
        else:
            coroutine = pipeline.amap({"x": [1, 2]}, map_over="x", config=config)
        task = asyncio.ensure_future(coroutine)
        await asyncio.to_thread(is_running.wait, 30)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(is_told.wait, 30)

    try:
        asyncio.run(cancelled())
    finally:
        may_end.set()
    checker.check()
    assert "on_node_end" not in [hook for hook, *_ in checker.seen]


def fails_or_not(p):
    if p == "fails":
        raise KeyError(p)
    return p


def test_events_that_come_after_the_failure_of_a_neighbour_go_nowhere(executor):
    checker = Checker()
    leaf = Pipeline([node("a")(fails_or_not), node("b")(lambda a: a)], name="leaf")
    middle = Pipeline([leaf.as_node(map_over="p")], name="middle")
    top = Pipeline([middle.as_node(map_over="p")], name="top")
    config = RuntimeConfig(executor=executor, callbacks=[checker])
    for _ in range(20):
        with pytest.raises(KeyError, match="fails"):
            top.run({"p": [["fails"], ["x", "y"], [1, 2], [1, 2, 3]]}, config=config)
    checker.check()


@pytest.mark.parametrize("how", ["run", "map"])
def test_a_node_that_is_late_has_taken_as_long_as_its_timeout(executor, how):
    durations = []

    class Takes(Callback):
        def on_node_error(self, duration):
            durations.append(duration)

    @node(timeout=0.2, retries=1)
    def late(x):
        time.sleep(30)

    config = RuntimeConfig(executor=executor, callbacks=[Takes()])
    if how == "run":
        run = partial(Pipeline([late]).run, {"x": 1}, config=config)
    else:
        run = partial(Pipeline([late]).map, {"x": [1]}, map_over="x", config=config)
    with pytest.raises(TimeoutError):
        run()
    assert durations[0] > 0.4 - 1e-6  # what is left of it by numbers as large as a clock's


@dataclass(frozen=True)
class FrozenError(Exception):
    """Refuses to be changed in any way."""

    code: int


def test_an_error_that_refuses_to_be_changed_surfaces_as_itself(executor):
    def fail(x):
        raise FrozenError(x)

    errors = Errors()
    config = RuntimeConfig(executor=executor, callbacks=[errors])
    with pytest.raises(FrozenError):
        Pipeline([node("y")(fail)]).run({"x": 7}, config=config)
    assert [(level, error.code) for level, error, _ in errors.seen] == [
        ("node", 7),
        ("pipeline", 7),
    ]


class Silent(logging.Handler):
    """Fails itself, as one does whose stream was closed."""

    def emit(self, record):
        raise ValueError(record)


class Failing(Callback):
    """Fails at everything."""

    def on_node_end(self):
        raise RuntimeError

    on_map_start = on_pipeline_end = on_node_end


@pytest.fixture
def unheard(monkeypatch):
    """Nobody can be told of failures: neither by logs nor by warnings."""

    def refuse(*args, **kwargs):
        raise ValueError(args, kwargs)

    monkeypatch.setattr("warnings.showwarning", refuse)
    monkeypatch.setattr("hypernodes._dispatch.session._logger.propagate", False)
    handler, logger = Silent(), logging.getLogger("hypernodes.callbacks")
    logger.addHandler(handler)
    yield
    logger.removeHandler(handler)


@pytest.mark.filterwarnings("always::RuntimeWarning")
@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("policy", ["log", "warn"])
def test_a_failure_of_which_nobody_can_be_told_changes_no_result(
    unheard, executor, policy, background
):
    callback = Failing()
    callback.errors, callback.async_mode = policy, background
    config = RuntimeConfig(executor=executor, callbacks=[callback])
    results = Pipeline([node("y")(abs)]).map({"x": [-1, 2]}, map_over="x", config=config)
    assert results == [{"y": 1}, {"y": 2}]
