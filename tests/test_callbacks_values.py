"""What hooks are given: whose it is, how it travels, and that it is there when it is asked for."""

import pytest

from hypernodes import (
    AsyncExecutor,
    Callback,
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
}


@pytest.fixture(params=EXECUTORS.values(), ids=EXECUTORS.keys())
def executor(request):
    return request.param


@node
def double(x):
    return 2 * x


@node
def plus(double, y=1):
    return double + y


BOTH = Pipeline([double, plus], name="both")


# ---------------------------------------------------------------- whose the dicts are


def spoil(given):
    """Change a dict, or a list of them, as far as that goes."""
    for each in given if isinstance(given, list) else [given]:
        each.clear()


def spoiling(hook, argument):
    """Return a callback whose hook empties what it is given."""
    spaces = {"spoil": spoil}
    exec(f"def {hook}(self, ctx, {argument}): spoil({argument}); spoil(ctx.{argument})", spaces)  # noqa: S102 - a hook's arguments are part of its code
    return type("Spoils", (Callback,), {"errors": "raise", hook: spaces[hook]})()


@pytest.mark.parametrize(
    ("hook", "argument"),
    [
        ("on_pipeline_start", "inputs"),
        ("on_pipeline_end", "outputs"),
        ("on_node_start", "inputs"),
        ("on_item_start", "inputs"),
        ("on_item_end", "outputs"),
    ],
)
def test_what_a_hook_does_to_its_dicts_changes_nothing(executor, hook, argument):
    config = RuntimeConfig(executor=executor, callbacks=[spoiling(hook, argument)])
    one, several = {"x": 3}, {"x": [3, 4]}
    assert BOTH.run(one, config=config) == {"double": 6, "plus": 7}
    found = BOTH.map(several, map_over="x", config=config)
    assert found == [{"double": 6, "plus": 7}, {"double": 8, "plus": 9}]
    assert (one, several) == ({"x": 3}, {"x": [3, 4]})
    nested = Pipeline([BOTH.as_node(map_over="x")], name="outer")
    assert nested.run(several, config=config) == {"double": [6, 8], "plus": [7, 9]}


def test_what_a_function_does_to_its_dicts_changes_nothing(executor):
    def spoils(phase, config, data):
        for name in {"inputs", "outputs"} & data.keys():
            spoil(data[name])

    config = RuntimeConfig(executor=executor, callbacks=[spoils])
    assert BOTH.map({"x": [3]}, map_over="x", config=config) == [{"double": 6, "plus": 7}]


def test_what_observers_do_to_their_dicts_does_not_reach_wrap_node(executor):
    class Wraps(Callback):
        def wrap_node(self, inputs, call):
            return inputs["x"] + call()

    callbacks = [spoiling("on_node_start", "inputs"), Wraps()]
    config = RuntimeConfig(executor=executor, callbacks=callbacks)
    assert Pipeline([double]).run({"x": 3}, config=config) == {"double": 9}
