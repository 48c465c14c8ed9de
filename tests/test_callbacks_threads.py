"""Which threads call hooks, what they may do there, and what ends them."""

import os
import sys
import threading
import time

import pytest

from checker import Checker
from hypernodes import (
    AsyncExecutor,
    Callback,
    CompositeExecutor,
    Pipeline,
    ProcessPoolExecutor,
    RuntimeConfig,
    SequentialExecutor,
    ThreadPoolExecutor,
    node,
    report,
)
from hypernodes._dispatch import session

EXECUTORS = {
    "sequential": SequentialExecutor(),
    "thread": ThreadPoolExecutor(max_workers=2),
    "async": AsyncExecutor(max_concurrency=2),
    "process": ProcessPoolExecutor(max_workers=2),
    "composite": CompositeExecutor(
        map_executor=ThreadPoolExecutor(max_workers=2), node_executor=AsyncExecutor()
    ),
}


@pytest.fixture(params=EXECUTORS.values(), ids=EXECUTORS.keys())
def executor(request):
    return request.param


@node
def more(x):
    report("more")
    return x + 1


@node
def double(x):
    return 2 * x


@node
async def total(more, double):
    return more + double


PIPELINE = Pipeline([more, double, total], name="p")


# ---------------------------------------------------------------- what hooks may do


@pytest.mark.parametrize("hook", ["on_node_end", "on_item_end"])
@pytest.mark.parametrize("executor", EXECUTORS)
def test_hooks_may_run_pipelines(run_script, executor, hook):
    source = f"""
from test_callbacks_threads import EXECUTORS, PIPELINE
from hypernodes import Callback, RuntimeConfig

executor = EXECUTORS[{executor!r}]
found = []

def run_others(self):
    plain = RuntimeConfig(executor=executor)
    found.append(PIPELINE.run({{"x": 5}}, config=plain)["total"])
    results = PIPELINE.map({{"x": [5, 5]}}, map_over="x", config=plain)
    found.extend(each["total"] for each in results)

if __name__ == "__main__":
    callback = type("Runs", (Callback,), {{"errors": "raise", {hook!r}: run_others}})
    config = RuntimeConfig(executor=executor, callbacks=[callback])
    PIPELINE.run({{"x": 1}}, config=config)
    PIPELINE.map({{"x": [1, 2, 3]}}, map_over="x", config=config)
    print({{*found}}, len(found))
"""
    calls = 3 if hook == "on_item_end" else 12
    env = {"PYTHONPATH": os.pathsep.join(sys.path)}
    assert run_script(source, env=env).stdout.split() == ["{16}", str(3 * calls)]


def test_a_hook_that_takes_its_time_holds_up_no_other_run():
    async def at_once(x):
        return x

    coroutines = Pipeline([node("y")(at_once), node("z")(at_once)])
    is_called, may_go_on = threading.Event(), threading.Event()

    class Slow(Callback):
        def on_node_end(self):
            is_called.set()
            may_go_on.wait(30)

    observed = RuntimeConfig(executor=EXECUTORS["async"], callbacks=[Slow()])
    slow = threading.Thread(target=coroutines.run, args=({"x": 1},), kwargs={"config": observed})
    slow.start()
    assert is_called.wait(30)
    plain = RuntimeConfig(executor=EXECUTORS["async"])
    assert coroutines.run({"x": 1}, config=plain) == {"y": 1, "z": 1}
    assert slow.is_alive()
    may_go_on.set()
    slow.join(30)
    assert not slow.is_alive()


def test_a_hook_that_opens_workers_holds_up_no_other_run():
    is_called, may_go_on = threading.Event(), threading.Event()

    class Slow(Callback):
        def on_executor_start(self):
            is_called.set()
            may_go_on.wait(30)

    def run_on(executor, **options):
        config = RuntimeConfig(executor=executor, **options)
        assert PIPELINE.run({"x": 1}, config=config)["total"] == 4

    with ThreadPoolExecutor(max_workers=5) as first, ThreadPoolExecutor(max_workers=6) as second:
        slow = threading.Thread(target=run_on, args=(first,), kwargs={"callbacks": [Slow()]})
        slow.start()
        assert is_called.wait(30)
        run_on(second)
        assert slow.is_alive()
        may_go_on.set()
        slow.join(30)
        assert not slow.is_alive()


@pytest.mark.parametrize("around", EXECUTORS)
def test_workers_that_a_nodes_own_config_opens_are_its_callbacks_business(around):
    mine, own = Openings(), Openings()
    with ThreadPoolExecutor(max_workers=7) as executor:
        config = RuntimeConfig(executor=executor, callbacks=[own])
        pipeline = Pipeline([more, double.with_config(config), total])
        for callbacks in ([], [mine]):
            own.seen.clear()
            outer = RuntimeConfig(executor=EXECUTORS[around], callbacks=callbacks)
            pipeline.with_config(outer).run({"x": 1})
            executor.close()
            assert own.seen == [("start", executor, config), ("stop", executor, config)]
    assert executor not in [opened for _, opened, _ in mine.seen]


class Openings(Callback):
    """Keeps which workers are opened and closed."""

    def __init__(self):
        self.seen = []

    def on_executor_start(self, ctx, executor):
        self.seen.append(("start", executor, ctx.config))

    def on_executor_stop(self, ctx, executor):
        self.seen.append(("stop", executor, ctx.config))


def test_what_contexts_say_stays_as_it_was(executor):
    seen = []

    class Looks(Callback):
        def on_node_start(self, ctx):
            seen.append((ctx.node.name, ctx.outputs, ctx.worker))

        def on_node_end(self, ctx):
            seen.append((ctx.node.name, ctx.outputs, ctx.worker))

    config = RuntimeConfig(executor=executor, callbacks=[Looks()])
    PIPELINE.map({"x": [1, 2]}, map_over="x", config=config)
    assert sum(outputs is None for _, outputs, _ in seen) == 6
    assert "hypernodes-callbacks" not in {worker for *_, worker in seen}


# ---------------------------------------------------------------- hooks that end the run


class LastChecker(Checker):
    """Is called after those that fail."""

    order = 1000


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize(
    "hook",
    [
        "on_pipeline_start",
        "on_pipeline_end",
        "on_map_start",
        "on_map_end",
        "on_item_start",
        "on_item_end",
        "on_node_start",
        "on_node_end",
        "on_report",
    ],
)
def test_what_a_hook_raises_that_is_no_exception_ends_the_run_and_breaks_no_pair(
    executor, hook, kind
):
    def stop(self):
        raise kind("enough")

    checker = LastChecker()
    callbacks = [type("Stops", (Callback,), {hook: stop}), checker]
    config = RuntimeConfig(executor=executor, callbacks=callbacks)
    with pytest.raises(kind, match="enough"):
        PIPELINE.map({"x": [1, 2, 3]}, map_over="x", config=config)
    checker.check()


@pytest.mark.parametrize("hook", ["on_node_error", "on_item_error", "on_map_end"])
def test_so_does_what_it_raises_when_told_of_an_error(executor, hook):
    def stop(self):
        raise KeyboardInterrupt("enough")

    checker = LastChecker()
    callbacks = [type("Stops", (Callback,), {hook: stop}), checker]
    config = RuntimeConfig(executor=executor, callbacks=callbacks)
    with pytest.raises(KeyboardInterrupt, match="enough"):
        Pipeline([node("y")(lambda x: 1 / x)]).map({"x": [1, 0]}, map_over="x", config=config)
    checker.check()


# ---------------------------------------------------------------- hooks that fall behind


@pytest.mark.parametrize("in_background", [True, False])
def test_a_lazy_map_waits_for_hooks_that_fall_behind(executor, in_background, monkeypatch):
    monkeypatch.setattr(session, "MOST_BEHIND", 20)

    class Slow(Callback):
        async_mode = in_background
        told = 0

        def on_item_end(self):
            time.sleep(0.001)
            self.told += 1

    slow = Slow()
    config = RuntimeConfig(executor=executor, callbacks=[slow])
    plain = Pipeline([double, node("last")(lambda double: double)])
    for index, _ in enumerate(plain.map_iter({"x": iter(range(300))}, map_over="x", config=config)):
        assert index - slow.told <= 250
    assert slow.told == 300
