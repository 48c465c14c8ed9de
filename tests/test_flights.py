"""Of several who miss the same at the same time, one computes."""

import os
import threading
import time
from concurrent import futures

import pytest

from caching import Tally
from hypernodes import (
    AsyncExecutor,
    CacheWarning,
    MemoryCache,
    Pipeline,
    RuntimeConfig,
    ThreadPoolExecutor,
    node,
)
from hypernodes._engine.flights import FLIGHTS, Flights

SECONDS = 60


@pytest.fixture
def tally(tmp_path):
    return Tally(tmp_path / "calls")


class Gate:
    """Holds calls until it is opened, without being part of what functions hash to."""

    def __init__(self, parties=1):
        self.arrived = threading.Semaphore(0)
        self.opened = threading.Event()
        self.parties = parties

    def __cache_key__(self):
        return "gate"

    def pass_through(self):
        self.arrived.release()
        assert self.opened.wait(SECONDS)


def side_by_side(*calls):
    with futures.ThreadPoolExecutor(len(calls)) as threads:
        return [future.result(SECONDS) for future in [threads.submit(call) for call in calls]]


@pytest.mark.parametrize(
    "executor", ["sequential", ThreadPoolExecutor(max_workers=4), AsyncExecutor(max_concurrency=4)]
)
@pytest.mark.parametrize("is_async", [False, True])
def test_concurrent_runs_compute_once(executor, is_async, tally):
    gate = Gate()
    config = RuntimeConfig(executor=executor, cache=MemoryCache())

    def slow(x):
        tally.add("slow")
        gate.pass_through()
        return [x]

    async def slow_later(x):
        tally.add("slow")
        gate.pass_through()
        return [x]

    pipeline = Pipeline([node("y")(slow_later if is_async else slow)])

    def release():
        assert gate.arrived.acquire(timeout=SECONDS)
        gate.opened.set()

    runs = [lambda: pipeline.run({"x": 1}, config=config)] * 3
    *found, _ = side_by_side(*runs, release)
    assert [result["y"] for result in found] == [[1]] * 3
    assert len({id(result["y"]) for result in found}) == 3
    assert tally.take() == ["slow"]


@pytest.mark.parametrize(
    "executor", [ThreadPoolExecutor(max_workers=3), AsyncExecutor(max_concurrency=3)]
)
def test_equal_items_of_a_map_compute_once(executor, tally):
    config = RuntimeConfig(executor=executor, cache=MemoryCache())

    def square(x):
        tally.add(x)
        return x * x

    found = Pipeline([node("y")(square)]).map({"x": [2, 3] * 10}, map_over="x", config=config)
    assert [item["y"] for item in found] == [4, 9] * 10
    assert tally.take() == ["2", "3"]


def test_two_nodes_of_one_function_compute_once(tally):
    config = RuntimeConfig(executor=ThreadPoolExecutor(max_workers=2), cache=MemoryCache())

    def square(x):
        tally.add(x)
        return x * x

    made = node("p")(square)
    pipeline = Pipeline([made, made.rename(outputs={"p": "q"})])
    assert pipeline.run({"x": 3}, config=config) == {"p": 9, "q": 9}
    assert tally.take() == ["3"]


def test_where_the_first_fails_the_next_tries_itself(tally):
    gate, fails = Gate(), Switch()
    config = RuntimeConfig(executor="sequential", cache=MemoryCache())

    def shaky(x):
        tally.add("shaky")
        if fails.once():
            gate.pass_through()
            raise ValueError(x)
        return x

    pipeline = Pipeline([node("y")(shaky)])

    def first():
        with pytest.raises(ValueError, match="1"):
            pipeline.run({"x": 1}, config=config)

    def second():
        assert gate.arrived.acquire(timeout=SECONDS)
        with futures.ThreadPoolExecutor(1) as thread:
            run = thread.submit(pipeline.run, {"x": 1}, config=config)
            gate.opened.set()
            return run.result(SECONDS)

    assert side_by_side(first, second) == [None, {"y": 1}]
    assert tally.take() == ["shaky", "shaky"]


class Switch:
    """True the first time it is asked."""

    def __init__(self):
        self._lock = threading.Lock()
        self._asked = False

    def __cache_key__(self):
        return "switch"

    def once(self):
        with self._lock:
            first, self._asked = not self._asked, True
            return first


def test_a_node_that_maps_on_the_workers_that_wait_for_it_does_not_deadlock():
    """Its passengers occupy all workers of the pool that it needs."""
    pool = RuntimeConfig(executor=ThreadPoolExecutor(max_workers=1), cache=MemoryCache())
    inner = Pipeline([node("z")(lambda x: x + 1)])

    def nested(x):
        return [item["z"] for item in inner.map({"x": [x, x + 1]}, map_over="x", config=pool)]

    outer = RuntimeConfig(executor=ThreadPoolExecutor(max_workers=3), cache=pool.cache)
    pipeline = Pipeline([node("y")(nested)])
    runs = [
        lambda: pipeline.map({"x": [5] * 3}, map_over="x", config=outer),
        lambda: pipeline.map({"x": [5] * 3}, map_over="x", config=pool),
    ] * 2
    for found in side_by_side(*runs):
        assert [item["y"] for item in found] == [[6, 7]] * 3


def test_a_node_that_runs_itself_does_not_wait_for_itself():
    config = RuntimeConfig(executor="sequential", cache=MemoryCache())
    depth = Switch()
    pipeline = Pipeline([node("y")(lambda x: again(x))])  # noqa: PLW0108

    def again(x):
        return pipeline.run({"x": x}, config=config)["y"] if depth.once() else x

    assert pipeline.run({"x": 1}, config=config) == {"y": 1}


def test_after_a_flight_whoever_looked_before_it_looks_again():
    flights = Flights()
    mark = flights.now()
    flight, landing = flights.start("a")
    assert landing is None
    other, landing = flights.start("a")
    assert other is flight
    flight.depart(alone=False)
    assert not landing.done()
    assert not flights.has_landed("a", mark)
    flight.land()
    assert landing.done()
    assert flights.has_landed("a", mark)
    assert not flights.has_landed("a", flights.now())
    assert not flights.has_landed("b", mark)
    assert flights.start("a")[1] is None


def test_who_leads_a_flight_waits_for_no_other():
    flights = Flights()
    flights.start("a")
    led, _ = flights.start("b")
    led.depart(alone=False)
    assert flights.start("a")[1] is None
    led.land()
    assert flights.start("a")[1] is not None


def test_flights_are_forgotten_in_favour_of_caution(monkeypatch):
    monkeypatch.setattr("hypernodes._engine.flights._MOST", 2)
    flights = Flights()
    mark = flights.now()
    for key in "abcd":
        flight, _ = flights.start(key)
        flight.depart(alone=True)
        flight.land()
    assert len(flights._landed) <= 2
    assert flights.has_landed("a", mark)


def test_equal_items_of_which_the_first_fails_are_all_tried(tally):
    executor = ThreadPoolExecutor(max_workers=2)
    config = RuntimeConfig(executor=executor, cache=MemoryCache())

    def fail(x):
        tally.add(x)
        raise ValueError(x)

    pipeline = Pipeline([node("y")(fail)])
    found = pipeline.map({"x": [1] * 5}, map_over="x", config=config, on_error="return")
    assert [failure.index for failure in found] == [0, 1, 2, 3, 4]
    assert {failure.inputs["x"] for failure in found} == {1}
    assert tally.take() == ["1"] * 5


def test_equal_items_whose_value_cannot_be_kept_are_all_computed(tally):
    executor = ThreadPoolExecutor(max_workers=2)
    config = RuntimeConfig(executor=executor, cache=MemoryCache())

    def lock(x):
        tally.add(x)
        return threading.Lock()

    pipeline = Pipeline([node("y")(lock)])
    with pytest.warns(CacheWarning) as caught:
        found = pipeline.map({"x": [1] * 5}, map_over="x", config=config)
    assert len({id(item["y"]) for item in found}) == 5
    assert len(caught) == 1
    assert tally.take() == ["1"] * 5


FORKING = """
import os, threading, warnings
from hypernodes import MemoryCache, Pipeline, RuntimeConfig, node

started, go = threading.Event(), threading.Event()

class Gate:
    def __cache_key__(self):
        return "gate"
    def wait(self):
        started.set()
        go.wait()

gate = Gate()
pipeline = Pipeline([node("y")(lambda x: (gate.wait(), x)[1])])
config = RuntimeConfig(executor="sequential", cache=MemoryCache())
thread = threading.Thread(target=pipeline.run, args=({"x": 1},), kwargs={"config": config})
thread.start()
started.wait()
warnings.simplefilter("ignore")
child = os.fork()
if not child:
    go.set()
    os._exit(0 if pipeline.run({"x": 1}, config=config) == {"y": 1} else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
go.set()
thread.join()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_process_does_not_wait_for_flights_of_its_parent(run_script):
    run_script(FORKING)


def test_nothing_stays_open():
    end = time.monotonic() + SECONDS
    while FLIGHTS._open and time.monotonic() < end:
        time.sleep(0.001)  # calls that nobody waits for any more may run for a moment
    assert not FLIGHTS._open
