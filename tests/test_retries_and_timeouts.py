"""Retries and timeouts: how often, when, after what, and what becomes of the rest."""

import asyncio
import contextvars
import itertools
import math
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypernodes import (
    Failure,
    HyperNodesError,
    NodeOutputError,
    NodeTimeoutError,
    Pipeline,
    RetryPolicy,
    RuntimeConfig,
    ThreadPoolExecutor,
    node,
)

SECONDS = 30
SHORT = 0.3
"""Seconds that only a stuck call takes, also on a busy machine."""
variable = contextvars.ContextVar("variable", default="unset")


class Fails:
    """A node's function that fails a number of times for each argument, then returns it."""

    __name__ = "flaky"

    def __init__(self, times, error=ValueError):
        self.times = times
        self.error = error
        self.calls = []

    def __call__(self, x):
        self.calls.append(x)
        if self.calls.count(x) <= self.times:
            raise self.error(f"attempt {self.calls.count(x)}")
        return x


def always(error=ValueError):
    return Fails(10_000, error)


@pytest.fixture
def gate():
    """An event that abandoned calls wait for; it is set when the test is over."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def pauses(monkeypatch):
    """Record how long was paused, instead of pausing."""
    recorded = []
    monkeypatch.setattr("hypernodes._engine.retry.pause", recorder(recorded))
    return recorded


def recorder(recorded):
    async def pause(seconds):
        recorded.append(seconds)

    return pause


def run(function, config, **options):
    return Pipeline([node("y", **options)(function)], name="p").run({"x": 1}, config=config)


# ---------------------------------------------------------------- how often


@pytest.mark.parametrize("retries", [0, 1, 2, 5])
@pytest.mark.parametrize("level", ["node", "config", "node policy", "config policy"])
def test_node_is_tried_once_and_then_as_often_as_said(retries, level, config):
    function = always()
    said = RetryPolicy(max_retries=retries, initial_delay=0) if "policy" in level else retries
    if level.startswith("node"):
        options = {"retries": said}
    else:
        options, config = {}, config.replace(retries=said)
    with pytest.raises(ValueError, match=rf"attempt {retries + 1}\b"):
        run(function, config, **options)
    assert len(function.calls) == retries + 1


@pytest.mark.parametrize("fails", [0, 1, 3])
def test_node_is_tried_until_it_succeeds(fails, config):
    function = Fails(fails)
    assert run(function, config, retries=3) == {"y": 1}
    assert len(function.calls) == fails + 1


def test_without_retries_there_is_one_attempt(config):
    function = Fails(1)
    with pytest.raises(ValueError, match="attempt 1"):
        run(function, config)
    assert len(function.calls) == 1


def test_facts_of_the_node_win_over_the_config(config):
    for on_node, in_config, expected in ((0, 5, 1), (1, 5, 2), (3, 0, 4)):
        function = always()
        with pytest.raises(ValueError, match="attempt"):
            run(function, config.replace(retries=in_config), retries=on_node)
        assert len(function.calls) == expected


def test_each_item_has_its_own_attempts(config):
    function = Fails(2)
    pipeline = Pipeline([node("y", retries=2)(function)])
    found = pipeline.map({"x": range(10)}, map_over="x", config=config)
    assert [outputs["y"] for outputs in found] == list(range(10))
    assert sorted(function.calls) == sorted([*range(10)] * 3)


def test_failure_tells_the_number_of_attempts(config):
    pipeline = Pipeline([node("y", retries=2)(always()), node("z")(lambda y: y)])
    failures = pipeline.map({"x": range(5)}, map_over="x", config=config, on_error="return")
    assert [failure.attempts for failure in failures] == [3] * 5
    assert [failure.index for failure in failures] == list(range(5))


def test_number_of_attempts_is_told_from_inside_nested_pipelines(config):
    inner = Pipeline([node("y", retries=1)(always())], name="inner")
    for own in (None, RuntimeConfig(executor="sequential"), RuntimeConfig()):
        for made in (
            inner.with_config(own).as_node(),
            inner.with_config(own).as_node(map_over="x"),
        ):
            outer = Pipeline([made], config=config)
            (failure,) = outer.map({"x": [[1]]}, map_over="x", on_error="return")
            assert (failure.attempts, failure.node) == (2, "flaky")


def test_retries_apply_to_nodes_and_not_to_nested_pipelines(config):
    first, second = Fails(0), always()
    inner = Pipeline([node("a")(first), node("b")(second).rename(inputs={"x": "a"})])
    with pytest.raises(ValueError, match="attempt 3"):
        Pipeline([inner]).run({"x": 1}, config=config.replace(retries=2))
    assert (len(first.calls), len(second.calls)) == (1, 3)


def test_only_the_failed_node_is_tried_again(config):
    first, second = Fails(0), Fails(2)
    nodes = [node("a")(first), node("b")(second).rename(inputs={"x": "a"})]
    assert Pipeline(nodes).run({"x": 1}, config=config.replace(retries=2)) == {"a": 1, "b": 1}
    assert (len(first.calls), len(second.calls)) == (1, 3)


def test_last_error_surfaces_with_its_note_once(config):
    with pytest.raises(ValueError, match="attempt 3") as caught:
        run(always(), config, retries=2)
    assert len(caught.value.__notes__) == 1
    assert "flaky" in caught.value.__notes__[0]


def test_wrong_number_of_values_is_no_failed_attempt_or_one_like_any(config):
    calls = []
    pipeline = Pipeline([node(("a", "b"), retries=3)(lambda x: calls.append(x) or (x,))])
    with pytest.raises(HyperNodesError, match="2 outputs"):
        pipeline.run({"x": 1}, config=config)
    assert len(calls) in {1, 4}


# ---------------------------------------------------------------- after what


def test_only_exceptions_of_retry_on_are_retried(config):
    policy = RetryPolicy(max_retries=3, initial_delay=0, retry_on=(KeyError, OSError))
    for error, attempts in ((KeyError, 4), (ConnectionError, 4), (ValueError, 1), (LookupError, 1)):
        function = always(error)
        with pytest.raises(error):
            run(function, config, retries=policy)
        assert len(function.calls) == attempts


def test_exception_of_another_type_ends_the_attempts(config):
    errors = iter([KeyError("first"), KeyError("second"), ValueError("third"), KeyError("no")])
    calls = []

    def function(x):
        calls.append(x)
        raise next(errors)

    policy = RetryPolicy(max_retries=5, initial_delay=0, retry_on=(KeyError,))
    pipeline = Pipeline([node("y", retries=policy)(function)])
    (failure,) = pipeline.map({"x": [1]}, map_over="x", config=config, on_error="return")
    assert str(failure.error) == "third"
    assert (failure.attempts, len(calls)) == (3, 3)


def test_nothing_is_retried_when_retry_on_is_empty(config):
    function = always()
    with pytest.raises(ValueError, match="attempt 1"):
        run(function, config, retries=RetryPolicy(max_retries=3, retry_on=()))
    assert len(function.calls) == 1


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, BaseException, GeneratorExit])
@pytest.mark.parametrize("before", [0, 1], ids=["at first", "after a failure"])
def test_base_exceptions_are_never_retried(error, before, config):
    calls = []

    def function(x):
        calls.append(x)
        if len(calls) <= before:
            raise ValueError("retried")
        raise error("ends it")

    with pytest.raises(error, match="ends it"):
        run(function, config, retries=5)
    assert len(calls) == before + 1


def test_exception_groups_are_retried_as_what_they_are(config):
    function = always(lambda text: ExceptionGroup(text, [ValueError()]))
    with pytest.raises(ExceptionGroup):
        run(function, config, retries=2)
    assert len(function.calls) == 3


# ---------------------------------------------------------------- when


def test_plain_number_of_retries_means_at_once(pauses, sequential):
    with pytest.raises(ValueError, match="attempt 4"):
        run(always(), sequential, retries=3)
    assert sum(pauses) == 0


def test_pauses_grow_by_the_multiplier_up_to_the_longest(pauses, sequential):
    policy = RetryPolicy(max_retries=5, initial_delay=0.5, multiplier=3, max_delay=10)
    with pytest.raises(ValueError, match="attempt 6"):
        run(always(), sequential, retries=policy)
    assert pauses == pytest.approx([0.5, 1.5, 4.5, 10, 10])


@given(
    policy=st.builds(
        RetryPolicy,
        max_retries=st.integers(1, 6),
        initial_delay=st.floats(0, 100),
        multiplier=st.floats(1, 50),
        max_delay=st.floats(0, 1000),
        jitter=st.sampled_from([0.0, 0.0, 0.5, 20.0]),
    )
)
def test_pauses_are_what_the_policy_says(policy, sequential):
    recorded = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hypernodes._engine.retry.pause", recorder(recorded))
        with pytest.raises(ValueError, match="attempt"):
            run(always(), sequential, retries=policy)
    assert len(recorded) == policy.max_retries
    for number, pause in enumerate(recorded):
        plain = min(policy.initial_delay * policy.multiplier**number, policy.max_delay)
        assert plain - 1e-6 <= pause <= plain + policy.jitter + 1e-6


def test_jitter_differs_from_pause_to_pause(pauses, sequential):
    policy = RetryPolicy(max_retries=20, initial_delay=0, jitter=1)
    with pytest.raises(ValueError, match="attempt 21"):
        run(always(), sequential, retries=policy)
    assert len(set(pauses)) > 10


def test_pauses_are_really_waited_for(config):
    times = []

    def function(x):
        times.append(time.monotonic())
        raise ValueError("always")

    policy = RetryPolicy(max_retries=2, initial_delay=0.05, multiplier=2)
    with pytest.raises(ValueError, match="always"):
        run(function, config, retries=policy)
    first, second = (after - before for before, after in itertools.pairwise(times))
    assert first >= 0.045
    assert second >= 0.09


def test_no_pause_follows_the_last_attempt(pauses, sequential):
    with pytest.raises(ValueError, match="attempt 2"):
        run(always(), sequential, retries=RetryPolicy(max_retries=1, initial_delay=7))
    assert pauses == [7]


def test_pause_of_one_item_does_not_hold_up_the_others(threads):
    others = threading.Semaphore(0)

    def function(x):
        if x:
            others.release()
            return x
        if not all(others.acquire(timeout=SECONDS) for _ in range(20)):
            raise KeyError("the others did not run")
        raise ValueError("once the others are through")

    policy = RetryPolicy(max_retries=1, initial_delay=0.01, retry_on=(ValueError,))
    pipeline = Pipeline([node("y", retries=policy)(function)])
    threading.Timer(0.2, lambda: others.release(20)).start()
    found = pipeline.map({"x": range(21)}, map_over="x", config=threads, on_error="return")
    assert isinstance(found[0].error, ValueError)
    assert [outputs["y"] for outputs in found[1:]] == list(range(1, 21))


# ---------------------------------------------------------------- timeouts


@pytest.mark.parametrize("level", ["node", "config"])
def test_timeout_is_raised_while_the_call_runs_on(level, gate, config):
    went_on = threading.Event()

    def function(x):
        gate.wait(SECONDS)
        went_on.set()

    options = {"timeout": 0.05} if level == "node" else {}
    config = config if level == "node" else config.replace(timeout=0.05)
    with pytest.raises(NodeTimeoutError, match=r"0\.05") as caught:
        run(function, config, **options)
    error = caught.value
    assert isinstance(error, TimeoutError)
    assert (error.node, error.path, error.timeout) == ("function", ("p", "function"), 0.05)
    assert not went_on.is_set()
    gate.set()
    assert went_on.wait(SECONDS)


def test_timeout_of_the_node_wins_over_that_of_the_config(gate, config):
    with pytest.raises(NodeTimeoutError) as caught:
        run(lambda x: gate.wait(SECONDS), config.replace(timeout=SECONDS), timeout=0.05)
    assert caught.value.timeout == 0.05
    slow = config.replace(timeout=0.001)
    assert run(lambda x: gate.wait(0.05), slow, timeout=SECONDS) == {"y": False}


def test_call_within_its_timeout_is_as_without(config):
    assert run(lambda x: x, config, timeout=SECONDS) == {"y": 1}
    with pytest.raises(ZeroDivisionError):
        run(lambda x: x / 0, config, timeout=SECONDS)


@pytest.mark.parametrize("timeout", [1e9, 1e12, 1e300])
@pytest.mark.parametrize("kind", ["plain", "async"])
def test_timeout_of_ages_is_no_timeout(timeout, kind, config):
    async def coroutine(x):
        await asyncio.sleep(0.01)
        return x

    def plain(x):
        time.sleep(0.01)
        return x

    function = coroutine if kind == "async" else plain
    assert run(function, config, timeout=timeout) == {"y": 1}


def test_error_of_the_function_inside_a_timed_call_surfaces_as_itself(config):
    def function(x):
        raise TimeoutError("the user's own")

    with pytest.raises(TimeoutError, match="the user's own") as caught:
        run(function, config, timeout=SECONDS)
    assert type(caught.value) is TimeoutError
    assert any("function" in note for note in caught.value.__notes__)


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, StopIteration])
def test_any_exception_of_a_timed_call_reaches_the_caller(error, config):
    def function(x):
        raise error("out")

    with pytest.raises(error, match="out"):
        run(function, config, timeout=SECONDS)


def test_timed_out_attempt_is_retried(gate, config):
    calls = []

    def function(x):
        calls.append(x)
        if len(calls) <= 2:
            gate.wait(SECONDS)
        return len(calls)

    assert run(function, config, timeout=SHORT, retries=2) == {"y": 3}
    assert len(calls) == 3


def test_each_attempt_has_the_whole_timeout(gate, config):
    calls = []

    def function(x):
        calls.append(x)
        gate.wait(0.15)
        if len(calls) < 4:
            raise ValueError("again")
        return x

    assert run(function, config, timeout=0.55, retries=3) == {"y": 1}


def test_attempts_that_all_time_out_are_counted(gate, config):
    pipeline = Pipeline([node("y", timeout=0.02, retries=2)(lambda x: gate.wait(SECONDS))])
    (failure,) = pipeline.map({"x": [1]}, map_over="x", config=config, on_error="return")
    assert isinstance(failure.error, NodeTimeoutError)
    assert failure.attempts == 3


@pytest.mark.parametrize(
    ("retry_on", "attempts"),
    [((TimeoutError,), 3), ((NodeTimeoutError,), 3), ((OSError,), 3), ((ValueError,), 1)],
)
def test_timeout_is_retried_where_retry_on_admits_it(retry_on, attempts, gate, config):
    calls = []

    def function(x):
        calls.append(x)
        gate.wait(SECONDS)

    policy = RetryPolicy(max_retries=2, initial_delay=0, retry_on=retry_on)
    with pytest.raises(NodeTimeoutError):
        run(function, config, timeout=0.02, retries=policy)
    end = time.monotonic() + SECONDS
    while len(calls) < attempts and time.monotonic() < end:
        time.sleep(0.001)  # a thread may come to its call when nobody waits for it any more
    assert len(calls) == attempts


def test_neighbours_of_a_timeout_are_unharmed(gate, config):
    def function(x):
        return gate.wait(SECONDS) if x in {2, 5} else x

    pipeline = Pipeline([node("y", timeout=0.4)(function), node("z")(lambda y: y)])
    found = pipeline.map({"x": range(8)}, map_over="x", config=config, on_error="return")
    for x, outcome in enumerate(found):
        if x in {2, 5}:
            assert isinstance(outcome.error, NodeTimeoutError)
            assert (outcome.index, dict(outcome.inputs)) == (x, {"x": x})
        else:
            assert outcome == {"y": x, "z": x}


def test_abandoned_calls_free_their_slots(gate, config):
    pipeline = Pipeline([node("y", timeout=0.02)(lambda x: gate.wait(SECONDS))])
    found = pipeline.map({"x": range(12)}, map_over="x", config=config, on_error="return")
    assert [type(outcome) for outcome in found] == [Failure] * 12
    assert Pipeline([node("y")(lambda x: x)]).map({"x": [1]}, map_over="x", config=config) == [
        {"y": 1}
    ]


def test_late_result_of_an_abandoned_call_goes_nowhere(gate, config):
    def function(x):
        if x == "late":
            gate.wait(SECONDS)
        return x

    pipeline = Pipeline([node("y", timeout=SHORT)(function)])
    found = pipeline.map({"x": ["late", *"abcdef"]}, map_over="x", config=config, on_error="return")
    gate.set()
    again = pipeline.map({"x": [*"ghijkl"]}, map_over="x", config=config)
    assert [outcome["y"] for outcome in found[1:]] == [*"abcdef"]
    assert [outcome["y"] for outcome in again] == [*"ghijkl"]


def test_timeouts_apply_to_nodes_and_not_to_nested_pipelines(config):
    def slow(x):
        time.sleep(0.1)
        return x

    inner = Pipeline([node(f"y{n}")(slow).rename({"x": f"y{n - 1}"}) for n in range(1, 8)])
    outer = Pipeline([inner])
    assert outer.run({"y0": 1}, config=config.replace(timeout=0.5))["y7"] == 1


def test_timed_calls_inside_timed_calls_work(gate, config):
    inner = Pipeline([node("z", timeout=0.05)(lambda x: gate.wait(SECONDS))])

    def function(x):
        with pytest.raises(NodeTimeoutError):
            inner.run({"x": x}, config=config)
        return "inner timed out"

    assert run(function, config, timeout=SECONDS) == {"y": "inner timed out"}
    assert run(function, config) == {"y": "inner timed out"}


def test_timed_calls_leave_no_threads_behind(config):
    before = threading.active_count()
    pipeline = Pipeline([node("y", timeout=SECONDS)(lambda x: x)])
    for _ in range(50):
        pipeline.run({"x": 1}, config=config)
    pipeline.map({"x": range(50)}, map_over="x", config=config)
    assert threading.active_count() <= before + 10


def test_context_is_visible_inside_timed_calls_and_retries(config):
    seen = []

    def function(x):
        seen.append(variable.get())
        if len(seen) < 3:
            raise ValueError("again")
        return variable.get()

    token = variable.set("set")
    try:
        assert run(function, config, timeout=SECONDS, retries=3) == {"y": "set"}
        pipeline = Pipeline([node("y", timeout=SECONDS)(lambda x: variable.get())])
        found = pipeline.map({"x": range(6)}, map_over="x", config=config)
    finally:
        variable.reset(token)
    assert seen == ["set"] * 3
    assert found == [{"y": "set"}] * 6


def test_wrapper_of_a_coroutine_function_that_is_plain_is_timed(gate, config):
    async def coroutine(x):
        return x

    def wrapper(x):
        gate.wait(1)
        return x

    wrapper.__wrapped__ = coroutine
    with pytest.raises(NodeTimeoutError):
        run(wrapper, config, timeout=0.05)


# ---------------------------------------------------------------- timeouts of async nodes


def test_async_node_is_cancelled_at_its_timeout(config):
    cancelled = threading.Event()

    async def function(x):
        try:
            await asyncio.sleep(SECONDS)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    with pytest.raises(NodeTimeoutError) as caught:
        run(function, config, timeout=0.05)
    assert (caught.value.node, caught.value.timeout) == ("function", 0.05)
    assert cancelled.wait(SECONDS)


def test_async_node_is_retried_after_its_timeout(config):
    calls = []

    async def function(x):
        calls.append(x)
        if len(calls) < 3:
            await asyncio.sleep(SECONDS)
        return len(calls)

    assert run(function, config, timeout=SHORT, retries=2) == {"y": 3}


def test_timeout_error_of_an_async_node_itself_is_no_node_timeout(config):
    async def function(x):
        async with asyncio.timeout(0.01):
            await asyncio.sleep(SECONDS)

    with pytest.raises(TimeoutError) as caught:
        run(function, config, timeout=SECONDS)
    assert type(caught.value) is TimeoutError


def test_async_neighbours_of_a_timeout_are_unharmed(config):
    async def function(x):
        await asyncio.sleep(SECONDS if x == 2 else 0)
        return x

    pipeline = Pipeline([node("y", timeout=SHORT)(function)])
    found = pipeline.map({"x": range(6)}, map_over="x", config=config, on_error="return")
    assert isinstance(found[2].error, NodeTimeoutError)
    assert [outcome["y"] for outcome in found[:2] + found[3:]] == [0, 1, 3, 4, 5]


BLOCKS_THE_LOOP = """
import threading, time
from hypernodes import NodeTimeoutError, Pipeline, RuntimeConfig, node

gate = threading.Event()

async def blocks(x):
    gate.wait(60)

async def quick(x):
    return x

config = RuntimeConfig(executor="sequential")
try:
    Pipeline([node(timeout=0.1)(blocks)]).run({"x": 1}, config=config)
except NodeTimeoutError:
    print("timed out")
found = []
other = threading.Thread(
    target=lambda: found.append(Pipeline([node(quick)]).run({"x": 1}, config=config)), daemon=True
)
other.start()
other.join(20)
print(found)
gate.set()
"""


def test_abandoned_async_node_that_blocks_does_not_hold_up_others(run_script):
    assert run_script(BLOCKS_THE_LOOP).stdout.splitlines() == ["timed out", "[{'quick': 1}]"]


def test_async_node_is_retried_like_any_other(config):
    calls = []

    async def function(x):
        calls.append(x)
        await asyncio.sleep(0)
        if len(calls) < 3:
            raise ValueError("again")
        return x

    assert run(function, config, retries=2) == {"y": 1}
    assert len(calls) == 3


def test_timeout_frees_the_slot_of_the_only_worker_for_other_nodes(gate):
    config = RuntimeConfig(executor=ThreadPoolExecutor(max_workers=1))
    started = threading.Event()
    stuck = node("stuck", timeout=0.05)(lambda x: gate.wait(SECONDS))
    fine = node("fine")(lambda x: started.set())
    with pytest.raises(NodeTimeoutError):
        Pipeline([stuck, fine]).run({"x": 1}, config=config)
    assert Pipeline([fine]).run({"x": 1}, config=config) == {"fine": None}


def test_pause_may_not_be_a_number_that_is_none():
    for wrong in (math.inf, math.nan):
        with pytest.raises(ValueError, match="initial_delay"):
            RetryPolicy(initial_delay=wrong)


def test_a_generator_with_several_outputs_is_retried_where_it_raises(config):
    calls = []

    def pair(x):
        calls.append(x)
        yield x
        if len(calls) < 3:
            raise ValueError("again")
        yield -x

    pipeline = Pipeline([node(output_name=("a", "b"), retries=3)(pair)])
    assert pipeline.run({"x": 1}, config=config) == {"a": 1, "b": -1}
    assert len(calls) == 3


def test_a_generator_with_several_outputs_is_timed_while_it_goes(gate, config):
    def pair(x):
        yield x
        gate.wait(30)
        yield x

    with pytest.raises(NodeTimeoutError):
        Pipeline([node(output_name=("a", "b"), timeout=0.1)(pair)]).run({"x": 1}, config=config)


def endless():
    return itertools.count()


def test_an_endless_iterator_is_not_gone_through_for_ever(config):
    pipeline = Pipeline([node(output_name=("a", "b"))(endless)])
    with pytest.raises(NodeOutputError, match="returned 3 values"):
        pipeline.run(config=config)


def test_a_wrong_number_of_values_is_not_retried_and_attempts_are_right(config):
    calls = []

    def pair(x):
        calls.append(x)
        if len(calls) < 3:
            raise ValueError("again")
        return 1, 2, 3

    pipeline = Pipeline([node(output_name=("a", "b"), retries=5)(pair)])
    (failure,) = pipeline.map({"x": [1]}, map_over="x", config=config, on_error="return")
    assert isinstance(failure.error, NodeOutputError)
    assert failure.attempts == len(calls) == 3


def test_a_wrapper_and_its_coroutine_share_one_timeout(sequential):
    async def coroutine(x):
        await asyncio.sleep(0.4)
        return x

    def wrapper(x):
        time.sleep(0.4)
        return coroutine(x)

    wrapper.__wrapped__ = coroutine
    with pytest.raises(NodeTimeoutError):
        run(wrapper, sequential, timeout=0.6)


def test_thousands_of_retries_at_once_make_no_pause(pauses, sequential):
    calls = []

    def function(x):
        calls.append(x)
        raise ValueError("always")

    with pytest.raises(ValueError, match="always"):
        run(function, sequential, retries=1500)
    assert len(calls) == 1501
    assert set(pauses) <= {0}
