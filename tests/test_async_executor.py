"""`AsyncExecutor`: coroutines awaited together on one loop, plain functions in threads."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from contextvars import ContextVar

import pytest

from hypernodes import (
    AsyncExecutor,
    Failure,
    HyperNodesError,
    NodeTimeoutError,
    Pipeline,
    RetryPolicy,
    RuntimeConfig,
    node,
)

LIMIT = 30.0
DEFAULT = RuntimeConfig(executor=AsyncExecutor())


def limited(count):
    return RuntimeConfig(executor=AsyncExecutor(max_concurrency=count))


@pytest.fixture(autouse=True)
def _end_hanging_tests():
    import faulthandler

    faulthandler.dump_traceback_later(60, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


class Meeting:
    """A coroutine that ends when it has been begun by `count` at once."""

    def __init__(self, count):
        self._count = count
        self._here = 0
        self._full = None

    async def __call__(self, x):
        if self._full is None:
            self._full = asyncio.Event()
        self._here += 1
        if self._here == self._count:
            self._full.set()
        await asyncio.wait_for(self._full.wait(), LIMIT)
        return x


class Peak:
    """Counts how many of its coroutines, or calls, are under way at once."""

    def __init__(self):
        self._lock = threading.Lock()
        self._now = 0
        self.most = 0

    def __enter__(self):
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)

    def __exit__(self, *exc_info):
        with self._lock:
            self._now -= 1

    async def later(self, x):
        with self:
            for _ in range(3):
                await asyncio.sleep(0.001)
        return x

    def plainly(self, x):
        with self:
            time.sleep(0.002)
        return x


class Sleeper:
    """A coroutine that sleeps until it is cancelled, and tells of both."""

    def __init__(self):
        self.begun = threading.Semaphore(0)
        self.cancelled = threading.Semaphore(0)

    async def __call__(self, x):
        self.begun.release()
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            self.cancelled.release()
            raise


def mapped(function, output="y"):
    """Return a node that maps a function over `xs`."""
    inner = Pipeline([node(output)(function)], name=f"make_{output}")
    names = {"xs": inner.root_args[0]}
    return inner.as_node(input_mapping=names, output_mapping={output: f"{output}s"}, map_over="xs")


# ---------------------------------------------------------------- what it is


def test_it_is_a_value_with_a_short_name():
    executor = AsyncExecutor(max_concurrency=3)

    assert RuntimeConfig(executor="async") == DEFAULT
    assert RuntimeConfig(executor={"kind": "async", "max_concurrency": 3}).executor == executor
    dumped = RuntimeConfig(executor=executor).model_dump(mode="json")
    assert RuntimeConfig(**dumped).executor == executor
    assert repr(executor) == "AsyncExecutor(max_concurrency=3)"


@pytest.mark.parametrize("count", [0, -1, 1.5, "4"])
def test_a_wrong_max_concurrency_is_refused(count):
    with pytest.raises(ValueError, match="max_concurrency"):
        AsyncExecutor(max_concurrency=count)


# ---------------------------------------------------------------- what is awaited together


def test_coroutines_of_independent_nodes_are_awaited_together():
    meeting = Meeting(200)
    pipeline = Pipeline([node(f"n{i}")(meeting) for i in range(200)])

    assert pipeline.run({"x": 1}, config=DEFAULT) == {f"n{i}": 1 for i in range(200)}


def test_coroutines_of_the_items_of_a_map_are_awaited_together():
    pipeline = Pipeline([node("y")(Meeting(1000))])

    found = pipeline.map({"x": range(1000)}, map_over="x", config=DEFAULT)

    assert found == [{"y": x} for x in range(1000)]


def test_inner_maps_of_few_items_use_the_spare_slots():
    pipeline = Pipeline([mapped(Meeting(12))])

    found = pipeline.map({"xs": [range(6), range(6)]}, map_over="xs", config=limited(12))

    assert found == [{"ys": list(range(6))}] * 2


def test_nested_maps_of_any_depth_are_awaited_together():
    innermost = Pipeline([mapped(Meeting(27))], name="innermost")
    middle = Pipeline([innermost.as_node(map_over="xs")], name="middle")
    three = [[range(3)] * 3] * 3

    found = middle.map({"xs": three}, map_over="xs", config=DEFAULT)

    assert found == [{"ys": [[0, 1, 2]] * 3}] * 3


def test_coroutines_and_plain_functions_follow_one_another_in_one_item():
    async def later(x):
        await asyncio.sleep(0)
        return x + 1

    pipeline = Pipeline(
        [
            node("a")(later),
            node("b")(lambda a: a * 2),
            node("c")(lambda b: b * 2),
            node("d")(later).rename(inputs={"x": "c"}),
        ]
    )

    found = pipeline.map({"x": range(50)}, map_over="x", output_name="d", config=DEFAULT)

    assert found == [{"d": 4 * (x + 1) + 1} for x in range(50)]


def test_several_outputs_and_keywords_of_coroutines_arrive():
    @node(output_name=("low", "high"))
    async def bounds(values, *, unit=1):
        return [min(values) * unit, max(values) * unit]

    pipeline = Pipeline([bounds])

    found = pipeline.map({"values": [[1, 2], [3]], "unit": 2}, map_over="values", config=DEFAULT)

    assert found == [{"low": 2, "high": 4}, {"low": 6, "high": 6}]


# ---------------------------------------------------------------- where it runs


async def where(x):
    return threading.current_thread(), asyncio.get_running_loop()


def test_all_coroutines_run_on_one_loop_whoever_calls():
    pipeline = Pipeline([node("a")(where), node("b")(where)])
    single = Pipeline([node("a")(where)])

    async def within_a_loop():
        return pipeline.run({"x": 1}, config=DEFAULT)

    runs = [pipeline.run({"x": 1}, config=DEFAULT) for _ in range(3)]
    runs += pipeline.map({"x": range(20)}, map_over="x", config=limited(2))
    runs += [asyncio.run(within_a_loop()), asyncio.run(single.arun({"x": 1}, config=DEFAULT))]
    places = {place for run in runs for place in run.values()}

    assert len(places) == 1
    assert places.pop()[0] is not threading.current_thread()


def test_plain_functions_never_run_on_the_loop():
    def here(x):
        return threading.current_thread()

    def wrapped(x):
        return threading.current_thread()

    wrapped.__wrapped__ = where
    nodes = [node("p")(here), node("q")(here), node("w")(wrapped), node("loop")(where)]
    nodes.append(mapped(here))

    run = Pipeline(nodes).run({"x": 1, "xs": [1, 2]}, config=DEFAULT)
    items = Pipeline(nodes[:4]).map({"x": range(9)}, map_over="x", config=DEFAULT)

    for found in (run, *items):
        loop = found["loop"][0]
        assert loop not in {found["p"], found["q"], found["w"], *found.get("ys", ())}


def test_a_wrapper_that_runs_its_coroutine_itself_works():
    async def later(x):
        return x + 1

    def wrapper(x):
        return asyncio.run(later(x))

    wrapper.__wrapped__ = later

    assert Pipeline([node("y")(wrapper)]).run({"x": 1}, config=DEFAULT) == {"y": 2}


def test_an_iterator_that_is_mapped_over_does_not_run_on_the_loop():
    def lazily():
        yield threading.current_thread()

    pipeline = Pipeline([node("loop")(where), node("xs")(lambda x: lazily()), mapped(lambda x: x)])

    found = pipeline.run({"x": 1}, config=DEFAULT)

    assert found["ys"][0] is not found["loop"][0]


# ---------------------------------------------------------------- how much at once


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("kind", ["later", "plainly"])
def test_no_more_nodes_than_max_concurrency_are_under_way(kind, count):
    peak = Peak()
    work = getattr(peak, kind)
    wide = Pipeline([node(f"n{i}")(work) for i in range(12)])
    nested = Pipeline([mapped(work), node("z")(work)])
    config = limited(count)

    wide.run({"x": 1}, config=config)
    wide.map({"x": range(4)}, map_over="x", config=config)
    nested.run({"xs": range(12), "x": 1}, config=config)
    Pipeline([node("y")(work)]).map({"x": range(40)}, map_over="x", config=config)
    list(Pipeline([node("y")(work)]).map_iter({"x": range(40)}, map_over="x", config=config))

    assert peak.most == count


def test_runs_of_equal_executors_share_the_slots():
    peak = Peak()
    pipeline = Pipeline([node("y")(peak.later)])

    async def main():
        runs = [pipeline.arun({"x": x}, config=limited(2)) for x in range(20)]
        return await asyncio.gather(*runs)

    assert asyncio.run(main()) == [{"y": x} for x in range(20)]
    assert peak.most == 2


def test_coroutines_and_plain_functions_together_keep_to_max_concurrency():
    peak = Peak()
    nodes = [node(f"a{i}")(peak.later) for i in range(6)]
    nodes += [node(f"b{i}")(peak.plainly) for i in range(6)]

    Pipeline(nodes).run({"x": 1}, config=limited(2))

    assert peak.most == 2


# ---------------------------------------------------------------- nesting


def descend(depth, how, configs):
    """Return a pipeline whose nodes run and map one another, `depth` levels deep."""

    async def leaf(x):
        await asyncio.sleep(0)
        return x + 1

    beside = node("beside")(leaf)
    if depth == 0:
        return Pipeline([node("y")(leaf), beside])
    below = descend(depth - 1, how, configs[1:] + configs[:1])
    config = configs[0]

    def plain(x):
        first = below.run({"x": x}, config=config)["y"]
        return first + below.map({"x": [x, x]}, map_over="x", config=config)[1]["y"]

    async def blocking(x):
        return plain(x)

    async def awaiting(x):
        first = (await below.arun({"x": x}, config=config))["y"]
        return first + (await below.amap({"x": [x, x]}, map_over="x", config=config))[1]["y"]

    work = {"plain": plain, "blocking": blocking, "awaiting": awaiting}[how]
    return Pipeline([node("y")(work), beside])


MIXES = {
    "async": [DEFAULT],
    "one": [limited(1)],
    "one in another": [limited(1), DEFAULT],
    "threads": [RuntimeConfig(executor={"kind": "thread", "max_workers": 1})],
    "mixed": [limited(1), RuntimeConfig(executor={"kind": "thread", "max_workers": 1}), DEFAULT],
    "sequential": [RuntimeConfig(executor="sequential"), limited(1)],
}


@pytest.mark.parametrize("how", ["plain", "blocking", "awaiting"])
@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("top", ["async", "thread", "sequential"])
def test_nodes_that_run_pipelines_never_deadlock_at_any_depth(how, mix, top):
    pipeline = descend(3, how, MIXES[mix])
    config = RuntimeConfig(executor=top)

    async def main():
        return await pipeline.arun({"x": 1}, config=config)

    assert pipeline.run({"x": 1}, config=config)["y"] == 16
    assert asyncio.run(main())["y"] == 16


def test_an_awaited_map_inside_a_coroutine_uses_the_spare_slots():
    inner = Pipeline([node("z")(Meeting(7))])
    config = limited(8)

    async def outer(x):
        return await inner.amap({"x": range(7)}, map_over="x", config=config)

    pipeline = Pipeline([node("y")(outer)])

    assert pipeline.run({"x": 1}, config=config)["y"] == [{"z": x} for x in range(7)]


# ---------------------------------------------------------------- failures


def test_the_first_failure_cancels_what_is_under_way():
    sleeper = Sleeper()

    async def fail(x):
        while not sleeper.begun.acquire(blocking=False):  # noqa: ASYNC110 - from another function
            await asyncio.sleep(0.001)
        raise ZeroDivisionError

    pipeline = Pipeline([node("bad")(fail), node("slow")(sleeper)], name="both")

    with pytest.raises(ZeroDivisionError) as caught:
        pipeline.run({"x": 1}, config=DEFAULT)
    assert sleeper.cancelled.acquire(timeout=LIMIT)
    assert caught.value.__notes__ == ["hypernodes: in node 'fail' of pipeline 'both'"]


@pytest.mark.parametrize("config", [DEFAULT, limited(4)], ids=str)
def test_the_first_failure_of_a_map_cancels_the_other_items(config):
    begun = []

    async def work(x):
        begun.append(x)
        if x == 3:
            raise ZeroDivisionError
        await asyncio.sleep(100)

    start = time.perf_counter()
    with pytest.raises(ZeroDivisionError) as caught:
        Pipeline([node("y")(work)]).map({"x": range(5000)}, map_over="x", config=config)

    assert time.perf_counter() - start < LIMIT
    assert len(begun) < 5000
    assert "item 3" in caught.value.__notes__[0]


def test_returned_failures_hold_their_place_and_everything_else_is_there():
    async def work(x):
        await asyncio.sleep(0)
        if x % 3 == 1:
            raise ValueError(x)
        return x

    pipeline = Pipeline([node("y")(work), node("z")(lambda y: -y)], name="maybe")

    found = pipeline.map({"x": range(30)}, map_over="x", on_error="return", config=DEFAULT)

    for x, outcome in enumerate(found):
        if x % 3 != 1:
            assert outcome == {"y": x, "z": -x}
            continue
        assert isinstance(outcome, Failure)
        assert (outcome.index, outcome.node, outcome.path) == (x, "work", ("maybe", "work"))
        assert (outcome.inputs, outcome.attempts) == ({"x": x}, 1)


@pytest.mark.parametrize(
    "kind", [SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError]
)
def test_what_is_no_exception_ends_the_run_and_the_loop_lives_on(kind):
    async def leave(x):
        if x == 2:
            raise kind(x)
        return x

    pipeline = Pipeline([node("y")(leave), node("z")(leave)])

    for _ in range(2):
        with pytest.raises(kind):
            pipeline.run({"x": 2}, config=DEFAULT)
        for on_error in ("raise", "return"):
            with pytest.raises(kind):
                pipeline.map({"x": range(50)}, map_over="x", on_error=on_error, config=DEFAULT)
    assert pipeline.run({"x": 1}, config=DEFAULT) == {"y": 1, "z": 1}


# ---------------------------------------------------------------- retries and timeouts


class Flaky:
    """A coroutine that fails a number of times."""

    def __init__(self, failures):
        self.attempts = 0
        self._failures = failures

    async def __call__(self, x):
        await asyncio.sleep(0)
        self.attempts += 1
        if self.attempts <= self._failures:
            raise ConnectionError(self.attempts)
        return x


@pytest.mark.parametrize("failures", [0, 1, 2])
def test_a_coroutine_is_tried_as_often_as_it_takes(failures):
    flaky = Flaky(failures)
    pipeline = Pipeline([node("y", retries=2)(flaky), node("z")(lambda x: x)])

    assert pipeline.run({"x": 1}, config=DEFAULT)["y"] == 1
    assert flaky.attempts == failures + 1


def test_attempts_in_vain_are_counted():
    flaky = Flaky(9)
    pipeline = Pipeline([node("y", retries=2)(flaky)])

    (found,) = pipeline.map({"x": [1]}, map_over="x", on_error="return", config=DEFAULT)

    assert (flaky.attempts, found.attempts) == (3, 3)
    assert found.error.args == (3,)


def test_what_is_not_to_be_retried_is_not():
    flaky = Flaky(9)
    policy = RetryPolicy(retry_on=(KeyError,), initial_delay=0.0)

    with pytest.raises(ConnectionError):
        Pipeline([node("y", retries=policy)(flaky)]).run({"x": 1}, config=DEFAULT)
    assert flaky.attempts == 1


def test_the_pause_between_attempts_does_not_block_the_loop():
    again = threading.Event()
    policy = RetryPolicy(max_retries=1, initial_delay=0.2)
    log = []

    async def flaky(x):
        log.append("attempt")
        if not again.is_set():
            again.set()
            raise ConnectionError
        return x

    async def beside(x):
        while not again.is_set():  # noqa: ASYNC110 - the event is not of this loop
            await asyncio.sleep(0.001)
        log.append("beside")

    nodes = [node("y", retries=policy)(flaky), node("z")(beside)]
    Pipeline(nodes).run({"x": 1}, config=DEFAULT)

    assert log == ["attempt", "beside", "attempt"]


def test_a_timeout_cancels_the_coroutine():
    sleeper = Sleeper()
    pipeline = Pipeline([node("y", timeout=0.05)(sleeper), node("z")(lambda x: x)])

    with pytest.raises(NodeTimeoutError, match=r"'y' took longer than its timeout of 0\.05 s"):
        pipeline.run({"x": 1}, config=DEFAULT)
    assert sleeper.cancelled.acquire(timeout=LIMIT)


def test_a_coroutine_that_swallows_cancellation_is_given_up_on_time_and_frees_its_slot():
    release = threading.Event()

    async def stubborn(x):
        while x and not release.is_set():
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                continue
        return x

    pipeline = Pipeline([node("y", timeout=0.05)(stubborn)])
    start = time.perf_counter()
    found = pipeline.map({"x": [1, 0, 0]}, map_over="x", on_error="return", config=limited(1))
    elapsed = time.perf_counter() - start
    release.set()

    assert isinstance(found[0].error, NodeTimeoutError)
    assert found[1:] == [{"y": 0}, {"y": 0}]
    assert elapsed < LIMIT / 2


def test_a_timeout_is_retried():
    begun = []

    async def slow_at_first(x):
        begun.append(x)
        await asyncio.sleep(100 if len(begun) == 1 else 0)
        return x

    pipeline = Pipeline([node("y", timeout=0.3, retries=1)(slow_at_first)])

    assert pipeline.run({"x": 1}, config=DEFAULT) == {"y": 1}


def test_plain_functions_time_out_too():
    release = threading.Event()
    pipeline = Pipeline([node("y", timeout=0.05)(lambda x: release.wait(LIMIT)), node("z")(where)])

    with pytest.raises(NodeTimeoutError):
        pipeline.run({"x": 1}, config=DEFAULT)
    release.set()


# ---------------------------------------------------------------- map_iter


def counted(taken):
    for number in itertools.count():
        taken.append(number)
        yield number


async def same(x):
    return x


@pytest.mark.parametrize("ordered", [True, False])
def test_map_iter_streams_an_endless_input_a_bounded_number_ahead(ordered):
    taken = []
    results = Pipeline([node("y")(same)]).map_iter(
        {"x": counted(taken)}, map_over="x", ordered=ordered, config=limited(8)
    )

    for number in range(3000):
        next(results)
        assert len(taken) <= number + 1 + 1024
    results.close()


def test_map_iter_yields_as_items_finish():
    gates = [threading.Event() for _ in range(3)]

    async def gated(x):
        while not gates[x].is_set():  # noqa: ASYNC110 - the event is not of this loop
            await asyncio.sleep(0.001)
        return x

    results = Pipeline([node("y")(gated)]).map_iter(
        {"x": range(3)}, map_over="x", ordered=False, config=DEFAULT
    )
    for x in (2, 0, 1):
        gates[x].set()
        assert next(results) == (x, {"y": x})
    assert next(results, None) is None


@pytest.mark.parametrize("nested", [False, True])
def test_closing_early_cancels_what_is_under_way(nested):
    sleeper = Sleeper()

    async def work(x):
        return x if x == 0 else await sleeper(x)

    pipeline = (
        Pipeline([node("y")(work), node("z")(work)]) if nested else Pipeline([node("y")(work)])
    )
    results = pipeline.map_iter({"x": [0, 1, 2]}, map_over="x", config=DEFAULT)
    next(results)
    for _ in range(2):
        assert sleeper.begun.acquire(timeout=LIMIT)
    results.close()

    for _ in range(2):
        assert sleeper.cancelled.acquire(timeout=LIMIT)
    assert list(results) == []


# ---------------------------------------------------------------- context, life


COLOUR = ContextVar("colour", default="none")


def test_coroutines_see_the_context_variables_of_the_caller_and_keep_theirs():
    async def look(x):
        found = COLOUR.get()
        COLOUR.set("changed")
        await asyncio.sleep(0)
        return found

    pipeline = Pipeline([node("a")(look), node("b")(look), mapped(look)])
    token = COLOUR.set("red")
    try:
        run = pipeline.run({"x": 1, "xs": [1, 2]}, config=DEFAULT)
        items = Pipeline([node("a")(look)]).map({"x": [1, 2]}, map_over="x", config=DEFAULT)
        assert COLOUR.get() == "red"
    finally:
        COLOUR.reset(token)

    assert run == {"a": "red", "b": "red", "ys": ["red", "red"]}
    assert items == [{"a": "red"}] * 2


def test_closing_in_the_middle_of_a_run_gives_a_clear_error_or_the_result():
    begun, release = threading.Semaphore(0), threading.Event()
    config = limited(2)

    def work(x):
        begun.release()
        release.wait(LIMIT)
        return x

    errors = []

    def run():
        try:
            Pipeline([node(f"n{i}")(work) for i in range(6)]).run({"x": 1}, config=config)
        except HyperNodesError as error:
            errors.append(str(error))

    thread = threading.Thread(target=run)
    thread.start()
    for _ in range(2):
        assert begun.acquire(timeout=LIMIT)
    closing = threading.Thread(target=config.executor.close)
    closing.start()
    release.set()
    thread.join(LIMIT)
    closing.join(LIMIT)

    assert not thread.is_alive()
    assert all("closed" in error for error in errors)


INTERRUPTED = """
import asyncio, os, signal, threading
from hypernodes import *

async def work(x):
    if x == 0:
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        await asyncio.sleep(100)
    except asyncio.CancelledError:
        print("cancelled", flush=True)
        raise

one = Pipeline([node("y")(work)])
both = Pipeline([node("y")(work), node("z")(lambda x: x)])
config = RuntimeConfig(executor={executor})
ways = {{
    "run": lambda: both.run({{"x": 0}}, config=config),
    "map": lambda: one.map({{"x": [0, 1]}}, map_over="x", config=config),
    "arun": lambda: asyncio.run(both.arun({{"x": 0}}, config=config)),
}}
try:
    ways[{way!r}]()
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.parametrize("executor", ["'async'", "'sequential'", "'thread'"])
@pytest.mark.parametrize("way", ["run", "map", "arun"])
def test_an_interrupt_cancels_the_coroutines(run_script, executor, way):
    result = run_script(INTERRUPTED.format(executor=executor, way=way))

    assert "cancelled" in result.stdout  # lines of two threads may run into one another
    assert "interrupted" in result.stdout


def test_the_interpreter_ends_promptly_with_work_under_way(run_script):
    run_script(
        """
import asyncio
from hypernodes import *

async def work(x):
    await asyncio.sleep(100 * (x > 0))

left = Pipeline([node("y")(work)]).map_iter(
    {"x": range(100)}, map_over="x", config=RuntimeConfig(executor="async")
)
next(left)
""",
    )
