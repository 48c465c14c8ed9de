"""What every executor has to do alike. A new one joins by a line in `CASES`."""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections import Counter
from concurrent import futures
from contextvars import ContextVar, copy_context
from dataclasses import dataclass

import pytest

from hypernodes import (
    AsyncExecutor,
    Executor,
    Failure,
    HyperNodesError,
    Pipeline,
    ProcessPoolExecutor,
    RuntimeConfig,
    SequentialExecutor,
    ThreadPoolExecutor,
    node,
)


@dataclass(frozen=True)
class Case:
    """An executor, how much runs at once on it, and whether its workers share our memory."""

    executor: Executor
    workers: int
    shares_memory: bool = True

    @property
    def config(self):
        return RuntimeConfig(executor=self.executor)


CASES = (
    Case(SequentialExecutor(), 1),
    Case(ThreadPoolExecutor(max_workers=4), 4),
    Case(ThreadPoolExecutor(max_workers=1), 1),
    Case(ThreadPoolExecutor(max_workers=32), 32),
    Case(AsyncExecutor(max_concurrency=4), 4),
    Case(AsyncExecutor(max_concurrency=1), 1),
    Case(AsyncExecutor(max_concurrency=32), 32),
    Case(ProcessPoolExecutor(max_workers=2), 2, shares_memory=False),
    Case(ProcessPoolExecutor(max_workers=1), 1, shares_memory=False),
)
LOCAL = tuple(case for case in CASES if case.shares_memory)
PARALLEL = tuple(case for case in LOCAL if case.workers > 1)
POOLED = tuple(case for case in LOCAL if not isinstance(case.executor, SequentialExecutor))
SEQUENTIAL = RuntimeConfig(executor=SequentialExecutor())
LIMIT = 10.0


def opened(request):
    yield request.param
    request.param.executor.close()


def spelled(case):
    return repr(case.executor)


# Every case; those whose workers see this process's events; those that overlap; those with a pool.
every = pytest.fixture(params=CASES, ids=spelled, name="every")(opened)
local = pytest.fixture(params=LOCAL, ids=spelled, name="local")(opened)
parallel = pytest.fixture(params=PARALLEL, ids=spelled, name="parallel")(opened)
pooled = pytest.fixture(params=POOLED, ids=spelled, name="pooled")(opened)


def within(seconds, function):
    """Return what `function` returns; fail if that takes longer than `seconds`."""
    future = started(function)
    done, _ = futures.wait((future,), seconds)
    assert done, f"still running after {seconds} s"
    return future.result()


def started(function):
    """Return the future of `function`, which runs in a thread of its own."""
    future = futures.Future()

    def call():
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=copy_context().run, args=(call,), daemon=True).start()
    return future


def mapped(function, output, **options):
    """Return a pipeline of one function, as a node that is mapped over `xs`."""
    inner = Pipeline([node(output)(function)], name=f"make_{output}")
    (name,) = inner.root_args
    return inner.as_node(
        input_mapping={"xs": name}, output_mapping={output: f"{output}s"}, map_over="xs", **options
    )


# ---------------------------------------------------------------- results and their order


@node(output_name=("low", "high"))
def bounds(values):
    return min(values), max(values)


@node
def total(values, weight=1):
    return weight * sum(values)


@node
def spread(low, high, *, unit=1):
    return (high - low) / unit


@node
async def summary(total, spread, /):
    return total, spread


STATISTICS = Pipeline([summary, spread, total, bounds], name="statistics")


def test_a_run_gives_what_the_sequential_executor_gives_in_the_same_order(every):
    inputs = {"values": [3, 1, 8], "unit": 2}

    found = STATISTICS.run(inputs, config=every.config)

    assert list(found.items()) == list(STATISTICS.run(inputs, config=SEQUENTIAL).items())
    assert list(found) == ["summary", "spread", "total", "low", "high"]


@pytest.mark.parametrize("names", ["spread", ["high", "total"], ("summary", "low")])
def test_outputs_that_are_asked_for_come_in_the_order_in_which_they_are_asked_for(every, names):
    inputs = {"values": [3, 1, 8]}

    found = STATISTICS.run(inputs, output_name=names, config=every.config)

    assert list(found) == ([names] if isinstance(names, str) else list(names))
    assert found == STATISTICS.run(inputs, output_name=names, config=SEQUENTIAL)


@pytest.mark.parametrize("mode", ["zip", "product"])
@pytest.mark.parametrize("count", [0, 1, 3, 40])
def test_a_map_gives_what_the_sequential_executor_gives_in_the_same_order(every, mode, count):
    inputs = {"values": [[n, n * n, -n] for n in range(count)], "unit": range(1, count + 1)}
    options = {"map_over": ("values", "unit"), "map_mode": mode}

    found = STATISTICS.map(inputs, **options, config=every.config)

    assert found == STATISTICS.map(inputs, **options, config=SEQUENTIAL)
    assert len(found) == (count if mode == "zip" else count * count)


def in_reverse(count):
    """Return a pipeline whose items finish one after another, the last one first."""
    finished = [threading.Event() for _ in range(count + 1)]
    finished[count].set()

    @node
    def place(index):
        assert finished[index + 1].wait(LIMIT)
        finished[index].set()
        return index

    return Pipeline([place])


def test_results_keep_the_order_of_the_items_whatever_the_order_in_which_they_finish(parallel):
    count = parallel.workers

    found = in_reverse(count).map({"index": range(count)}, map_over="index", config=parallel.config)

    assert found == [{"place": index} for index in range(count)]


def test_lists_of_a_nested_map_keep_the_order_of_the_items(parallel):
    count = parallel.workers
    nested = in_reverse(count).as_node(map_over="index")

    found = Pipeline([nested]).run({"index": range(count)}, config=parallel.config)

    assert found == {"place": list(range(count))}


def test_map_iter_yields_in_order_whatever_the_order_in_which_items_finish(parallel):
    count = parallel.workers

    found = in_reverse(count).map_iter(
        {"index": range(count)}, map_over="index", config=parallel.config
    )

    assert list(found) == [{"place": index} for index in range(count)]


def test_unordered_results_come_as_they_finish(parallel):
    seen = [threading.Event() for _ in range(3)]

    @node
    def place(index):
        assert index == 0 or seen[index - 1].wait(LIMIT)
        return index

    found = Pipeline([place]).map_iter(
        {"index": [2, 1, 0]}, map_over="index", ordered=False, config=parallel.config
    )

    for place in range(3):
        assert next(found) == (2 - place, {"place": place})
        seen[place].set()


# ---------------------------------------------------------------- no barriers


def test_a_slow_node_delays_no_step_of_a_branch_beside_it(parallel):
    done = threading.Event()

    @node
    def slow(x):
        assert done.wait(LIMIT), "the branch beside waited for this node"

    @node
    def first(x):
        return x + 1

    left = node("left")(lambda first: first + 1)
    right = node("right")(lambda first: first + 2)

    @node
    def last(left, right):
        done.set()
        return left + right

    found = Pipeline([slow, first, left, right, last]).run({"x": 1}, config=parallel.config)

    assert found["last"] == 7


def test_a_slow_node_delays_no_step_of_a_chain_beside_it(parallel):
    done = threading.Event()
    slow = node("slow")(lambda x: done.wait(LIMIT))
    first = node("first")(lambda x: x + 1)
    second = node("second")(lambda first: done.set())

    found = Pipeline([slow, first, second]).run({"x": 1}, config=parallel.config)

    assert found["slow"] is True


def test_what_needs_one_output_of_a_nested_pipeline_does_not_wait_for_the_others(parallel):
    done = threading.Event()
    inner = Pipeline(
        [node("slow")(lambda x: done.wait(LIMIT)), node("fast")(lambda x: x)], name="inner"
    )
    after = node("after")(lambda fast: done.set())

    found = Pipeline([inner, after]).run({"x": 1}, config=parallel.config)

    assert found["slow"] is True


def test_a_node_inside_a_nested_pipeline_starts_when_its_own_inputs_are_there(parallel):
    done = threading.Event()
    slow = node("slow")(lambda x: done.wait(LIMIT))
    inner = Pipeline(
        [node("early")(lambda x: done.set()), node("late")(lambda slow: slow)], name="inner"
    )

    found = Pipeline([slow, inner]).run({"x": 1}, config=parallel.config)

    assert found["late"] is True


def test_a_slow_nested_map_delays_no_step_of_a_branch_beside_it(parallel):
    done = threading.Event()
    slow = mapped(lambda x: done.wait(LIMIT), "slow")
    first = node("first")(lambda x: x)
    left, right = node("left")(lambda first: first), node("right")(lambda first: first)
    last = node("last")(lambda left, right: done.set())

    found = Pipeline([slow, first, left, right, last]).run(
        {"xs": [1], "x": 1}, config=parallel.config
    )

    assert found["slows"] == [True]


def test_a_slow_node_with_a_config_of_its_own_delays_no_step_beside_it(parallel):
    other = RuntimeConfig(executor=ThreadPoolExecutor(max_workers=2))
    done = threading.Event()
    slow = node("slow", config=other)(lambda x: done.wait(LIMIT / 4))
    first = node("first")(lambda x: x)
    left, right = node("left")(lambda first: first), node("right")(lambda first: first)
    last = node("last")(lambda left, right: done.set())
    pipeline = Pipeline([slow, first, left, right, last], config=parallel.config)

    assert pipeline.run({"x": 1})["slow"] is True


# ---------------------------------------------------------------- what overlaps


def test_independent_nodes_overlap(parallel):
    barrier = threading.Barrier(parallel.workers)
    nodes = [node(f"n{i}")(lambda x: barrier.wait(LIMIT)) for i in range(parallel.workers)]

    found = Pipeline(nodes).run({"x": 1}, config=parallel.config)

    assert sorted(found.values()) == list(range(parallel.workers))


def test_items_of_a_map_overlap(parallel):
    barrier = threading.Barrier(parallel.workers)
    meet = Pipeline([node("met")(lambda x: barrier.wait(LIMIT))])

    found = meet.map({"x": range(parallel.workers)}, map_over="x", config=parallel.config)

    assert sorted(item["met"] for item in found) == list(range(parallel.workers))


def test_items_of_a_map_overlap_in_every_round(parallel):
    rounds = 5
    barrier = threading.Barrier(parallel.workers)
    meet = Pipeline([node("met")(lambda x: barrier.wait(LIMIT))])

    found = meet.map({"x": range(rounds * parallel.workers)}, map_over="x", config=parallel.config)

    assert Counter(item["met"] for item in found) == dict.fromkeys(range(parallel.workers), rounds)


def test_items_of_a_nested_map_overlap(parallel):
    barrier = threading.Barrier(parallel.workers)
    meet = mapped(lambda x: barrier.wait(LIMIT), "met")

    found = Pipeline([meet]).run({"xs": range(parallel.workers)}, config=parallel.config)

    assert sorted(found["mets"]) == list(range(parallel.workers))


def test_inner_maps_use_the_workers_that_an_outer_map_leaves_over(parallel):
    barrier = threading.Barrier(parallel.workers)
    half = parallel.workers // 2
    inner = mapped(lambda x: barrier.wait(LIMIT), "met")

    found = Pipeline([inner]).map(
        {"xs": [range(half), range(half)]}, map_over="xs", config=parallel.config
    )

    ranks = [rank for item in found for rank in item["mets"]]
    assert sorted(ranks) == list(range(2 * half))


def test_inner_maps_of_inner_maps_use_the_workers_that_are_left_over(parallel):
    barrier = threading.Barrier(parallel.workers)
    half = parallel.workers // 2
    innermost = Pipeline([mapped(lambda x: barrier.wait(LIMIT), "met")], name="innermost")
    middle = Pipeline([innermost.as_node(map_over="xs")], name="middle")

    found = middle.map({"xs": [[range(half), range(half)]]}, map_over="xs", config=parallel.config)

    assert sorted(itertools.chain(*found[0]["mets"])) == list(range(2 * half))


def test_nodes_of_an_item_overlap_where_there_are_fewer_items_than_workers(parallel):
    barrier = threading.Barrier(parallel.workers)
    half = parallel.workers // 2
    nodes = [node(f"n{i}")(lambda x: barrier.wait(LIMIT)) for i in range(half)]

    found = Pipeline(nodes).map({"x": [1, 2]}, map_over="x", config=parallel.config)

    assert sorted(rank for item in found for rank in item.values()) == list(range(2 * half))


# ---------------------------------------------------------------- slow items


class Others:
    """Lets one item wait until all others are done."""

    def __init__(self, count, slow):
        self.slow = slow
        self._left = count - 1
        self._lock = threading.Lock()
        self._done = threading.Event()

    def __call__(self, x):
        if x == self.slow:
            return self._done.wait(LIMIT)
        with self._lock:
            self._left -= 1
            if not self._left:
                self._done.set()
        return True


@pytest.mark.parametrize(("count", "slow"), [(12, 0), (40, 0), (1000, 0), (1000, 500), (3, 0)])
def test_one_slow_item_of_a_map_delays_no_other(parallel, count, slow):
    pipeline = Pipeline([node("seen")(Others(count, slow))])

    found = pipeline.map({"x": range(count)}, map_over="x", config=parallel.config)

    assert found == [{"seen": True}] * count


@pytest.mark.parametrize(("count", "slow"), [(1000, 0), (1000, 500)])
def test_one_slow_item_of_a_nested_map_delays_no_other(parallel, count, slow):
    others = Others(count, slow)
    pipeline = Pipeline([mapped(others, "seen")])

    found = pipeline.run({"xs": range(count)}, config=parallel.config)

    assert found == {"seens": [True] * count}


@pytest.mark.parametrize(("count", "slow"), [(1000, 0), (1000, 500)])
def test_one_slow_item_of_an_unordered_map_iter_delays_no_other(parallel, count, slow):
    pipeline = Pipeline([node("seen")(Others(count, slow))])

    found = list(
        pipeline.map_iter(
            {"x": iter(range(count))}, map_over="x", ordered=False, config=parallel.config
        )
    )

    assert found[-1] == (slow, {"seen": True})
    assert sorted(index for index, _ in found) == list(range(count))


# ---------------------------------------------------------------- no deadlocks


NESTED = """
import faulthandler, itertools
faulthandler.dump_traceback_later({limit}, exit=True)
from hypernodes import *

def nested(depth):
    pipeline = Pipeline([node("y0")(lambda x: x + 1)], name="level0")
    for level in range(1, depth + 1):
        inner = pipeline.as_node(
            input_mapping={{"xs": "x"}}, output_mapping={{f"y{{level - 1}}": "ys"}}, map_over="xs"
        )
        pipeline = Pipeline(
            [
                node("xs")(lambda x: [x, x + 1, x + 2]),
                inner,
                node(f"y{{level}}")(lambda ys: sum(ys)),
            ],
            name=f"level{{level}}",
        )
    return pipeline

def expected(x, depth):
    return x + 1 if depth == 0 else sum(expected(x + i, depth - 1) for i in range(3))

config = RuntimeConfig(executor={executor})
for depth, count in itertools.product((1, 2, 3, 4), (1, 2, 40)):
    pipeline, name = nested(depth), f"y{{depth}}"
    right = [expected(x, depth) for x in range(count)]
    for _ in range(3):
        found = pipeline.map(
            {{"x": range(count)}}, map_over="x", output_name=name, config=config
        )
        assert [item[name] for item in found] == right
        assert pipeline.run({{"x": 5}}, output_name=name, config=config) == {{
            name: expected(5, depth)
        }}
print("done")
"""


def python(script, *, timeout=30.0):
    """Return what the program `script` prints; fail if it fails or takes longer than `timeout`."""
    run = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_nested_maps_of_any_depth_end(every):
    script = NESTED.format(executor=repr(every.executor), limit=20)

    assert python(script) == "done\n"


SQUARES = Pipeline([node("square")(lambda x: x * x), node("cube")(lambda x: x**3)], name="squares")


def inside(config):
    """Return a function that runs and maps a pipeline, in every way."""

    def work(x):
        run = SQUARES.run({"x": x}, config=config)
        both = SQUARES.map({"x": [x, x + 1]}, map_over="x", config=config)
        lazy = SQUARES.map_iter({"x": iter([x, x + 1, x + 2])}, map_over="x", config=config)
        return [run["cube"], [item["square"] for item in both], [item["cube"] for item in lazy]]

    return work


def worked(x):
    return [x**3, [x**2, (x + 1) ** 2], [x**3, (x + 1) ** 3, (x + 2) ** 3]]


@pytest.mark.parametrize("who", ["same", "equal", "another", "sequential"])
def test_a_node_may_run_and_map_pipelines(every, who):
    executor = {
        "same": every.executor,
        "equal": every.executor.model_copy(),
        "another": ThreadPoolExecutor(max_workers=1),
        "sequential": SequentialExecutor(),
    }[who]
    work = inside(RuntimeConfig(executor=executor))
    pipeline = Pipeline([node(f"n{i}")(work) for i in range(3)])

    run = within(LIMIT, lambda: pipeline.run({"x": 2}, config=every.config))
    items = within(LIMIT, lambda: pipeline.map({"x": range(40)}, map_over="x", config=every.config))

    assert run == {f"n{i}": worked(2) for i in range(3)}
    assert items == [{f"n{i}": worked(x) for i in range(3)} for x in range(40)]


def test_two_executors_of_one_worker_may_call_each_other_in_turn():
    names = itertools.cycle(("a", "b"))
    one = RuntimeConfig(executor=ThreadPoolExecutor(max_workers=1))
    other = RuntimeConfig(executor=ThreadPoolExecutor(max_workers=1), retries=1)
    two = RuntimeConfig(executor=ThreadPoolExecutor(max_workers=2))

    def descend(configs):
        if not configs:
            return Pipeline([node("depth")(lambda x: 0), node("beside")(lambda x: 0)])
        below, config = descend(configs[1:]), configs[0]

        def depth(x):
            item, _ = below.map({"x": [x, x]}, map_over="x", config=config)
            return 1 + item["depth"]

        return Pipeline([node("depth")(depth), node("beside")(lambda x: 0)], name=next(names))

    configs = [one, two, other, two, one, SEQUENTIAL, two, one]

    found = within(LIMIT, lambda: descend(configs).run({"x": 1}, config=one))

    assert found["depth"] == len(configs)


@pytest.mark.parametrize(
    "pair",
    [
        ({ThreadPoolExecutor(max_workers=1): 1, ThreadPoolExecutor(max_workers=2): 2}),
        ({ThreadPoolExecutor(max_workers=2): 2, AsyncExecutor(max_concurrency=2): 2}),
    ],
)
def test_functions_that_cross_two_executors_from_full_workers_do_not_deadlock(pair):
    one, two = (RuntimeConfig(executor=executor) for executor in pair)
    everyone = threading.Barrier(sum(pair.values()))

    def crossing(other):
        def cross(x):
            everyone.wait(LIMIT)  # all workers of both have an item that will wait for the others
            return sum(item["y"] for item in below.map({"x": [x] * 3}, map_over="x", config=other))

        below = Pipeline([node("y")(lambda x: x + 1)])
        return Pipeline([node("crossed")(cross)])

    def start(config, other):
        count = pair[config.executor]
        found = crossing(other).map({"x": range(count)}, map_over="x", config=config)
        return found == [{"crossed": 3 * (x + 1)} for x in range(count)]

    with futures.ThreadPoolExecutor() as drivers:
        results = drivers.submit(start, one, two), drivers.submit(start, two, one)
        assert [result.result(LIMIT) for result in results] == [True, True]


@pytest.mark.parametrize("other", CASES, ids=spelled)
def test_a_node_of_a_map_may_have_a_config_of_its_own(every, other):
    inner = Pipeline(
        [
            node("a")(lambda x: x + 1),
            node("b", config=other.config)(lambda a: a * 2),
            node("c")(lambda a, b: a + b),
            node("d", config=RuntimeConfig(executor=every.executor))(lambda b, c: b - c),
        ],
        name="inner",
        config=every.config,
    )
    outer = Pipeline(
        [
            inner.as_node(
                input_mapping={"xs": "x"},
                output_mapping={"c": "cs", "d": "ds"},
                map_over="xs",
            ),
            node("total", config=other.config)(lambda cs, ds: sum(cs) + sum(ds)),
        ],
        config=other.config,
    )
    right = [{"a": x + 1, "b": 2 * x + 2, "c": 3 * x + 3, "d": -x - 1} for x in range(50)]

    items = within(LIMIT, lambda: inner.map({"x": range(50)}, map_over="x"))
    lists = within(LIMIT, lambda: outer.run({"xs": range(50)}, output_name="total"))
    maps = within(
        LIMIT,
        lambda: outer.map(
            {"xs": [range(n) for n in range(20)]}, map_over="xs", output_name="total"
        ),
    )

    assert items == right
    assert lists == {"total": sum(2 * x + 2 for x in range(50))}
    assert maps == [{"total": sum(2 * x + 2 for x in range(n))} for n in range(20)]


class Crowd:
    """Counts how many calls run at once."""

    def __init__(self):
        self.most = 0
        self._now = 0
        self._lock = threading.Lock()

    def __call__(self, x):
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        time.sleep(0.01)
        with self._lock:
            self._now -= 1
        return x


@pytest.mark.parametrize("kind", ["map", "nested"])
def test_a_node_on_a_small_executor_of_its_own_keeps_to_it_whatever_maps_it(parallel, kind):
    small = RuntimeConfig(executor=ThreadPoolExecutor(max_workers=2))
    crowd = Crowd()
    inner = Pipeline(
        [node("y", config=small)(crowd), node("z")(lambda y: y)],
        name="inner",
        config=parallel.config,
    )
    count = 100
    if kind == "map":
        found = [item["z"] for item in inner.map({"x": range(count)}, map_over="x")]
    else:
        outer = Pipeline([inner.as_node(map_over="x")], config=parallel.config)
        found = outer.run({"x": range(count)})["z"]

    assert found == list(range(count))
    assert crowd.most <= 2 + parallel.workers


def test_items_with_a_node_of_another_executor_do_not_take_a_thread_each(parallel):
    small = RuntimeConfig(executor=ThreadPoolExecutor(max_workers=2))
    threads = []

    def count(x):
        threads.append(threading.active_count())
        time.sleep(0.002)

    inner = Pipeline([node("y", config=small)(count)], name="inner", config=parallel.config)
    outer = Pipeline([inner.as_node(map_over="x")], config=parallel.config)
    outer.run({"x": range(400)})

    assert len(threads) == 400
    assert max(threads) < 150


# ---------------------------------------------------------------- failures


def test_the_first_failure_of_a_map_is_raised_at_once_and_cancels_what_has_not_started(pooled):
    begun, release = [], threading.Event()

    def work(x):
        begun.append(x)
        if x == 0:
            raise ZeroDivisionError
        release.wait(LIMIT)

    start = time.perf_counter()
    with pytest.raises(ZeroDivisionError):
        Pipeline([node("y")(work)]).map({"x": range(1000)}, map_over="x", config=pooled.config)
    elapsed = time.perf_counter() - start
    release.set()
    pooled.executor.close()

    assert elapsed < LIMIT / 2
    assert len(begun) <= pooled.workers + 1


def test_the_first_failure_of_a_nested_map_cancels_what_has_not_started(pooled):
    begun, release = [], threading.Event()

    def work(x):
        begun.append(x)
        if x == 0:
            raise ZeroDivisionError
        release.wait(LIMIT)

    start = time.perf_counter()
    with pytest.raises(ZeroDivisionError):
        Pipeline([mapped(work, "y")]).run({"xs": range(1000)}, config=pooled.config)
    elapsed = time.perf_counter() - start
    release.set()
    pooled.executor.close()

    assert elapsed < LIMIT / 2
    assert len(begun) <= pooled.workers + 1


def test_the_first_failure_of_a_run_is_raised_at_once_and_cancels_what_has_not_started(parallel):
    begun, release = [], threading.Event()

    def fail(x):
        raise ZeroDivisionError

    def wait(x):
        begun.append(x)
        release.wait(LIMIT)

    nodes = [node("bad")(fail)]
    nodes += [node(f"n{i}")(wait) for i in range(3 * parallel.workers)]
    start = time.perf_counter()
    with pytest.raises(ZeroDivisionError):
        Pipeline(nodes).run({"x": 1}, config=parallel.config)
    elapsed = time.perf_counter() - start
    release.set()
    parallel.executor.close()

    assert elapsed < LIMIT / 2
    assert len(begun) <= parallel.workers


def test_after_a_failure_no_further_node_of_a_chain_starts(parallel):
    begun, first, release = [], threading.Event(), threading.Event()

    def fail(x):
        assert first.wait(LIMIT)
        raise ZeroDivisionError

    def step(name):
        def work(before):
            begun.append(name)
            first.set()
            release.wait(LIMIT)

        return node(name)(work)

    chain = [
        step("a").rename(inputs={"before": "x"}),
        step("b").rename(inputs={"before": "a"}),
        step("c").rename(inputs={"before": "b"}),
    ]
    with pytest.raises(ZeroDivisionError):
        Pipeline([node("bad")(fail), *chain]).run({"x": 1}, config=parallel.config)
    release.set()
    parallel.executor.close()

    assert begun == ["a"]


def test_after_a_failure_no_further_node_of_an_item_starts(parallel):
    begun, all_in, release = [], threading.Barrier(parallel.workers), threading.Event()

    def first(x):
        all_in.wait(LIMIT)
        if x == 0:
            raise ZeroDivisionError
        release.wait(LIMIT)

    second = node("second")(begun.append).rename(inputs={"object": "first"})
    with pytest.raises(ZeroDivisionError):
        Pipeline([node("first")(first), second]).map(
            {"x": range(parallel.workers)}, map_over="x", config=parallel.config
        )
    release.set()
    parallel.executor.close()

    assert begun == []


def test_after_a_failure_no_further_item_of_an_inner_map_starts(parallel):
    begun, all_in, release = [], threading.Barrier(parallel.workers), threading.Event()

    def work(x):
        begun.append(x)
        if x % 100 == 0:
            all_in.wait(LIMIT)
        if x == 0:
            raise ZeroDivisionError
        release.wait(LIMIT)

    lists = [range(100 * n, 100 * n + 50) for n in range(parallel.workers)]
    with pytest.raises(ZeroDivisionError):
        Pipeline([mapped(work, "y")]).map({"xs": lists}, map_over="xs", config=parallel.config)
    release.set()
    parallel.executor.close()

    assert len(begun) <= 2 * parallel.workers


def test_a_failed_item_starts_no_further_node_though_the_map_goes_on(parallel):
    begun, release = [], threading.Event()

    def fail(x):
        raise ZeroDivisionError

    def wait(x):
        begun.append(x)
        release.wait(LIMIT)

    nodes = [node("bad")(fail)]
    nodes += [node(f"n{i}")(wait) for i in range(3 * parallel.workers)]
    results = Pipeline(nodes).map_iter(
        {"x": [1]}, map_over="x", config=parallel.config, on_error="return"
    )
    assert isinstance(next(results), Failure)
    release.set()
    assert next(results, None) is None
    parallel.executor.close()

    assert len(begun) <= parallel.workers


@pytest.mark.parametrize("count", [2, 30, 1000])
def test_where_failures_are_returned_everything_else_is_there(every, count):
    def work(x):
        if x % 7 == 1:
            raise ValueError(x)
        return x

    pipeline = Pipeline([node("y")(work), node("z")(lambda y: -y)], name="maybe")

    found = pipeline.map({"x": range(count)}, map_over="x", on_error="return", config=every.config)

    assert len(found) == count
    for x, outcome in enumerate(found):
        if x % 7 != 1:
            assert outcome == {"y": x, "z": -x}
            continue
        assert isinstance(outcome, Failure)
        assert (outcome.index, outcome.node, outcome.path) == (x, "work", ("maybe", "work"))
        assert (outcome.inputs, outcome.attempts) == ({"x": x}, 1)
        assert isinstance(outcome.error, ValueError)
        assert outcome.error.args == (x,)
        assert [f"item {x}" in note for note in outcome.error.__notes__] == [True]


@dataclass(frozen=True)
class FrozenError(Exception):
    code: int


def test_an_exception_that_cannot_be_changed_surfaces_as_itself(every):
    def fail(x):
        raise FrozenError(x)

    pipeline = Pipeline([node("y")(fail), node("z")(lambda x: x)])

    with pytest.raises(FrozenError):
        pipeline.run({"x": 1}, config=every.config)
    with pytest.raises(FrozenError):
        pipeline.map({"x": range(9)}, map_over="x", config=every.config)
    found = pipeline.map({"x": range(9)}, map_over="x", config=every.config, on_error="return")
    assert [outcome.error.code for outcome in found] == list(range(9))


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_what_is_no_exception_ends_the_run_and_surfaces_as_itself(local, kind):
    begun = []

    def leave(x):
        begun.append(x)
        if x == 2:
            raise kind(x)

    pipeline = Pipeline([node("y")(leave), node("z")(lambda x: x)])

    with pytest.raises(kind):
        pipeline.run({"x": 2}, config=local.config)
    for on_error in ("raise", "return"):
        with pytest.raises(kind):
            pipeline.map(
                {"x": range(100_000)}, map_over="x", config=local.config, on_error=on_error
            )
    assert len(begun) < 100_000


# ---------------------------------------------------------------- nothing lost, nothing twice


def test_no_item_of_a_map_is_lost_or_run_twice(local):
    seen = []
    pipeline = Pipeline([node("y")(lambda x: seen.append(x) or -x)])

    found = pipeline.map({"x": range(10_000)}, map_over="x", config=local.config)

    assert sorted(seen) == list(range(10_000))
    assert [item["y"] for item in found] == [-x for x in range(10_000)]


def test_no_item_of_a_nested_map_is_lost_or_run_twice(local):
    seen = []
    pipeline = Pipeline([mapped(lambda x: seen.append(x) or -x, "y")])

    found = pipeline.run({"xs": range(10_000)}, config=local.config)

    assert sorted(seen) == list(range(10_000))
    assert found["ys"] == [-x for x in range(10_000)]


def test_no_item_of_a_lazy_map_is_lost_or_run_twice(local):
    seen = []
    pipeline = Pipeline([node("y")(lambda x: seen.append(x) or -x)])

    found = list(pipeline.map_iter({"x": iter(range(10_000))}, map_over="x", config=local.config))

    assert sorted(seen) == list(range(10_000))
    assert [item["y"] for item in found] == [-x for x in range(10_000)]


# ---------------------------------------------------------------- map_iter


def counted(taken):
    for number in itertools.count():
        taken.append(number)
        yield number


@pytest.mark.parametrize("ordered", [True, False])
def test_map_iter_takes_a_bounded_number_of_items_ahead(every, ordered):
    taken = []
    results = Pipeline([node("y")(lambda x: x)]).map_iter(
        {"x": counted(taken)}, map_over="x", ordered=ordered, config=every.config
    )

    # What travels in chunks is taken further ahead: a chunk may have 10,000 items.
    bound = 2048 if every.shares_memory else 32_768
    for number in range(3000):
        next(results)
        assert len(taken) <= number + bound
    results.close()


def test_map_iter_takes_few_items_ahead_of_a_slow_consumer(every):
    taken = []
    results = Pipeline([node("y")(lambda x: x)]).map_iter(
        {"x": counted(taken)}, map_over="x", config=every.config
    )

    for number in range(20):
        assert next(results) == {"y": number}
        time.sleep(0.01)
        assert len(taken) <= number + 8 * every.workers
    results.close()


def test_map_iter_takes_no_item_before_it_is_asked_for_a_result(every):
    taken = []

    results = Pipeline([node("y")(lambda x: x)]).map_iter(
        {"x": counted(taken)}, map_over="x", config=every.config
    )

    assert len(taken) <= 1
    results.close()
    assert len(taken) <= 1


@pytest.mark.parametrize("ordered", [True, False])
def test_closing_map_iter_early_cancels_the_rest(pooled, ordered):
    begun, taken, release = [], [], threading.Event()

    def work(x):
        begun.append(x)
        return x == 0 or release.wait(LIMIT)

    results = Pipeline([node("y")(work)]).map_iter(
        {"x": counted(taken)}, map_over="x", ordered=ordered, config=pooled.config
    )
    assert next(results) == ({"y": True} if ordered else (0, {"y": True}))
    start = time.perf_counter()
    results.close()
    elapsed = time.perf_counter() - start
    count = len(taken)
    release.set()
    pooled.executor.close()

    assert elapsed < LIMIT / 2
    assert len(begun) <= pooled.workers + 1
    assert len(taken) == count


def test_an_abandoned_map_iter_leaves_the_executor_usable(every):
    pipeline = Pipeline([node("y")(lambda x: x)])
    results = pipeline.map_iter({"x": counted([])}, map_over="x", config=every.config)
    next(results)
    del results
    gc.collect()

    assert pipeline.run({"x": 1}, config=every.config) == {"y": 1}


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 8, 9, 64, 65])
def test_an_error_of_the_input_iterator_is_raised_after_the_results_before_it(every, count):
    def broken():
        yield from range(count)
        raise OSError("no more")

    pipeline = Pipeline([node("y")(lambda x: x)])

    def consume(pause):
        for result in pipeline.map_iter({"x": broken()}, map_over="x", config=every.config):
            seen.append(result["y"])
            time.sleep(pause)

    for pause in (0, 0.001):
        seen = []
        with pytest.raises(OSError, match="no more"):
            consume(pause)
        assert seen == list(range(count))
    with pytest.raises(OSError, match="no more"):
        dict(pipeline.map_iter({"x": broken()}, map_over="x", ordered=False, config=every.config))
    with pytest.raises(OSError, match="no more"):
        pipeline.map({"x": broken()}, map_over="x", config=every.config)
    with pytest.raises(OSError, match="no more"):
        Pipeline([mapped(lambda x: x, "y")]).run({"xs": broken()}, config=every.config)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 8, 9, 64, 65])
def test_unequal_lengths_that_show_only_at_the_end_are_refused(every, count):
    pipeline = Pipeline([node("y")(lambda x, z: x)])

    for longer in ("x", "z"):
        lengths = {name: range(count + (name == longer)) for name in ("x", "z")}
        options = {"map_over": ["x", "z"], "config": every.config}
        with pytest.raises(ValueError, match="length"):
            list(pipeline.map_iter({n: iter(v) for n, v in lengths.items()}, **options))
        with pytest.raises(ValueError, match="length"):
            pipeline.map({n: iter(v) for n, v in lengths.items()}, **options)


# ---------------------------------------------------------------- context


COLOUR = ContextVar("colour", default="none")


def coloured(change):
    """Return a pipeline that reads the context variable in every place there is, and changes it."""

    def look(x):
        found = COLOUR.get()
        if change:
            COLOUR.set("changed")
        return found

    async def look_later(x):
        return look(x)

    inner = mapped(look, "seen")
    return Pipeline(
        [
            node("one")(look),
            node("two")(look),
            node("later")(look_later),
            inner,
        ]
    )


def test_nodes_see_the_context_variables_of_the_caller(local):
    pipeline = coloured(change=False)
    token = COLOUR.set("red")
    try:
        run = pipeline.run({"x": 1, "xs": range(50)}, config=local.config)
        items = pipeline.map(
            {"x": range(50), "xs": [1, 2]}, map_over="x", output_name="one", config=local.config
        )
    finally:
        COLOUR.reset(token)

    assert run == {"one": "red", "two": "red", "later": "red", "seens": ["red"] * 50}
    assert items == [{"one": "red"}] * 50


def test_workers_see_the_config_in_use(local):
    probe = Pipeline([node("p")(lambda: 0)])
    look = Pipeline(
        [
            node("one")(lambda x: probe.effective_config),
            node("two")(lambda x: probe.effective_config),
            mapped(lambda x: probe.effective_config, "seen"),
        ]
    )
    config = local.config.replace(retries=3)

    with RuntimeConfig.use(config):
        run = look.run({"x": 1, "xs": range(8)})
        items = look.map({"x": range(8), "xs": [1]}, map_over="x")

    assert run == {"one": config, "two": config, "seens": [config] * 8}
    assert items == [{"one": config, "two": config, "seens": [config]}] * 8


def test_a_config_in_use_inside_a_node_stays_there(local):
    probe = Pipeline([node("p")(lambda: 0)])
    other = RuntimeConfig(executor=SequentialExecutor(), retries=7)

    def look(x):
        with RuntimeConfig.use(other):
            inside = probe.effective_config
        return inside, probe.effective_config

    with RuntimeConfig.use(local.config):
        run = Pipeline([node("a")(look), node("b")(look)]).run({"x": 1})

    assert run == {"a": (other, local.config), "b": (other, local.config)}


# ---------------------------------------------------------------- isolation


def test_the_inputs_of_the_caller_are_not_changed(every):
    values = [1, 2, 3]
    inputs = {"x": values, "xs": values, "y": 5}
    pipeline = Pipeline(
        [
            node("a")(lambda x, y=1: y),
            node("b")(lambda a, x: a),
            mapped(lambda x: x, "seen"),
        ]
    ).bind(y=9)
    copy = dict(inputs)

    pipeline.run(inputs, config=every.config)
    pipeline.map(inputs, map_over=["x"], config=every.config)
    list(pipeline.map_iter(inputs, map_over=["x"], map_mode="product", config=every.config))

    assert inputs == copy
    assert values == [1, 2, 3]
    assert inputs["x"] is values


def test_one_pipeline_runs_from_many_threads_at_once(every):
    inner = Pipeline([node("s")(lambda e, k: e * k), node("t")(lambda s: s + 1)], name="inner")
    pipeline = Pipeline(
        [
            node("a")(lambda x: x + 1),
            node("b")(lambda x, a: x * a),
            node("es")(lambda a, b: [a, b, a + b]),
            inner.as_node(input_mapping={"es": "e", "x": "k"}, map_over="es"),
            node("z")(lambda t, b: (sum(t), b)),
        ]
    )

    def right(x):
        a, b = x + 1, x * (x + 1)
        es = [a, b, a + b]
        s = [e * x for e in es]
        t = [v + 1 for v in s]
        return {"a": a, "b": b, "es": es, "s": s, "t": t, "z": (sum(t), b)}

    choices = [None, "z", ["a", "z"], ("t", "a"), ["b"], "s", ["es", "b"], None]
    configs = [every.config, every.config.replace(retries=2), SEQUENTIAL, every.config]
    barrier = threading.Barrier(8)

    def use(number):
        barrier.wait(LIMIT)
        for turn in range(20):
            names = choices[(number + turn) % 8]
            config = configs[(number + turn) % 4]
            x = 100 * number + turn
            wanted = [names] if isinstance(names, str) else names or list(right(x))
            found = pipeline.run({"x": x}, output_name=names, config=config)
            assert found == {name: right(x)[name] for name in wanted}
            items = pipeline.map(
                {"x": range(x, x + 6)}, map_over="x", output_name=names, config=config
            )
            assert items == [{n: right(i)[n] for n in wanted} for i in range(x, x + 6)]

    for future in [started(lambda number=number: use(number)) for number in range(8)]:
        future.result(3 * LIMIT)


# ---------------------------------------------------------------- pools


def threads_of(case, executor):
    """Return the threads that `executor` runs items on."""
    barrier = threading.Barrier(case.workers)

    def work(x):
        barrier.wait(LIMIT)
        return threading.current_thread()

    found = Pipeline([node("t")(work)]).map(
        {"x": range(case.workers)}, map_over="x", config=RuntimeConfig(executor=executor)
    )
    return {item["t"] for item in found}


def test_equal_executors_share_a_pool_that_close_ends_for_all_of_them(pooled):
    equal = pooled.executor.model_copy()
    first = threads_of(pooled, pooled.executor)

    assert len(first) == pooled.workers
    assert threads_of(pooled, equal) == first
    equal.close()
    assert not any(thread.is_alive() for thread in first)
    assert not threads_of(pooled, pooled.executor) & first


def test_a_with_block_ends_the_pool_and_the_executor_is_usable_again(pooled):
    with pooled.executor as executor:
        assert executor is pooled.executor
        first = threads_of(pooled, executor)
    assert not any(thread.is_alive() for thread in first)

    assert len(threads_of(pooled, pooled.executor)) == pooled.workers


def test_closing_twice_or_unopened_does_nothing(every):
    every.executor.close()
    every.executor.close()

    assert Pipeline([node("y")(lambda x: x)]).run({"x": 1}, config=every.config) == {"y": 1}


def test_a_pool_survives_exceptions(pooled):
    first = threads_of(pooled, pooled.executor)

    def fail(x):
        raise [ValueError, SystemExit, KeyboardInterrupt][x % 3]

    broken = Pipeline([node("y")(fail), node("z")(fail)])
    for x in range(6):
        with pytest.raises((ValueError, SystemExit, KeyboardInterrupt)):
            broken.run({"x": x}, config=pooled.config)
        with pytest.raises((ValueError, SystemExit, KeyboardInterrupt)):
            broken.map({"x": range(x, x + 40)}, map_over="x", config=pooled.config)

    assert threads_of(pooled, pooled.executor) == first


class Interrupted:
    """A run in a thread of its own whose executor is closed in the middle."""

    def __init__(self, case, begin):
        self.release = threading.Event()
        self.begun = threading.Semaphore(0)
        run = started(lambda: begin(self.work))
        for _ in range(case.workers):
            assert self.begun.acquire(timeout=LIMIT)
        closing = started(case.executor.close)
        time.sleep(0.05)  # until close has told the pool; nothing tells when that is
        self.release.set()
        closing.result(LIMIT)
        futures.wait((run,), LIMIT)
        assert run.done(), "the run hangs"
        self.error = run.exception()
        self.result = None if self.error else run.result()

    def work(self, x):
        self.begun.release()
        assert self.release.wait(LIMIT)
        return x


def test_closing_the_executor_in_the_middle_of_a_run_gives_a_clear_error_or_the_result(parallel):
    count = parallel.workers

    def begin(work):
        first = [node(f"a{i}")(work) for i in range(count)]
        names = {"p": "a0", "q": "a1"}
        join = [node(f"b{i}")(lambda p, q: p + q).rename(inputs=names) for i in range(count)]
        return Pipeline([*first, *join]).run({"x": 1}, config=parallel.config)

    seen = Interrupted(parallel, begin)

    if seen.error is None:
        assert seen.result["b1"] == 2
    else:
        assert isinstance(seen.error, HyperNodesError), repr(seen.error)
        assert "closed" in str(seen.error)


@pytest.mark.parametrize("factor", [1, 3, 200])
def test_closing_the_executor_in_the_middle_of_a_map_gives_a_clear_error_or_the_results(
    pooled, factor
):
    count = factor * pooled.workers

    def begin(work):
        return Pipeline([node("y")(work)]).map(
            {"x": range(count)}, map_over="x", config=pooled.config
        )

    seen = Interrupted(pooled, begin)

    if seen.error is None:
        assert seen.result == [{"y": x} for x in range(count)]
    else:
        assert isinstance(seen.error, HyperNodesError), repr(seen.error)
        assert "closed" in str(seen.error)


def test_closing_the_executor_in_the_middle_of_a_nested_map_drops_what_has_not_started(pooled):
    count = 1000
    seen = []

    def begin(work):
        def slowly(x):
            seen.append(x)
            work(x)
            time.sleep(0.005)
            return x

        return Pipeline([mapped(slowly, "y")]).run({"xs": range(count)}, config=pooled.config)

    found = Interrupted(pooled, begin)

    assert isinstance(found.error, HyperNodesError)
    assert len(seen) < count / 2


def test_a_node_that_closes_its_own_executor_hangs_nothing(pooled):
    def close(x):
        pooled.executor.close()

    pipeline = Pipeline([node("y")(close), node("z")(lambda x: x)])

    def run():
        with contextlib.suppress(Exception):  # whatever: it is told, or does no harm
            pipeline.run({"x": 1}, config=pooled.config)
        return pipeline.run({"x": 1}, output_name="z", config=pooled.config)

    assert within(LIMIT, run) == {"z": 1}
    assert len(threads_of(pooled, pooled.executor)) == pooled.workers


def test_the_interpreter_ends_promptly_after_use(every):
    script = f"""
import time
from hypernodes import *
config = RuntimeConfig(executor={every.executor!r})
async def later(x):
    return x
pipeline = Pipeline([node("y")(lambda x: x), node("z", timeout=5.0)(lambda x: x), node("t")(later)])
pipeline.run({{"x": 1}}, config=config)
pipeline.map({{"x": range(100)}}, map_over="x", config=config)
left = pipeline.map_iter({{"x": range(100_000)}}, map_over="x", config=config)
next(left)
print(time.time())
"""
    end = float(python(script))

    assert time.time() - end < 2.0


# ---------------------------------------------------------------- Ctrl-C


INTERRUPTED = """
import sys, threading, time
from hypernodes import *

begun = threading.Event()

def work(x):
    begun.set()
    time.sleep(0.05)
    return x

def chain(name, length):
    names = [name, *(f"{{name}}{{i}}" for i in range(length))]
    return [
        node(after)(work).rename(inputs={{"x": before}})
        for before, after in zip(names, names[1:])
    ]

def nested():
    inner = Pipeline([node("y")(work)])
    return Pipeline([inner.as_node(map_over="x")])

config = RuntimeConfig(executor={executor})
WAYS = {{
    "map": lambda: Pipeline([node("y")(work)]).map(
        {{"x": range(100_000)}}, map_over="x", config=config
    ),
    "nested": lambda: nested().run({{"x": range(100_000)}}, config=config),
    "mapped nested": lambda: nested().map(
        {{"x": [range(200)] * 200}}, map_over="x", config=config
    ),
    "wide": lambda: Pipeline([node(f"n{{i}}")(work) for i in range(5000)]).run(
        {{"x": 1}}, config=config
    ),
    "chains": lambda: Pipeline([*chain("p", 200), *chain("q", 200)]).run(
        {{"p": 1, "q": 1}}, config=config
    ),
    "mapped chains": lambda: Pipeline([*chain("p", 200)]).map(
        {{"p": range(200)}}, map_over="p", config=config
    ),
}}

def tell():
    begun.wait()
    print("begun", flush=True)

threading.Thread(target=tell, daemon=True).start()
try:
    WAYS[{way!r}]()
except KeyboardInterrupt:
    print("interrupted", time.time(), flush=True)
"""


@pytest.mark.parametrize(
    "way", ["map", "nested", "mapped nested", "wide", "chains", "mapped chains"]
)
@pytest.mark.parametrize("case", [CASES[0], CASES[1]], ids=spelled)
def test_an_interrupt_ends_the_run_and_the_process(case, way):
    script = INTERRUPTED.format(executor=repr(case.executor), way=way)
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout.readline() == "begun\n"
            time.sleep(0.2)
            sent = time.time()
            process.send_signal(signal.SIGINT)
            word, at = process.stdout.readline().split()
            process.wait(2 * LIMIT)
            ended = time.time()
        finally:
            process.kill()

    assert word == "interrupted"
    assert float(at) - sent < 2.0
    assert ended - sent < 3.0
    assert process.returncode == 0


# ---------------------------------------------------------------- memory


class Big:
    """Something whose end can be seen."""


class Witness:
    """Remembers big values by name without keeping them."""

    def __init__(self):
        self._values = {}
        self.seen = {}

    def make(self, name):
        value = Big()
        self._values.setdefault(name, []).append(weakref.ref(value))
        return value

    def alive(self, name):
        return sum(reference() is not None for reference in self._values[name])

    def note(self, *names):
        self.seen |= {name: self.alive(name) for name in names}

    def note_end(self, name):
        """Note how many are alive, once the thread that drops them had a moment to do so."""
        deadline = time.perf_counter() + 0.5
        while self.alive(name) and time.perf_counter() < deadline:
            time.sleep(0.001)
        self.note(name)


@pytest.fixture
def witness():
    return Witness()


def test_values_of_a_chain_are_let_go_when_nobody_needs_them_any_more(local, witness):
    nodes = [
        node("a")(lambda x: witness.make("a")),
        node("b")(lambda a: witness.make("b")),
        node("c")(lambda b: witness.note("a") or witness.make("c")),
        node("d")(lambda c: witness.note("a", "b")),
    ]

    Pipeline(nodes).run({"x": 1}, output_name="d", config=local.config)

    assert witness.seen == {"a": 0, "b": 0}
    assert witness.alive("c") == 0


def test_values_of_a_chain_beside_other_nodes_are_let_go(local, witness):
    nodes = [
        node("a")(lambda x: witness.make("a")),
        node("b")(lambda a: witness.make("b")),
        node("c")(lambda b: witness.note("a") or witness.make("c")),
        node("d")(lambda c: witness.note("a", "b")),
        node("beside")(lambda x: x),
    ]

    Pipeline(nodes).run({"x": 1}, output_name=["d", "beside"], config=local.config)

    assert witness.seen == {"a": 0, "b": 0}
    assert witness.alive("c") == 0


def test_values_of_branches_are_let_go_when_nobody_needs_them_any_more(local, witness):
    nodes = [
        node("a")(lambda x: witness.make("a")),
        node("b")(lambda a: witness.make("b")),
        node("c")(lambda a: witness.make("c")),
        node("d")(lambda b, c: witness.note("a") or witness.make("d")),
        node("e")(lambda d: witness.make("e")),
        node("f")(lambda d: witness.make("f")),
        node("g")(lambda e, f: witness.note("a", "b", "c", "d")),
    ]

    Pipeline(nodes).run({"x": 1}, output_name="g", config=local.config)

    assert witness.seen == dict.fromkeys("abcd", 0)


def test_what_only_the_first_step_of_a_chain_needs_is_let_go_before_its_end(local, witness):
    nodes = [
        node("a")(lambda x: witness.make("a")),
        node("b")(lambda a: 1),
        node("c")(lambda a: 1),
        node("d")(lambda b, c: witness.make("d")),
        node("e")(lambda d: witness.make("e")),
        node("f")(lambda e: witness.note("a", "d")),
        node("g")(lambda d: 1),
        node("h")(lambda f, g: witness.note("e")),
    ]

    Pipeline(nodes).run({"x": 1}, output_name="h", config=local.config)

    assert witness.seen["a"] == 0
    assert witness.seen["e"] == 0


def test_what_several_chains_take_is_let_go_when_each_has_taken_it(parallel, witness):
    taken = threading.Event()
    nodes = [
        node("a")(lambda x: witness.make("a")),
        node("b")(lambda a: 1),
        node("c")(lambda b: taken.wait(LIMIT)),
        node("d")(lambda c: witness.note_end("a")),
        node("e")(lambda a: 1),
        node("f")(lambda e: taken.set()),
    ]

    Pipeline(nodes).run({"x": 1}, output_name=["d", "f"], config=parallel.config)

    assert witness.seen == {"a": 0}


def test_outputs_that_nobody_asked_for_are_let_go(local, witness):
    pair = node(output_name=("a", "b"))(lambda x: (witness.make("a"), witness.make("b")))
    after = node("c")(lambda a: witness.note("b"))
    beside = node("d")(lambda x: x)

    Pipeline([pair, after, beside]).run({"x": 1}, output_name=["c", "d"], config=local.config)

    assert witness.seen == {"b": 0}


def test_lists_of_a_nested_map_are_let_go_when_nobody_needs_them_any_more(local, witness):
    nodes = [
        mapped(lambda x: witness.make("item"), "y"),
        node("z")(len).rename(inputs={"obj": "ys"}),
        node("last")(lambda z: witness.note("item") or z),
        node("beside")(lambda x: x),
    ]

    found = Pipeline([*nodes, node("odd")(lambda z: 1)]).run(
        {"xs": range(8), "x": 1}, output_name=["last", "beside", "odd"], config=local.config
    )

    assert found["last"] == 8
    assert witness.seen == {"item": 0}


def test_values_inside_items_are_let_go_while_the_map_goes_on(local, witness):
    lock = threading.Lock()
    most = []

    def second(a):
        with lock:
            most.append(witness.alive("a"))

    pipeline = Pipeline([node("a")(lambda x: witness.make("a")), node("b")(second)])

    pipeline.map({"x": range(200)}, map_over="x", output_name="b", config=local.config)

    assert max(most) <= local.workers + 1


@pytest.mark.parametrize("ordered", [True, False])
def test_map_iter_keeps_no_results(local, witness, ordered):
    pipeline = Pipeline([node("y")(lambda x: witness.make("y"))])
    results = pipeline.map_iter(
        {"x": range(100)}, map_over="x", ordered=ordered, config=local.config
    )

    lag = 2 + local.workers  # what workers are about to let go of
    for consumed, entry in enumerate(results, 1):
        del entry
        alive = witness.alive("y")  # before the count of those made, which may still grow
        assert alive <= len(witness._values["y"]) - consumed + lag
    deadline = time.perf_counter() + LIMIT
    while witness.alive("y") and time.perf_counter() < deadline:
        time.sleep(0.001)
    assert witness.alive("y") == 0


def test_nothing_of_a_run_is_kept_when_it_is_over(local, witness):
    pipeline = Pipeline(
        [
            node("a")(lambda x: witness.make("a")),
            node("b")(lambda a, x: witness.make("b")),
            mapped(lambda x: witness.make("item"), "y"),
        ]
    )

    def fail(b):
        raise ZeroDivisionError

    broken = Pipeline([*pipeline.nodes, node("c")(fail)])
    pipeline.run({"x": witness.make("x"), "xs": [1, 2, 3]}, config=local.config)
    pipeline.map({"x": [witness.make("x")] * 9, "xs": [1]}, map_over="x", config=local.config)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            broken.run({"x": witness.make("x"), "xs": [1, 2]}, config=local.config)
    local.executor.close()
    gc.collect()

    assert [witness.alive(name) for name in ("x", "a", "b", "item")] == [0, 0, 0, 0]


@pytest.mark.parametrize("nested", [False, True])
def test_a_run_leaves_no_reference_cycles_behind(local, witness, nested):
    nodes = [
        node("a")(lambda x: witness.make("a")),
        node("b")(lambda x: witness.make("b")),
        node("c")(lambda a, b: witness.make("c")),
    ]
    if nested:
        nodes.append(mapped(lambda x: witness.make("item"), "y"))
    pipeline = Pipeline(nodes)

    def use():
        inputs = {"x": 1, "xs": [1, 2, 3]} if nested else {"x": 1}
        pipeline.run(inputs, config=local.config)
        mapped_inputs = inputs | {"x": [1, 2, 3]}
        pipeline.map(mapped_inputs, map_over="x", config=local.config)

    use()
    gc.collect()
    gc.disable()
    try:
        use()
        deadline = time.perf_counter() + 1.0  # a worker drops its last piece of work in a moment
        while any(map(witness.alive, "abc")) and time.perf_counter() < deadline:
            time.sleep(0.001)
        alive = [witness.alive(name) for name in "abc"]
    finally:
        gc.enable()

    assert alive == [0, 0, 0]


# ---------------------------------------------------------------- fork


FORKED = """
import os, signal
signal.alarm(15)
from hypernodes import *

async def later(x):
    return x + 1

config = RuntimeConfig(executor={executor})
first = {{
    "plain": node("a")(lambda x: x + 1),
    "timeout": node("a", timeout=2.0)(lambda x: x + 1),
    "async": node("a")(later),
}}[{kind!r}]
pipeline = Pipeline([first, node("b")(lambda x: -x), node("c")(lambda a, b: (a, b))])

def use():
    assert pipeline.run({{"x": 1}}, config=config)["c"] == (2, -1)
    found = pipeline.map({{"x": range(50)}}, map_over="x", output_name="c", config=config)
    assert [item["c"] for item in found] == [(x + 1, -x) for x in range(50)]

use()
child = os.fork()
if not child:
    signal.alarm(10)
use()
if child:
    _, status = os.waitpid(child, 0)
    print("child", os.waitstatus_to_exitcode(status))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.parametrize("kind", ["plain", "timeout", "async"])
@pytest.mark.parametrize("case", [CASES[0], CASES[1]], ids=spelled)
def test_a_forked_child_may_run_what_its_parent_ran(case, kind):
    script = FORKED.format(executor=repr(case.executor), kind=kind)

    assert python(script) == "child 0\n"


# ---------------------------------------------------------------- pools that cross

CROSSING = """
import time
from hypernodes import *

A = RuntimeConfig(executor=ThreadPoolExecutor(max_workers={count}))
B = RuntimeConfig(executor={other})

def wait(x):
    time.sleep(0.005)
    return x

def nest(taken, made, innermost):
    leaf = Pipeline([node("y")(wait)]).as_node(map_over="x").with_config(innermost)
    middle = Pipeline([leaf]).as_node(map_over="x")
    mappings = dict(input_mapping={{taken: "x"}}, output_mapping={{"y": made}})
    return Pipeline([middle]).as_node(map_over=taken, **mappings)

data = [[[1, 2], [3, 4]]] * 12
both = Pipeline([nest("p", "r", B), nest("q", "s", A).with_config(B)], config=A)
assert both.run({{"p": data, "q": data}}) == {{"r": data, "s": data}}
print("done")
"""


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize(
    "other", ["ThreadPoolExecutor(max_workers={})", "AsyncExecutor(max_concurrency={})"]
)
def test_nested_maps_that_cross_two_pools_do_not_deadlock(run_script, count, other):
    script = CROSSING.format(count=count, other=other.format(count + 1))
    assert run_script(script, seconds=20).stdout == "done\n"


def test_a_sequential_node_starts_after_all_that_can_run_beside_it(parallel):
    begun = threading.Event()
    first = node("first", config=SEQUENTIAL)(lambda x: begun.wait(LIMIT))
    beside = node("beside")(lambda x: begun.set())
    pipeline = Pipeline([first, beside], config=parallel.config)

    assert pipeline.run({"x": 1})["first"] is True
