"""The pool of a cluster, whatever happens there in whatever order: all ends, nothing is lost."""

from __future__ import annotations

import threading
import time
from concurrent import futures
from contextlib import suppress
from types import SimpleNamespace

import pytest

from checker import Checker
from clusters import (
    CALLS,
    SIZES,
    Chaos,
    ChaosBackend,
    ChaosExecutor,
    break_down,
    called,
    die,
    gaze,
    glance,
)
from hypernodes import Callback, Failure, Pipeline, RuntimeConfig, node, report
from hypernodes._dispatch.session import Session
from hypernodes._engine.clusters import places, stock, underway, worker
from hypernodes._engine.clusters.briefs import DRIVER
from hypernodes._engine.clusters.places import Place
from hypernodes._engine.observing.runs import Run
from hypernodes._engine.shipping.events import OVER, Story
from hypernodes._engine.shipping.tales import Tale
from hypernodes.exceptions import HyperNodesError, ResourceError, WorkerCrashedError

LIMIT = 60
BIG = 1 << 17
SEEDS = range(12)
CAPACITIES = [(1,), (1, 1), (3,), (2, 1, 1)]


@pytest.fixture(autouse=True)
def _uncalled():
    CALLS.clear()
    SIZES.clear()


def in_time(call):
    """Return what `call` returns, in another thread; one that hangs fails."""
    done = futures.Future()

    def run():
        try:
            done.set_result(call())
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return done.result(LIMIT)


def mapped(function, inputs, executor, **options):
    """Return what a map over `x` gives."""
    pipeline = Pipeline([node("y", **options)(function)], name="single")
    config = RuntimeConfig(executor=executor)
    with executor:
        return in_time(
            lambda: pipeline.map({"x": inputs}, map_over="x", on_error="return", config=config)
        )


@pytest.mark.parametrize("capacities", CAPACITIES)
@pytest.mark.parametrize("seed", SEEDS)
def test_every_item_runs_once_whatever_the_order_of_what_is_told(seed, capacities):
    def work(x):
        called(x)
        glance()
        return -x

    executor = ChaosExecutor(seed=seed, capacities=capacities, chunksize=seed % 5 + 1)
    assert mapped(work, range(40), executor) == [{"y": -x} for x in range(40)]
    assert dict.fromkeys(range(40), 1) == CALLS


@pytest.mark.parametrize("capacities", CAPACITIES)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_death_costs_no_item_and_only_what_was_there_runs_again(seed, capacities):
    def work(x):
        called(x)
        glance()
        return -x

    executor = ChaosExecutor(seed=seed, capacities=capacities, deaths=1, chunksize=4)
    assert mapped(work, range(40), executor) == [{"y": -x} for x in range(40)]
    again = [x for x, count in CALLS.items() if count > 1]
    assert max(CALLS.values()) <= 2
    assert len(again) <= 4 * 3 * max(capacities)


@pytest.mark.parametrize("capacities", CAPACITIES)
@pytest.mark.parametrize("seed", SEEDS)
def test_who_kills_its_worker_fails_alone(seed, capacities):
    bad = {3, 17, 18}

    def work(x):
        glance()
        if x in bad:
            die()
        return -x

    executor = ChaosExecutor(seed=seed, capacities=capacities, chunksize=seed % 4 + 1)
    found = mapped(work, range(30), executor)
    failed = {x for x, outcome in enumerate(found) if isinstance(outcome, Failure)}
    assert failed == bad
    assert {type(found[x].error) for x in bad} == {WorkerCrashedError}
    assert {found[x].node for x in bad} == {"work"}
    assert all(found[x] == {"y": -x} for x in range(30) if x not in bad)


def test_items_that_all_kill_their_workers_all_fail_and_end_no_run():
    def work(x):
        del x
        die()

    found = mapped(work, range(8), ChaosExecutor(seed=1, chunksize=3))
    assert [type(outcome.error) for outcome in found] == [WorkerCrashedError] * 8


@pytest.mark.parametrize("seed", SEEDS)
def test_attempts_before_a_death_count(seed):
    def work(x):
        count = called(x)
        if x == 2 and count == 3:
            die()
        if x == 2:
            raise ValueError(count)
        return x

    found = mapped(work, range(4), ChaosExecutor(seed=seed, chunksize=4), retries=4)
    # Five attempts; the third, which ended with its worker, is forgiven.
    assert (found[2].attempts, CALLS[2]) == (5, 6)


def layered(seed):
    """Return a pipeline of nodes that hand on what is big, and what it gives."""
    layers = 4

    def combine(a, b):
        glance()
        return bytes([(a[0] + b[0]) % 256]) * BIG

    nodes = [node(f"v0_{i}")(lambda x, i=i: bytes([x + i]) * BIG) for i in range(3)]
    for layer in range(1, layers):
        for place in range(3):
            first = (place + seed) % 3
            second = (first + 1 + place * layer % 2) % 3
            names = {"a": f"v{layer - 1}_{first}", "b": f"v{layer - 1}_{second}"}
            nodes.append(node(f"v{layer}_{place}")(combine).rename(inputs=names))
    nodes.append(
        node("end")(lambda a, b, c: (a[0], b[0], c[0])).rename(
            inputs={"a": "v3_0", "b": "v3_1", "c": "v3_2"}
        )
    )
    return Pipeline(nodes, name="layers")


@pytest.mark.parametrize("deaths", [0, 1])
@pytest.mark.parametrize("capacities", CAPACITIES)
@pytest.mark.parametrize("seed", SEEDS)
def test_values_that_are_lost_with_a_worker_are_made_again(seed, capacities, deaths):
    pipeline, inputs = layered(seed), {"x": 5}
    executor = ChaosExecutor(seed=seed, capacities=capacities, deaths=deaths)
    config = RuntimeConfig(executor=executor)
    with executor:
        found = in_time(lambda: pipeline.run(inputs, output_name="end", config=config))
        whole = in_time(lambda: pipeline.run(inputs, config=config))
        assert deaths or max(SIZES) < BIG  # what is asked for is taken where it was made, too
        items = {"x": [1, 2, 3]}
        many = in_time(
            lambda: pipeline.map(items, map_over="x", output_name=["end", "v1_1"], config=config)
        )
    assert whole == pipeline.run(inputs)
    assert found == {"end": whole["end"]}
    assert many == pipeline.map(items, map_over="x", output_name=["end", "v1_1"])


@pytest.mark.parametrize("seed", SEEDS)
def test_many_deaths_end_in_results_or_in_crashes(seed):
    executor = ChaosExecutor(seed=seed, capacities=(2, 1), deaths=9, chunksize=3)
    try:
        found = mapped(lambda x: -x, range(40), executor)
    except WorkerCrashedError:
        return
    for x, outcome in enumerate(found):
        crashed = isinstance(outcome, Failure) and isinstance(outcome.error, WorkerCrashedError)
        assert crashed or outcome == {"y": -x}


@pytest.mark.parametrize("deaths", [0, 1])
@pytest.mark.parametrize("seed", SEEDS)
def test_what_needs_a_resource_waits_for_who_has_it(seed, deaths):
    executor = ChaosExecutor(seed=seed, capacities=(1, 2), deaths=deaths, resources=("lamp",))
    config = RuntimeConfig(executor=executor)
    lit = Pipeline([node("y", resources={"lamp": 1})(lambda x: -x), node("z")(lambda x: x + 1)])
    with executor:
        found = in_time(lambda: lit.map({"x": range(9)}, map_over="x", config=config))
        assert found == [{"y": -x, "z": x + 1} for x in range(9)]
        assert in_time(lambda: lit.run({"x": 1}, config=config)) == {"y": -1, "z": 2}
        dark = Pipeline([node("y", resources={"sun": 1})(lambda x: -x)])
        with pytest.raises(ResourceError, match="'sun'"):
            dark.run({"x": 1}, config=config)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_cluster_that_breaks_ends_the_run(seed):
    executor = ChaosExecutor(seed=seed, chunksize=2)
    config = RuntimeConfig(executor=executor)

    def work(x):
        if x == seed % 13:
            break_down()
        return x

    pipeline = Pipeline([node("y")(work)])
    with executor, pytest.raises(HyperNodesError, match="gone"):
        in_time(lambda: pipeline.map({"x": range(30)}, map_over="x", config=config))
    with executor:
        found = in_time(lambda: pipeline.map({"x": range(20, 30)}, map_over="x", config=config))
    assert found == [{"y": x} for x in range(20, 30)]


@pytest.mark.parametrize("seed", SEEDS)
def test_closing_in_the_middle_ends_the_run(seed):
    executor = ChaosExecutor(seed=seed, chunksize=2)
    config = RuntimeConfig(executor=executor)

    def work(x):
        called(0)
        glance()
        return x

    pipeline = Pipeline([node("y")(work)])
    with futures.ThreadPoolExecutor(1) as threads, executor:
        running = threads.submit(
            lambda: pipeline.map({"x": range(200)}, map_over="x", config=config)
        )
        while CALLS[0] < seed and not running.done():
            time.sleep(0.001)
        in_time(executor.close)
        try:
            assert running.result(LIMIT) == [{"y": x} for x in range(200)]
        except HyperNodesError as error:
            assert "closed" in str(error)  # noqa: PT017 - either way is right


def told(fatal, checker):
    """Return a pipeline with nested runs and maps; calls of it look around, and some die."""

    def work(x):
        gaze()
        report("x", x=x)
        if x in fatal and called(x) == 1:
            gaze()
            die()
        gaze()
        return x

    def again(m):
        return work(m + 100)

    inner = Pipeline([node("y")(work), node("z", retries=1)(lambda y: work(y + 200))], name="in")
    own = RuntimeConfig(executor="sequential", callbacks=[checker])
    return Pipeline(
        [
            Pipeline([node("n")(work), node("m")(lambda n: n)], name="plain").as_node(),
            node("own", config=own)(again),
            node("xs")(lambda x, own: [10 * x + 10, 10 * x + 11, 10 * own - 988]),
            inner.as_node(map_over="xs", input_mapping={"xs": "x"}, name="mapped"),
            node("end")(lambda z, own: sum(z) + own),
        ],
        name="outer",
    )


@pytest.mark.parametrize("deaths", [0, 2])
@pytest.mark.parametrize("capacities", [(1,), (2, 1)])
@pytest.mark.parametrize("seed", range(25))
def test_all_that_is_told_early_comes_to_one_end(seed, capacities, deaths, monkeypatch):
    monkeypatch.setattr(underway, "FRESH", 0.0)
    monkeypatch.setattr(underway, "EARLY", 0.0)
    checker = Checker()
    fatal = {(seed % 6, 100 + seed % 6, 10 + 10 * (seed % 5), 212 + 10 * (seed % 5))[seed % 4]}
    backend = ChaosBackend(seed=seed, capacities=capacities, deaths=deaths)
    config = RuntimeConfig(backend=backend, executor="sequential", callbacks=[checker])
    pipeline = told(fatal, checker).with_config(config)
    with backend:
        found = in_time(
            lambda: pipeline.map(
                {"x": range(6)}, map_over="x", output_name="end", on_error="return"
            )
        )
        for x, outcome in enumerate(found):  # it may die of two of its nodes
            crashed = isinstance(outcome, Failure) and isinstance(outcome.error, WorkerCrashedError)
            assert crashed or outcome == {"end": 31 * x + 733}
        with suppress(WorkerCrashedError):
            found = in_time(lambda: told({1, 101}, checker).with_config(config).run({"x": 1}))
            assert found["end"] == 764
    checker.check()
    items = [hook for hook, path, _ in checker.seen if path == ("outer",) and "item" in hook]
    assert items.count("on_item_start") == len(items) / 2


def test_a_value_that_another_stored_after_a_miss_was_lost_is_a_hit():
    checker, told = Checker(), []

    class Checks(Callback):
        def on_cache_check(self):
            told.append("check")

        def on_cache_hit(self):
            told.append("hit")

        def on_cache_miss(self):
            told.append("miss")

    pipeline = Pipeline([node("y")(lambda x: x)])
    ctx = pipeline._context(RuntimeConfig(callbacks=[checker, Checks()], cache="memory"))
    engine = pipeline.engine(["x"], ctx)
    run = Run(Session(), pipeline, ctx, "run")
    run.begin(0.0, {})
    tale = Tale(run.enter(engine), engine, {})
    begun = (), "started", (0.0, None, {}, None)
    tale.go_on([begun, ((), "missed", (0, "signature"))])
    tale.lose(0.0)
    found = (), "found", (0, 1.0, "signature", (None, 1), None)
    tale.end(Story({"y": 1}, [begun, found, ((), OVER, (2.0,))]))
    run.end(3.0, {})
    checker.check()
    assert told == ["check", "hit"]


def test_a_place_where_something_may_take_any_time_may_be_silent():
    place = Place("here", 2)
    bounded, unbounded = SimpleNamespace(patience=16.0), SimpleNamespace(patience=None)
    assert place.patience is None
    place.flights = {1: bounded}
    assert place.patience == 16.0
    place.flights = {1: bounded, 2: unbounded}
    assert place.patience is None


def test_a_worker_hears_of_plans_that_are_over_once_and_of_much_at_once(monkeypatch):
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    held = stock.Stock()
    for token, size in ((1, 10), (2, 20), (3, stock.HEAVY)):
        held.send(token, size)
        held.arrive(token)
    assert 1 in held
    assert 4 not in held
    held.end([7])
    assert held.due is None
    held.end([1])
    assert held.due == now + stock.LINGER
    now += 0.1
    held.end([2, 7])
    assert held.due == 100.0 + stock.LINGER  # not put off
    assert 1 not in held
    held.arrive(1)  # a report from before
    assert 1 not in held
    held.end([3])
    assert held.due == now
    assert held.over() == (1, 2, 3)
    assert held.due is None
    assert held.over() == ()


def test_a_plan_that_is_over_while_it_is_loaded_is_not_kept(monkeypatch):
    orders, submit, load = [], Chaos.submit, worker.load

    def submitted(self, order):
        orders.append(order)
        submit(self, order)

    def over(*parcels):
        worker.forget(DRIVER, [-1])
        return load(*parcels)

    monkeypatch.setattr(Chaos, "submit", submitted)
    with ChaosExecutor(seed=0, chunksize=2) as executor:
        config = RuntimeConfig(executor=executor)
        Pipeline([node("y")(lambda x: x)]).map({"x": [1, 2]}, map_over="x", config=config)
    monkeypatch.setattr(worker, "load", over)
    brief = orders[0].brief._replace(number=-1, token=-1)
    assert worker.work(brief, orders[0].luggage, [], lambda _: None).report.done == 2
    assert (DRIVER, -1) not in worker._jobs


def test_a_worker_hears_of_plans_that_are_over_only_where_it_reads_that_at_once(monkeypatch):
    told, submit = [], Chaos.submit

    def submitted(self, order):
        told.append((order.brief.over, len(self.sites[order.place].queue)))
        submit(self, order)

    monkeypatch.setattr(Chaos, "submit", submitted)
    monkeypatch.setattr(stock, "LINGER", 60.0)
    with ChaosExecutor(seed=1, capacities=(1,), chunksize=1) as executor:
        config = RuntimeConfig(executor=executor)
        for _ in range(3):
            Pipeline([node("y")(lambda x: x)]).map({"x": range(9)}, map_over="x", config=config)
    assert sum(map(bool, dict.fromkeys(over for over, _ in told))) == 2
    assert all(not waiting for over, waiting in told if over)


def test_a_chunk_that_has_to_wait_tells_of_no_plans_that_are_over():
    place = Place("here", 1)
    place.stock.send(1, 10)
    place.stock.end([1])
    place.flights = {1: SimpleNamespace()}
    assert place.over() == ()
    assert place.stock.due is not None
    place.flights = {}
    assert place.over() == (1,)
    assert place.stock.due is None


def test_a_worker_is_relied_upon_for_the_latest_plans_only():
    held = stock.Stock()
    for token in range(stock.KNOWN + 2):
        held.send(token, 1)
        held.arrive(token)
    assert [token for token in range(stock.KNOWN + 2) if token not in held] == [0, 1]
    held.lack(5)
    assert 5 not in held


def test_a_worker_is_not_stuck_because_its_driver_stood_still(monkeypatch):
    monkeypatch.setattr(places, "patience_with", lambda *_: 16.0)
    place, flights = Place("here", 1), underway.UnderWay(None)
    source = SimpleNamespace(engine=None, steps_of=lambda _: [])
    flight = flights.begin(SimpleNamespace(entries=[0], source=source), place)
    flight.ask(0.0)
    assert flights.stuck(60.0) == []
    flight.looking = False  # the answer was there
    assert flights.stuck(70.0) == []
    flight.ask(70.0)
    assert flights.stuck(86.0) == []
    assert flights.stuck(86.5) == []
    assert flights.stuck(87.0) == [place]
    assert flights.stuck(90.0) == []
