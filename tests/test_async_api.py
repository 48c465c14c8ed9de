"""`arun`, `amap` and `async for`, on every executor, and what cancelling does to them."""

from __future__ import annotations

import asyncio
import gc
import itertools
import threading
import time
from contextvars import ContextVar

import pytest

from hypernodes import (
    AsyncExecutor,
    Failure,
    MissingInputError,
    Pipeline,
    RuntimeConfig,
    UnknownInputError,
    node,
)

LIMIT = 30.0


@pytest.fixture(autouse=True)
def _end_hanging_tests():
    import faulthandler

    faulthandler.dump_traceback_later(60, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


async def later(x):
    await asyncio.sleep(0)
    return x + 1


DOUBLE = Pipeline([node("y")(later), node("z")(lambda y: y * 2)], name="double")


def expected(x):
    return {"y": x + 1, "z": 2 * (x + 1)}


async def until(event):
    """Wait for an event of threads without blocking the loop."""
    deadline = time.perf_counter() + LIMIT
    while not event.is_set():
        assert time.perf_counter() < deadline
        await asyncio.sleep(0.001)


def asides():
    return [t for t in threading.enumerate() if t.name == "hypernodes-aside"]


async def no_thread_is_left():
    deadline = time.perf_counter() + LIMIT
    while asides():
        assert time.perf_counter() < deadline
        await asyncio.sleep(0.001)


# ---------------------------------------------------------------- the same as run, map, map_iter


def test_arun_gives_what_run_gives(config):
    found = asyncio.run(DOUBLE.arun({"x": 1}, config=config))

    assert found == DOUBLE.run({"x": 1}, config=config) == expected(1)
    assert asyncio.run(DOUBLE.arun({"x": 1}, output_name="y", config=config)) == {"y": 2}


@pytest.mark.parametrize("count", [0, 1, 40])
def test_amap_gives_what_map_gives(config, count):
    options = {"map_over": "x", "output_name": ["z"], "config": config}

    found = asyncio.run(DOUBLE.amap({"x": range(count)}, **options))

    assert found == DOUBLE.map({"x": range(count)}, **options)


@pytest.mark.parametrize("ordered", [True, False])
def test_async_for_gives_what_for_gives(config, ordered):
    async def main():
        results = DOUBLE.map_iter(
            {"x": iter(range(40))}, map_over="x", config=config, ordered=ordered
        )
        return [entry async for entry in results]

    found = asyncio.run(main())

    if ordered:
        assert found == [expected(x) for x in range(40)]
    else:
        assert dict(found) == {x: expected(x) for x in range(40)}


def test_results_may_be_taken_by_for_and_async_for_in_turn(config):
    async def main():
        results = DOUBLE.map_iter({"x": range(6)}, map_over="x", config=config)
        found = [next(results), await anext(results), next(results)]
        return found + [entry async for entry in results]

    assert asyncio.run(main()) == [expected(x) for x in range(6)]


def test_the_config_of_the_pipeline_and_of_use_hold(config):
    pipeline = DOUBLE.with_config(config)

    async def main():
        with RuntimeConfig.use(config):
            return await DOUBLE.arun({"x": 1}), await pipeline.amap({"x": [1]}, map_over="x")

    assert asyncio.run(main()) == (expected(1), [expected(1)])


def test_wrong_requests_are_refused(config):
    with pytest.raises(MissingInputError):
        asyncio.run(DOUBLE.arun(config=config))
    with pytest.raises(UnknownInputError):
        asyncio.run(DOUBLE.amap({"q": [1]}, map_over="q", config=config))


def test_failures_surface_as_themselves_with_notes_or_are_returned(config):
    async def fail(x):
        raise ValueError(x)

    pipeline = Pipeline([node("y")(fail), node("z")(lambda x: x)], name="bad")

    async def main():
        with pytest.raises(ValueError, match="1") as run:
            await pipeline.arun({"x": 1}, config=config)
        with pytest.raises(ValueError, match="2") as items:
            await pipeline.amap({"x": [2]}, map_over="x", config=config)
        with pytest.raises(ValueError, match="3"):
            async for _ in pipeline.map_iter({"x": [3]}, map_over="x", config=config):
                pass
        returned = await pipeline.amap({"x": [4]}, map_over="x", config=config, on_error="return")
        return run.value, items.value, returned

    run, items, (returned,) = asyncio.run(main())
    assert run.__notes__ == ["hypernodes: in node 'fail' of pipeline 'bad'"]
    assert items.__notes__ == ["hypernodes: in node 'fail' of pipeline 'bad', item 0"]
    assert isinstance(returned, Failure)


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_what_is_no_exception_surfaces_as_itself(config, kind):
    def leave(x):
        raise kind

    pipeline = Pipeline([node("y")(leave), node("z")(lambda x: x)])

    with pytest.raises(kind):
        asyncio.run(pipeline.arun({"x": 1}, config=config))
    assert asyncio.run(DOUBLE.arun({"x": 1}, config=config)) == expected(1)


COLOUR = ContextVar("colour", default="none")


def test_nodes_see_the_context_variables_of_the_awaiting_task(config):
    async def look_later(x):
        return COLOUR.get()

    pipeline = Pipeline([node("a")(lambda x: COLOUR.get()), node("b")(look_later)])

    async def main():
        COLOUR.set("red")
        run = await pipeline.arun({"x": 1}, config=config)
        items = await pipeline.amap({"x": [1, 2]}, map_over="x", config=config)
        results = pipeline.map_iter({"x": [1]}, map_over="x", config=config)
        return [run, *items, *[entry async for entry in results]]

    assert asyncio.run(main()) == [{"a": "red", "b": "red"}] * 4


# ---------------------------------------------------------------- the caller's loop goes on


def test_the_loop_of_the_caller_is_never_blocked(config):
    """Plain functions, the items' own iterator and coroutines all wait for the caller's loop."""
    beats = threading.Semaphore(0)

    def wait_for_the_loop(x):
        assert beats.acquire(timeout=LIMIT)
        return x

    async def wait_later(x):
        while not beats.acquire(blocking=False):  # noqa: ASYNC110 - not of this loop
            await asyncio.sleep(0.001)
        return x

    def slowly(count):
        for x in range(count):
            yield wait_for_the_loop(x)

    async def beat():
        while True:
            await asyncio.sleep(0.001)
            beats.release()

    pipeline = Pipeline([node("a")(wait_for_the_loop), node("b")(wait_later)])

    async def main():
        beating = asyncio.create_task(beat())
        await pipeline.arun({"x": 1}, config=config)
        await pipeline.amap({"x": slowly(3)}, map_over="x", config=config)
        results = pipeline.map_iter({"x": slowly(3)}, map_over="x", config=config)
        assert [entry["a"] async for entry in results] == [0, 1, 2]
        beating.cancel()

    asyncio.run(main())


def test_runs_from_several_loops_in_several_threads(config):
    results = []

    def use(number):
        for turn in range(10):
            x = 100 * number + turn
            assert asyncio.run(DOUBLE.arun({"x": x}, config=config)) == expected(x)
            found = asyncio.run(DOUBLE.amap({"x": [x, x]}, map_over="x", config=config))
            assert found == [expected(x)] * 2
        results.append(number)

    threads = [threading.Thread(target=use, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(3 * LIMIT)

    assert sorted(results) == [0, 1, 2, 3]


def test_many_runs_at_once(config):
    async def main():
        runs = [DOUBLE.arun({"x": x}, config=config) for x in range(40)]
        return await asyncio.gather(*runs)

    assert asyncio.run(main()) == [expected(x) for x in range(40)]


def test_runs_of_the_asynchronous_executor_need_no_thread_each():
    full = threading.Event()
    here = itertools.count(1)

    async def meet(x):
        if next(here) == 300:
            full.set()
        await until(full)
        return threading.active_count()

    pipeline = Pipeline([node("y")(meet)])
    config = RuntimeConfig(executor=AsyncExecutor())

    async def main():
        return await asyncio.gather(*[pipeline.arun({"x": x}, config=config) for x in range(300)])

    before = threading.active_count()
    assert max(found["y"] for found in asyncio.run(main())) <= before + 2


def test_sequential_runs_everything_in_one_helper_thread(sequential):
    def here(x):
        return threading.current_thread()

    pipeline = Pipeline([node("a")(here), node("b")(here)])

    found = asyncio.run(pipeline.arun({"x": 1}, config=sequential))
    items = asyncio.run(pipeline.amap({"x": [1, 2, 3]}, map_over="x", config=sequential))

    assert len(set(found.values())) == 1
    assert len({thread for item in items for thread in item.values()}) == 1
    assert threading.current_thread() not in found.values()


# ---------------------------------------------------------------- cancelling


class Probe:
    """A coroutine, or a plain function, that is under way until it is cancelled or let go."""

    def __init__(self):
        self.begun = threading.Event()
        self.cancelled = threading.Event()
        self.release = threading.Event()
        self.seen = []

    async def later(self, x):
        self.seen.append(x)
        self.begun.set()
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    def plainly(self, x):
        self.seen.append(x)
        self.begun.set()
        self.release.wait(LIMIT)


WAYS = {
    "arun": lambda pipeline, config: pipeline.arun({"x": 1}, config=config),
    "amap": lambda pipeline, config: pipeline.amap({"x": range(5000)}, map_over="x", config=config),
    "anext": lambda pipeline, config: anext(
        pipeline.map_iter({"x": range(5000)}, map_over="x", config=config)
    ),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("wide", [False, True])
def test_cancelling_the_awaiting_task_cancels_coroutines_and_leaves_no_thread(config, way, wide):
    probe = Probe()
    nodes = [node("y")(probe.later)]
    if wide:
        nodes.append(node("z")(probe.later))

    async def main():
        task = asyncio.create_task(_awaited(WAYS[way](Pipeline(nodes), config)))
        await until(probe.begun)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(probe.cancelled)
        await no_thread_is_left()
        assert await settled(probe.seen) < 5000

    asyncio.run(main())


async def settled(begun):
    """Return how many there are, once threads have begun what they had in hand."""
    deadline, count = time.perf_counter() + LIMIT, -1
    while count < len(begun):
        assert time.perf_counter() < deadline
        count = len(begun)
        await asyncio.sleep(0.05)
    return count


async def _awaited(awaitable):
    return await awaitable


@pytest.mark.parametrize("way", WAYS)
def test_cancelling_is_prompt_and_drops_what_has_not_started(config, way):
    probe = Probe()
    after = []
    last = node("z")(after.append).rename(inputs={"object": "y"})
    pipeline = Pipeline([node("y")(probe.plainly), last])

    async def main():
        task = asyncio.create_task(_awaited(WAYS[way](pipeline, config)))
        await until(probe.begun)
        start = time.perf_counter()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        elapsed = time.perf_counter() - start
        probe.release.set()
        await no_thread_is_left()
        config.executor.close()
        return elapsed

    assert asyncio.run(main()) < LIMIT / 4
    assert len(probe.seen) <= 4  # as many as there are workers, which had one in hand each
    assert after == []


@pytest.mark.parametrize("way", WAYS)
def test_a_timeout_around_it_works(config, way):
    probe = Probe()

    async def expire(limit):
        await until(probe.begun)
        limit.reschedule(asyncio.get_running_loop().time())

    async def main():
        limit = asyncio.timeout(None)
        expiring = asyncio.create_task(expire(limit))
        with pytest.raises(TimeoutError):
            async with limit:
                await WAYS[way](Pipeline([node("y")(probe.later)]), config)
        await expiring
        await until(probe.cancelled)
        return await DOUBLE.arun({"x": 1}, config=config)

    assert asyncio.run(main()) == expected(1)


def test_cancelling_reaches_runs_inside_nodes(config):
    probe = Probe()
    inner = Pipeline([node("y")(probe.later), node("z")(lambda x: x)])
    outer = Pipeline(
        [node("a")(lambda x: inner.run({"x": x}, config=config)), node("b")(lambda x: x)]
    )

    async def main():
        task = asyncio.create_task(outer.arun({"x": 1}, config=config))
        await until(probe.begun)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(probe.cancelled)

    asyncio.run(main())


def test_cancelling_ends_the_pause_before_the_next_attempt(config):
    begun = threading.Event()

    def fail(x):
        begun.set()
        raise ValueError

    policy = {"max_retries": 3, "initial_delay": 100.0, "max_delay": 100.0}
    pipeline = Pipeline([node("y")(fail), node("z")(lambda x: x)])
    retrying = config.replace(retries=policy)

    async def main():
        task = asyncio.create_task(pipeline.arun({"x": 1}, config=retrying))
        await until(begun)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await no_thread_is_left()

    asyncio.run(main())
    start = time.perf_counter()
    config.executor.close()
    assert time.perf_counter() - start < LIMIT


# ---------------------------------------------------------------- closing results


def endless(taken):
    for number in itertools.count():
        taken.append(number)
        yield number


@pytest.mark.parametrize("way", ["aclose", "close", "with", "break"])
def test_closing_results_early_cancels_the_rest(config, way):
    probe = Probe()
    taken = []

    async def work(x):
        return x if x == 0 else await probe.later(x)

    async def main():
        results = Pipeline([node("y")(work)]).map_iter(
            {"x": endless(taken)}, map_over="x", config=config
        )
        async for entry in results:
            assert entry == {"y": 0}
            break
        if way == "aclose":
            await results.aclose()
        elif way == "close":
            results.close()
        elif way == "with":
            async with results:
                pass
        else:
            del results
            gc.collect()
        await no_thread_is_left()
        count = len(taken)
        await asyncio.sleep(0.01)
        assert len(taken) == count
        if way != "break":
            assert [entry async for entry in results] == []

    asyncio.run(main())
    assert not probe.begun.is_set() or probe.cancelled.wait(LIMIT)


def test_closing_results_that_nobody_asked_for_starts_nothing(config):
    taken = []

    async def main():
        results = DOUBLE.map_iter({"x": endless(taken)}, map_over="x", config=config)
        await results.aclose()
        await results.aclose()
        assert [entry async for entry in results] == []

    asyncio.run(main())
    assert len(taken) <= 1


def test_async_for_takes_a_bounded_number_of_items_ahead(config):
    taken = []

    async def main():
        results = DOUBLE.map_iter({"x": endless(taken)}, map_over="x", config=config)
        for number in range(200):
            await anext(results)
            assert len(taken) <= number + 1 + 2048
        await results.aclose()

    asyncio.run(main())


@pytest.mark.parametrize("ordered", [True, False])
def test_a_node_that_raises_stop_async_iteration_does_not_pass_for_the_end(ordered):
    def work(x):
        if x == 3:
            raise StopAsyncIteration
        return x

    async def consume():
        results = Pipeline([node("y")(work)]).map_iter(
            {"x": range(8)}, map_over="x", ordered=ordered, config=RuntimeConfig(executor="async")
        )
        return [result async for result in results]

    with pytest.raises(RuntimeError, match="raised StopAsyncIteration"):
        asyncio.run(consume())


@pytest.mark.parametrize("kind", ["thread", "async", "process"])
def test_cancelling_a_wait_for_a_slow_source_surfaces_as_itself(kind):
    released = threading.Event()

    def slow():
        yield 1
        released.wait(10)
        yield 2

    async def consume():
        config = RuntimeConfig(executor=kind)
        pipeline = Pipeline([node("y")(lambda x: x)])
        async with asyncio.timeout(0.3):
            async with pipeline.map_iter({"x": slow()}, map_over="x", config=config) as results:
                async for _ in results:
                    pass

    with pytest.raises(TimeoutError):
        asyncio.run(consume())
    released.set()
