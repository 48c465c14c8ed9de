"""Random graphs with a cache: the values of plain Python, however much of them is kept already."""

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hypernodes import AsyncExecutor, MemoryCache, RuntimeConfig, ThreadPoolExecutor
from test_random_graphs import (
    Func,
    Recorder,
    build,
    evaluate,
    items_of,
    mapped_scenes,
    scenes,
)

EXECUTORS = (
    RuntimeConfig(executor="sequential"),
    RuntimeConfig(executor=ThreadPoolExecutor(max_workers=3)),
    RuntimeConfig(executor=AsyncExecutor(max_concurrency=3)),
)
patient = settings(
    deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


class SilentRecorder(Recorder):
    """Counts calls without being part of what functions hash to."""

    def __cache_key__(self):
        return "recorder"


@pytest.fixture(autouse=True, scope="module")
def pools():
    yield
    for config in EXECUTORS:
        config.executor.close()


@pytest.fixture(autouse=True)
def describes(monkeypatch):
    """Let descriptions of functions, which others share, count by what they compute."""
    key = lambda func: (func.name, [p.own_name for p in func.params], list(func.outputs.items()))  # noqa: E731
    monkeypatch.setattr(Func, "__cache_key__", key, raising=False)


def without(pipeline, chance):
    """Return the pipeline with some nodes that are not to be cached."""
    for member in pipeline.nodes:
        if chance.random() < 0.25:
            pipeline = pipeline.replace(member.output_names[0], member.with_options(cache=False))
    return pipeline


def forget_some(cache, chance):
    for signature in list(cache._kept):
        if chance.random() < 0.4:
            cache.delete(signature)


@patient
@given(scenes(), st.integers(0, 1 << 30))
def test_runs_give_the_same_whatever_is_kept(scene, seed):
    chance = random.Random(seed)
    recorder = SilentRecorder()
    pipeline = without(build(scene.graph, recorder, configured=False), chance)
    right, log = evaluate(scene.graph, scene.inputs, scene.asked)

    for config in EXECUTORS:
        cache = MemoryCache()
        cached = config.replace(cache=cache)
        for _ in range(3):
            found = pipeline.run(scene.inputs, output_name=scene.asked, config=cached)
            assert list(found.items()) == list(right.items())
            calls = recorder.take()
            assert all(count <= log.calls[name] for name, count in calls.items())
            forget_some(cache, chance)


@patient
@given(mapped_scenes(faults=False), st.integers(0, 1 << 30))
def test_maps_give_the_same_whatever_is_kept(drawn, seed):
    scene, map_over, mode = drawn
    chance = random.Random(seed)
    recorder = SilentRecorder()
    pipeline = without(build(scene.graph, recorder, configured=False), chance)
    options = {"map_over": map_over, "map_mode": mode, "output_name": scene.asked}
    right = [
        list(evaluate(scene.graph, scene.inputs | item, scene.asked)[0].items())
        for item in items_of(scene, map_over, mode)
    ]
    for config in EXECUTORS:
        cache = MemoryCache()
        cached = config.replace(cache=cache)
        for _ in range(3):
            found = pipeline.map(scene.inputs, config=cached, **options)
            assert [list(item.items()) for item in found] == right
            forget_some(cache, chance)


@patient
@given(scenes())
def test_the_second_run_calls_nothing(scene):
    recorder = SilentRecorder()
    pipeline = build(scene.graph, recorder, configured=False)
    cached = EXECUTORS[0].replace(cache=MemoryCache())

    first = pipeline.run(scene.inputs, output_name=scene.asked, config=cached)
    recorder.take()
    assert pipeline.run(scene.inputs, output_name=scene.asked, config=cached) == first
    assert not recorder.take()
