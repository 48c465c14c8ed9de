"""Retries and timeouts: how often, after what, in time, and what becomes of the rest."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest

from hypernodes._engine.failure import Failure
from hypernodes._node import node
from hypernodes.config import RetryPolicy
from hypernodes.exceptions import NodeTimeoutError
from hypernodes.pipeline import Pipeline
from hypernodes.testing import _work
from hypernodes.testing._suite.base import Conformance, mapped, single

if TYPE_CHECKING:
    from hypernodes.config import RuntimeConfig
    from hypernodes.testing._work import Gate, Marks

SHORT = 0.3
"""Seconds that only a stuck call takes."""


class Attempts(Conformance):
    """What retries and timeouts do."""

    # --- How often

    @pytest.mark.parametrize("retries", [0, 1, 3])
    @pytest.mark.parametrize("level", ["node", "config", "policy"])
    def test_a_node_is_tried_once_and_then_as_often_as_said(
        self, config: RuntimeConfig, marks: Marks, retries: int, level: str
    ) -> None:
        said: Any = retries
        if level == "policy":
            said = RetryPolicy(max_retries=retries, initial_delay=0)
        pipeline = single(_work.flaky(marks, 99), retries=None if level == "config" else said)
        config = config.replace(retries=retries if level == "config" else 7)
        with pytest.raises(ValueError, match=f"attempt {retries + 1}"):
            pipeline.run({"x": 1}, config=config)
        assert marks.counts() == {"1": retries + 1}

    @pytest.mark.parametrize("times", [0, 1, 3])
    def test_a_node_is_tried_until_it_succeeds(
        self, config: RuntimeConfig, marks: Marks, times: int
    ) -> None:
        pipeline = single(_work.flaky(marks, times), retries=3)
        assert pipeline.run({"x": 1}, config=config) == {"y": 1}
        assert marks.counts() == {"1": times + 1}

    def test_each_item_has_its_own_attempts(self, config: RuntimeConfig, marks: Marks) -> None:
        pipeline = single(_work.flaky(marks, 2), retries=2)
        found = pipeline.map({"x": range(12)}, map_over="x", config=config)
        assert found == [{"y": x} for x in range(12)]
        assert marks.counts() == {str(x): 3 for x in range(12)}

    def test_only_the_node_that_failed_is_tried_again(
        self, config: RuntimeConfig, marks: Marks
    ) -> None:
        nodes = [
            node("a")(_work.marking(marks, "a")),
            node("b", retries=2)(_work.flaky(marks, 2)).rename(inputs={"x": "a"}),
            node("c")(_work.marking(marks, "c")).rename(inputs={"x": "b"}),
        ]
        assert Pipeline(nodes).run({"x": 1}, output_name="c", config=config) == {"c": 1}
        assert marks.counts() == {"a": 1, "1": 3, "c": 1}

    def test_a_node_inside_a_nested_map_is_tried_again_by_itself(
        self, config: RuntimeConfig, marks: Marks
    ) -> None:
        pipeline = Pipeline([mapped(_work.flaky(marks, 1), retries=1)])
        assert pipeline.run({"xs": range(9)}, config=config) == {"ys": list(range(9))}
        assert marks.counts() == {str(x): 2 for x in range(9)}

    def test_a_failure_tells_the_number_of_attempts(
        self, config: RuntimeConfig, marks: Marks
    ) -> None:
        (failure,) = single(_work.flaky(marks, 99), retries=2).map(
            {"x": [5]}, map_over="x", on_error="return", config=config
        )
        assert isinstance(failure, Failure)
        assert failure.attempts == 3
        assert str(failure.error) == "attempt 3"
        assert marks.counts() == {"5": 3}

    def test_a_coroutine_function_is_tried_again(self, config: RuntimeConfig, marks: Marks) -> None:
        fail = _work.flaky(marks, 2)

        async def later(x: int) -> Any:
            await asyncio.sleep(0)
            return fail(x)

        assert single(later, retries=2).run({"x": 1}, config=config) == {"y": 1}
        assert marks.counts() == {"1": 3}

    # --- After what

    @pytest.mark.parametrize(
        ("retry_on", "attempts"),
        [((KeyError,), 3), ((LookupError,), 3), ((ValueError,), 1), ((), 1)],
    )
    def test_only_what_retry_on_admits_is_tried_again(
        self, config: RuntimeConfig, marks: Marks, retry_on: Any, attempts: int
    ) -> None:
        policy = RetryPolicy(max_retries=2, initial_delay=0, retry_on=retry_on)
        pipeline = single(_work.flaky(marks, 99, KeyError), retries=policy)
        with pytest.raises(KeyError):
            pipeline.run({"x": 1}, config=config)
        assert marks.counts() == {"1": attempts}

    # --- In time

    @pytest.mark.parametrize("level", ["node", "config"])
    def test_a_timeout_is_raised_on_time(
        self, config: RuntimeConfig, marks: Marks, gate: Gate, level: str
    ) -> None:
        own = {"timeout": SHORT} if level == "node" else {}
        pipeline = single(_work.stuck(gate, marks, times=9, among=(1,)), **own)
        config = config.replace(timeout=SHORT if level == "config" else self.limit)
        pipeline.run({"x": 0}, config=config.replace(timeout=None))  # opens what has to be open
        start = time.monotonic()
        with pytest.raises(NodeTimeoutError) as caught:
            pipeline.run({"x": 1}, config=config)
        assert time.monotonic() - start < self.limit / 2
        assert (caught.value.node, caught.value.timeout) == ("work", SHORT)
        assert caught.value.path == ("single", "work")
        assert isinstance(caught.value, TimeoutError)
        assert marks.count(1) == 1

    def test_calls_in_time_are_as_without_a_timeout(self, config: RuntimeConfig) -> None:
        pipeline = single(_work.negative_fails, timeout=self.limit)
        assert pipeline.run({"x": 1}, config=config) == {"y": 1}
        found = pipeline.map({"x": range(20)}, map_over="x", config=config)
        assert found == [{"y": x} for x in range(20)]
        with pytest.raises(ValueError, match="no -1"):
            pipeline.run({"x": -1}, config=config)

    @pytest.mark.parametrize("retries", [1, 2])
    def test_a_timeout_is_a_failed_attempt(
        self, config: RuntimeConfig, marks: Marks, gate: Gate, retries: int
    ) -> None:
        work = _work.stuck(gate, marks, times=2, among=(1,))
        pipeline = single(work, timeout=SHORT, retries=retries)
        found = pipeline.map({"x": [1]}, map_over="x", on_error="return", config=config)
        assert marks.counts() == {"1": retries + 1}
        if retries == 2:
            assert found == [{"y": 1}]
            return
        assert isinstance(found[0].error, NodeTimeoutError)
        assert found[0].attempts == 2

    @pytest.mark.parametrize(
        ("retry_on", "attempts"), [((NodeTimeoutError,), 2), ((TimeoutError,), 2), ((KeyError,), 1)]
    )
    def test_a_timeout_is_retried_where_retry_on_admits_it(
        self, config: RuntimeConfig, marks: Marks, gate: Gate, retry_on: Any, attempts: int
    ) -> None:
        policy = RetryPolicy(max_retries=1, initial_delay=0, retry_on=retry_on)
        work = _work.stuck(gate, marks, times=9, among=(1,))
        with pytest.raises(NodeTimeoutError):
            single(work, timeout=SHORT, retries=policy).run({"x": 1}, config=config)
        assert marks.counts() == {"1": attempts}

    def test_the_neighbours_of_a_stuck_item_are_unharmed(
        self, config: RuntimeConfig, marks: Marks, gate: Gate
    ) -> None:
        work = _work.stuck(gate, marks, times=9, among=(4,))
        nodes = [node("y", timeout=2 * SHORT)(work), node("z")(lambda y: -y)]
        found = Pipeline(nodes).map(
            {"x": range(10)}, map_over="x", on_error="return", config=config
        )
        assert [index for index, outcome in enumerate(found) if isinstance(outcome, Failure)] == [4]
        assert isinstance(found[4].error, NodeTimeoutError)
        assert all(found[x] == {"y": x, "z": -x} for x in range(10) if x != 4)

    def test_abandoned_calls_free_their_slots(
        self, config: RuntimeConfig, marks: Marks, gate: Gate
    ) -> None:
        work = _work.stuck(gate, marks, times=9, among=tuple(range(6)))
        pipeline = single(work, timeout=SHORT)
        found = self.in_time(
            lambda: pipeline.map({"x": range(6)}, map_over="x", on_error="return", config=config)
        )
        assert [type(failure.error) for failure in found] == [NodeTimeoutError] * 6
        after = self.in_time(
            lambda: single(_work.same).map({"x": range(9)}, map_over="x", config=config)
        )
        assert after == [{"y": x} for x in range(9)]

    def test_a_coroutine_function_is_timed(self, config: RuntimeConfig) -> None:
        seconds = 4 * self.limit

        async def work(x: int) -> int:
            await asyncio.sleep(seconds if x else 0)
            return x

        found = self.in_time(
            lambda: single(work, timeout=SHORT).map(
                {"x": [0, 1, 0]}, map_over="x", on_error="return", config=config
            )
        )
        assert found[0] == found[2] == {"y": 0}
        assert isinstance(found[1].error, NodeTimeoutError)

    def test_a_node_inside_a_nested_map_is_timed(
        self, config: RuntimeConfig, marks: Marks, gate: Gate
    ) -> None:
        work = _work.stuck(gate, marks, times=9, among=(2,))
        inner = Pipeline([node("y", timeout=2 * SHORT)(work)], name="inner")
        outer = Pipeline([inner.as_node(map_over="x")], name="outer")
        found = outer.map({"x": [[1], [1, 2], [3]]}, map_over="x", on_error="return", config=config)
        assert (found[0], found[2]) == ({"y": [1]}, {"y": [3]})
        assert isinstance(found[1].error, NodeTimeoutError)
        assert found[1].path == ("outer", "inner", "work")
