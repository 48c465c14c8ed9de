"""What hooks are given: whose it is, how it travels, and that it is there when it is asked for."""

import functools

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


# ---------------------------------------------------------------- what cannot travel


class Unfriendly:
    """Has an identity for a cache, and stays where it is."""

    def __init__(self, x):
        self.x = x

    def __cache_key__(self):
        return self.x

    def __reduce__(self):
        raise TypeError("stays here")


def make_unfriendly(x):
    return Unfriendly(x)


class Keeps(Callback):
    """Keeps all values of nodes that it is given."""

    errors = "raise"

    def __init__(self):
        self.inputs = []
        self.outputs = []

    def on_node_start(self, node, inputs):
        self.inputs.append((node.name, inputs))

    def on_node_end(self, ctx, node, output):
        self.outputs.append((node.name, output, ctx.outputs))


def test_a_hit_with_inputs_that_cannot_travel_is_told_like_any_other(executor, tmp_path):
    made = node("made", cache=False)(make_unfriendly)
    pipeline = Pipeline([made, node("y")(lambda made: 2 * made.x)])
    keeps = Keeps()
    cache = {"kind": "disk", "path": str(tmp_path)}
    config = RuntimeConfig(executor=executor, cache=cache, callbacks=[keeps])
    for _ in range(2):
        found = pipeline.map({"x": range(8)}, map_over="x", output_name="y", config=config)
        assert found == [{"y": 2 * x} for x in range(8)]
    assert sorted(name for name, _ in keeps.inputs) == ["make_unfriendly"] * 16 + ["y"] * 16
    outputs = [output for name, output, _ in keeps.outputs if name == "y"]
    assert sorted(outputs) == sorted([2 * x for x in range(8)] * 2)


def test_of_several_outputs_only_those_are_withheld_that_cannot_travel():
    pair = node(("a", "b"))(lambda x: (Unfriendly(x), x))
    inner = Pipeline([pair, node("y")(lambda a, b: a.x + b)])
    keeps = Keeps()
    config = RuntimeConfig(executor=EXECUTORS["process"], callbacks=[keeps])
    nested = Pipeline([inner.as_node(output_mapping={"y": "y"})])
    assert nested.run({"x": 2}, config=config) == {"y": 4}
    assert nested.map({"x": [2]}, map_over="x", config=config) == [{"y": 4}]
    for _, output, by_name in keeps.outputs[::2]:
        assert "cannot leave its worker" in repr(output[0])
        assert output[1] == by_name["b"] == 2
        assert by_name["a"] is output[0]


def test_classes_of_a_script_stay_as_they_are_when_events_bring_them_home(run_script):
    source = """
from hypernodes import Callback, Pipeline, ProcessPoolExecutor, RuntimeConfig, node

class Value:
    count = 0

class Reads(Callback):
    def on_node_end(self, output):
        Value.count += isinstance(output, Value)

if __name__ == "__main__":
    executor = ProcessPoolExecutor(max_workers=1, chunksize=1)
    config = RuntimeConfig(executor=executor, callbacks=[Reads()])
    pipeline = Pipeline([node("v")(lambda x: Value()), node("y")(lambda v: 1)])
    pipeline.map({"x": range(3)}, map_over="x", output_name="y", config=config)
    print(Value.count)
"""
    assert run_script(source).stdout.split() == ["3"]


# ---------------------------------------------------------------- what is found out of hooks


def decorated(hook):
    @functools.wraps(hook)
    def wrapper(*args, **kwargs):
        return hook(*args, **kwargs)

    return wrapper


def test_decorated_hooks_get_the_values_that_they_read(executor):
    seen = []

    class Reads(Callback):
        @decorated
        def on_node_end(self, ctx):
            seen.append((ctx.inputs, ctx.outputs))

        @decorated
        def on_item_end(self, ctx):
            seen.append((ctx.inputs, ctx.outputs))

    config = RuntimeConfig(executor=executor, callbacks=[Reads()])
    Pipeline([double]).map({"x": [3]}, map_over="x", config=config)
    assert seen == [({"x": 3}, {"double": 6})] * 2
