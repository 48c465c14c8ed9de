"""Nodes and hooks that change values in place: what is made of these belongs to no key."""

import warnings

import numpy as np
import pytest

from hypernodes import CacheSpec, CacheWarning, Callback, Pipeline, RuntimeConfig, node
from hypernodes.cache import MemoryCache
from hypernodes.executors import (
    AsyncExecutor,
    ProcessPoolExecutor,
    SequentialExecutor,
    ThreadPoolExecutor,
)

EXECUTORS = [
    SequentialExecutor(),
    ThreadPoolExecutor(max_workers=2),
    AsyncExecutor(),
    ProcessPoolExecutor(max_workers=1),
]


@pytest.fixture(params=EXECUTORS, ids=lambda executor: type(executor).__name__)
def executor(request):
    return request.param


@pytest.fixture(params=["disk", "memory"])
def config(request, executor, tmp_path):
    place = tmp_path / "kept"
    spec = CacheSpec(kind="disk", path=place) if request.param == "disk" else MemoryCache()
    return RuntimeConfig(cache=spec, executor=executor)


def append(x):
    x.append(99)
    return len(x)


def run(pipeline, inputs, config, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CacheWarning)
        return pipeline.run(inputs, config=config, **options)


def test_what_follows_a_change_of_an_input_is_not_kept(config):
    pipeline = Pipeline([node("a")(append), node("b")(lambda x, a: [*x])])
    run(pipeline, {"x": [1]}, config)

    def unchanged(x):
        return len(x) + 1

    mended = Pipeline([node("a")(unchanged), node("b")(lambda x, a: [*x])])
    assert mended.run({"x": [1]}, config=config) == {"a": 2, "b": [1]}


@pytest.mark.parametrize("mapped", [False, True])
def test_what_follows_a_change_of_what_another_node_made_is_not_kept(config, mapped):
    made = node("u")(lambda x: [x])
    kept = node("b")(lambda u: [*u])

    @node("a")
    def change(u):
        u.append(99)
        return len(u)

    def build(*nodes):
        pipeline = Pipeline(nodes, name="inside")
        return Pipeline([pipeline.as_node(map_over="x")]) if mapped else pipeline

    inputs = {"x": [1, 2]} if mapped else {"x": 1}
    run(build(made, change, kept), inputs, config)
    found = run(build(made, kept), inputs, config)
    assert found == ({"u": [[1], [2]], "b": [[1], [2]]} if mapped else {"u": [1], "b": [1]})


def test_the_change_of_an_input_is_told_of_once(config):
    if isinstance(config.executor, ProcessPoolExecutor):
        # Which nodes meet in one worker is chance, so whether there is anything to tell is, too.
        pytest.skip("each worker has a copy of its own, which nobody else sees")
    nodes = node("a")(append), node("b")(lambda x, a: [*x]), node("c")(lambda b, x: 1)
    pipeline = Pipeline(nodes)
    with pytest.warns(
        CacheWarning, match="'x', which node 'append' .* was changed in place"
    ) as told:
        pipeline.run({"x": [1]}, config=config)
    assert len(told) == 1


def test_a_node_that_changes_what_only_it_takes_is_kept(config):
    calls = Pipeline([node("u")(lambda x: [x]), node("a")(lambda u: u.append(9) or len(u))])
    assert calls.run({"x": 1}, config=config, output_name="a") == {"a": 2}
    assert calls.explain({"x": 1}, config=config, output_name="a")["a"].status == "hit"


def test_items_that_change_what_all_share_leave_nothing_wrong(config):
    pipeline = Pipeline([node("y")(lambda x, seen: seen.append(x) or [*seen])])
    inputs = {"x": list(range(200)), "seen": [7]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CacheWarning)
        pipeline.map(inputs, map_over="x", config=config)
        for x in range(200):
            fresh = {"x": x, "seen": [7]}
            assert pipeline.run(fresh, config=config) == {"y": [7, x]}


def test_arrays_that_are_changed_in_place_are_noticed(config):
    def scale(frame):
        frame *= 2
        return float(frame[0])

    pipeline = Pipeline([node("a")(scale), node("b")(lambda frame, a: frame.sum())])
    run(pipeline, {"frame": np.ones(10)}, config)
    other = Pipeline([node("a")(lambda frame: 2.0), node("b")(lambda frame, a: frame.sum())])
    assert run(other, {"frame": np.ones(10)}, config)["b"] == 10


class ChangesOutputs(Callback):
    def wrap_node(self, inputs, call):
        value = call()
        value.append(6)
        return value


class ChangesInputs(Callback):
    def wrap_node(self, inputs, call):
        inputs["x"].append(6)
        return call()


@pytest.mark.parametrize("callback", [ChangesOutputs, ChangesInputs])
def test_what_hooks_have_changed_in_place_is_not_kept(config, callback):
    pipeline = Pipeline([node("y")(lambda x: [*x])])
    observed = config.with_(callbacks=(callback(),)) if hasattr(config, "with_") else None
    observed = observed or RuntimeConfig(**(dict(config) | {"callbacks": (callback(),)}))

    assert run(pipeline, {"x": [1]}, observed) == {"y": [1, 6]}
    assert run(pipeline, {"x": [1]}, config) == {"y": [1]}


def test_hooks_that_change_nothing_keep(config):
    class Looks(Callback):
        def wrap_node(self, call):
            return call()

    pipeline = Pipeline([node("y")(lambda x: [*x])])
    pipeline.run({"x": [1]}, config=RuntimeConfig(**(dict(config) | {"callbacks": (Looks(),)})))
    assert pipeline.explain({"x": [1]}, config=config)["y"].status == "hit"


def test_what_another_attempt_has_changed_before_is_not_kept(config, tmp_path):
    mark = tmp_path / "failed"

    @node("y", retries=1)
    def fail_once(x):
        if not mark.exists():
            mark.touch()
            x.append(99)
            raise ConnectionError
        return [*x]

    pipeline = Pipeline([fail_once])
    assert run(pipeline, {"x": [1]}, config)["y"] == [1, 99]
    assert run(pipeline, {"x": [1]}, config)["y"] == [1]


def test_a_list_that_its_owner_changes_during_a_map_leaves_nothing_wrong(config):
    if isinstance(config.executor, ProcessPoolExecutor):
        # What the owner does here reaches no worker: the items are right, and are kept.
        pytest.skip("workers have a copy of their own")
    shared = [7]
    pipeline = Pipeline([node("y")(lambda x, seen: [*seen, x])])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CacheWarning)
        for index, _ in enumerate(
            pipeline.map_iter({"x": range(40), "seen": shared}, map_over="x", config=config)
        ):
            if index == 3:
                shared.append(8)
    for x in range(40):
        assert pipeline.run({"x": x, "seen": [7]}, config=config) == {"y": [7, x]}
