"""What executors do that share this process's memory, beside what all of them do alike.

Shared events, barriers and weak references see what files cannot: how much overlaps, what is begun
after a failure, when values are let go.
"""

from __future__ import annotations

import asyncio
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
    CompositeExecutor,
    Executor,
    Failure,
    HyperNodesError,
    Pipeline,
    RuntimeConfig,
    SequentialExecutor,
    ThreadPoolExecutor,
    node,
)


def composite(map_executor, node_executor):
    return CompositeExecutor(map_executor=map_executor, node_executor=node_executor)


@dataclass(frozen=True)
class Case:
    """An executor, and how much runs at once on it."""

    executor: Executor
    workers: int

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
    Case(composite(ThreadPoolExecutor(max_workers=4), AsyncExecutor(max_concurrency=4)), 4),
    Case(composite(AsyncExecutor(max_concurrency=4), ThreadPoolExecutor(max_workers=4)), 4),
    Case(composite(ThreadPoolExecutor(max_workers=1), AsyncExecutor(max_concurrency=1)), 1),
)
PARALLEL = tuple(case for case in CASES if case.workers > 1)
POOLED = tuple(case for case in CASES if not isinstance(case.executor, SequentialExecutor))
OWN_POOL = tuple(case for case in POOLED if not isinstance(case.executor, CompositeExecutor))
UNDIVIDED = tuple(case for case in PARALLEL if case in OWN_POOL)
SEQUENTIAL = RuntimeConfig(executor=SequentialExecutor())
LIMIT = 30.0


def opened(request):
    yield request.param
    request.param.executor.close()


def spelled(case):
    return repr(case.executor)


# Every case; those that overlap, all in one pool; those with a pool, one of their own.
local = pytest.fixture(params=CASES, ids=spelled, name="local")(opened)
parallel = pytest.fixture(params=PARALLEL, ids=spelled, name="parallel")(opened)
own_pool = pytest.fixture(params=OWN_POOL, ids=spelled, name="own_pool")(opened)
undivided = pytest.fixture(params=UNDIVIDED, ids=spelled, name="undivided")(opened)
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


def python(script, *, timeout=60.0):
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


# ---------------------------------------------------------------- no deadlocks


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
    threads, before = [], threading.active_count()

    def count(x):
        threads.append(threading.active_count() - before)
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


def test_after_a_failure_no_further_item_of_an_inner_map_starts(undivided):
    begun, all_in, release = [], threading.Barrier(undivided.workers), threading.Event()

    def work(x):
        begun.append(x)
        if x % 100 == 0:
            all_in.wait(LIMIT)
        if x == 0:
            raise ZeroDivisionError
        release.wait(LIMIT)

    lists = [range(100 * n, 100 * n + 50) for n in range(undivided.workers)]
    with pytest.raises(ZeroDivisionError):
        Pipeline([mapped(work, "y")]).map({"xs": lists}, map_over="xs", config=undivided.config)
    release.set()
    undivided.executor.close()

    assert len(begun) <= 2 * undivided.workers


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


# ---------------------------------------------------------------- map_iter


def counted(taken):
    for number in itertools.count():
        taken.append(number)
        yield number


def test_map_iter_takes_few_items_ahead_of_a_slow_consumer(local):
    taken = []
    results = Pipeline([node("y")(lambda x: x)]).map_iter(
        {"x": counted(taken)}, map_over="x", config=local.config
    )

    for number in range(20):
        assert next(results) == {"y": number}
        time.sleep(0.01)
        assert len(taken) <= number + 8 * local.workers
    results.close()


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


# ---------------------------------------------------------------- isolation


def test_one_pipeline_runs_from_many_threads_at_once(local):
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
    configs = [local.config, local.config.replace(retries=2), SEQUENTIAL, local.config]
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


def test_a_pool_survives_exceptions(own_pool):
    assert len(threads_of(own_pool, own_pool.executor)) == own_pool.workers

    def fail(x):
        raise [ValueError, SystemExit, KeyboardInterrupt][x % 3]

    broken = Pipeline([node("y")(fail), node("z")(fail)])
    for x in range(6):
        with pytest.raises((ValueError, SystemExit, KeyboardInterrupt)):
            broken.run({"x": x}, config=own_pool.config)
        with pytest.raises((ValueError, SystemExit, KeyboardInterrupt)):
            broken.map({"x": range(x, x + 40)}, map_over="x", config=own_pool.config)

    # Not the same ones: what was running when a map failed has been replaced.
    assert len(threads_of(own_pool, own_pool.executor)) == own_pool.workers


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


# ---------------------------------------------------------------- Ctrl-C


ELSEWHERE = """
import signal, threading, time
from hypernodes import *

def interrupt(x):
    time.sleep(0.3)  # the main thread waits by now
    # The system may tell any thread: a wait of the main thread is then not interrupted by itself.
    signal.pthread_kill(threading.get_ident(), signal.SIGINT)
    threading.Event().wait()

inner = Pipeline([node("y")(interrupt)])
outer = Pipeline([inner.as_node(map_over="x"), node("z")(lambda x: threading.Event().wait())])
try:
    outer.run({{"x": [1, 2]}}, config=RuntimeConfig(executor={executor!r}))
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="needs signals to threads")
@pytest.mark.parametrize("case", PARALLEL, ids=spelled)
def test_an_interrupt_that_another_thread_is_told_of_ends_the_run(run_script, case):
    found = run_script(ELSEWHERE.format(executor=case.executor))
    assert found.stdout == "interrupted\n"


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
        """Note how many are alive, once the threads that drop them had a moment to do so."""
        deadline = time.perf_counter() + LIMIT / 4
        while any(map(self.alive, names)) and time.perf_counter() < deadline:
            time.sleep(0.001)
        self.seen |= {name: self.alive(name) for name in names}


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
        node("f")(lambda e: witness.note("a")),
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
        node("d")(lambda c: witness.note("a")),
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

    # A thread that waited for another executor may be about to end.
    deadline = time.perf_counter() + LIMIT
    names = ("x", "a", "b", "item")
    while any(map(witness.alive, names)) and time.perf_counter() < deadline:
        time.sleep(0.001)
        gc.collect()
    assert [witness.alive(name) for name in names] == [0, 0, 0, 0]


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
        deadline = time.perf_counter() + LIMIT  # a worker drops its last piece of work in a moment
        while any(map(witness.alive, "abc")) and time.perf_counter() < deadline:
            time.sleep(0.001)
        alive = [witness.alive(name) for name in "abc"]
    finally:
        gc.enable()

    assert alive == [0, 0, 0]


# ---------------------------------------------------------------- fork


FORKED = """
import os, signal
signal.alarm(50)
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
    signal.alarm(40)
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
    assert run_script(script).stdout == "done\n"


def test_a_sequential_node_starts_after_all_that_can_run_beside_it(parallel):
    begun = threading.Event()
    first = node("first", config=SEQUENTIAL)(lambda x: begun.wait(LIMIT))
    beside = node("beside")(lambda x: begun.set())
    pipeline = Pipeline([first, beside], config=parallel.config)

    assert pipeline.run({"x": 1})["first"] is True


# ---------------------------------------------------------------- bounds and contexts


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize(
    "executor", [ThreadPoolExecutor(max_workers=2), AsyncExecutor(max_concurrency=2)], ids=repr
)
def test_runs_side_by_side_keep_to_the_bound_of_their_executor(executor, is_async):
    lock, counts = threading.Lock(), Counter()

    def enter():
        with lock:
            counts["now"] += 1
            counts["most"] = max(counts["most"], counts["now"])

    def leave():
        with lock:
            counts["now"] -= 1

    def plain(x):
        enter()
        time.sleep(0.005)
        leave()
        return x

    async def waiting(x):
        enter()
        await asyncio.sleep(0.005)
        leave()
        return x

    pipeline = Pipeline([node("y")(waiting if is_async else plain)])
    config = RuntimeConfig(executor=executor)
    with futures.ThreadPoolExecutor(6) as drivers:
        maps = [
            drivers.submit(pipeline.map, {"x": range(8)}, map_over="x", config=config)
            for _ in range(6)
        ]
        assert all(found.result(LIMIT) == [{"y": x} for x in range(8)] for found in maps)

    assert counts["most"] == 2


@pytest.mark.parametrize("nested", [False, True])
def test_a_coroutine_sees_no_context_of_another_item(local, nested):
    seen = ContextVar("seen", default=None)

    async def work(x):
        before = seen.get()
        seen.set(x)
        await asyncio.sleep(0)
        return before

    pipeline = Pipeline([node("y")(work)])
    if nested:
        found = Pipeline([pipeline.as_node(map_over="x")]).run({"x": range(9)}, config=local.config)
        assert found == {"y": [None] * 9}
    else:
        found = pipeline.map({"x": range(9)}, map_over="x", config=local.config)
        assert found == [{"y": None}] * 9


def test_functions_that_cross_two_executors_within_their_timeouts_do_not_deadlock():
    one = RuntimeConfig(executor=ThreadPoolExecutor(max_workers=1))
    two = RuntimeConfig(executor=AsyncExecutor(max_concurrency=3), timeout=LIMIT)
    both = threading.Barrier(2)
    leaf = Pipeline([node("z")(lambda x: x)])

    def crossing(other):
        def cross(x):
            both.wait(LIMIT)
            return leaf.map({"x": [x, x]}, map_over="x", config=other)

        return Pipeline([node("y", timeout=LIMIT / 2)(cross)])

    with futures.ThreadPoolExecutor() as drivers:
        maps = [
            drivers.submit(crossing(other).map, {"x": [1]}, map_over="x", config=config)
            for config, other in ((one, two), (two, one))
        ]
        expected = [{"y": [{"z": 1}, {"z": 1}]}]
        assert [found.result(LIMIT) for found in maps] == [expected, expected]


@pytest.mark.parametrize("way", ["failure", "cancelled"])
@pytest.mark.parametrize(
    "executor",
    [
        ThreadPoolExecutor(max_workers=1),
        ThreadPoolExecutor(max_workers=3),
        AsyncExecutor(max_concurrency=2),
    ],
    ids=repr,
)
def test_calls_that_nobody_waits_for_keep_no_place(executor, way):
    (size,) = dict(executor).values()
    begun, release = threading.Semaphore(0), threading.Event()
    config = RuntimeConfig(executor=executor)

    def stuck(x):
        begun.release()
        if x < 0:
            raise ZeroDivisionError
        release.wait(LIMIT)

    pipeline = Pipeline([node("y")(stuck)])

    async def cancelled():
        task = asyncio.create_task(pipeline.amap({"x": range(8)}, map_over="x", config=config))
        await asyncio.to_thread(begun.acquire)
        task.cancel()
        await asyncio.wait([task])

    def failing():
        with pytest.raises(ZeroDivisionError):
            pipeline.map({"x": [5] * (size - 1) + [-1]}, map_over="x", config=config)

    if way == "cancelled":
        asyncio.run(cancelled())
    else:
        failing()
    meet = threading.Barrier(size)
    meeting = Pipeline([node("y")(lambda x: meet.wait(LIMIT / 2) >= 0)])
    items = {"x": range(3 * size)}
    found = within(LIMIT, lambda: meeting.map(items, map_over="x", config=config))
    release.set()

    assert found == [{"y": True}] * 3 * size
