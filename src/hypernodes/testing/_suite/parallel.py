"""What overlaps, for executors that do at least two things at once."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from hypernodes._node import node
from hypernodes.config import RuntimeConfig
from hypernodes.executors import ThreadPoolExecutor
from hypernodes.pipeline import Pipeline
from hypernodes.testing import _work
from hypernodes.testing._suite.base import Conformance, mapped, single

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypernodes.testing._work import Gate, Marks


class Parallel(Conformance):
    """What does not wait for what."""

    # --- One run

    def test_independent_nodes_overlap(self, config: RuntimeConfig, marks: Marks) -> None:
        nodes = [node(name)(meeting(marks, "here", 2, self.limit)) for name in ("a", "b")]
        assert Pipeline(nodes).run({"x": 1}, config=config) == {"a": True, "b": True}

    def test_a_slow_node_delays_no_step_of_a_branch_beside_it(
        self, config: RuntimeConfig, gate: Gate
    ) -> None:
        def last(left: int, right: int) -> int:
            gate.open()
            return left + right

        nodes = [
            node("slow")(lambda x: gate.wait()),
            node("first")(_work.adding(1)),
            node("left")(lambda first: first + 1),
            node("right")(lambda first: first + 2),
            node("last")(last),
        ]
        found = Pipeline(nodes).run({"x": 1}, config=config)
        assert (found["slow"], found["last"]) == (True, 7)

    def test_a_slow_node_delays_no_step_of_a_chain_beside_it(
        self, config: RuntimeConfig, gate: Gate
    ) -> None:
        nodes = [
            node("slow")(lambda x: gate.wait()),
            node("first")(_work.adding(1)),
            node("second")(lambda first: gate.open()),
        ]
        assert Pipeline(nodes).run({"x": 1}, config=config)["slow"] is True

    def test_what_needs_one_output_of_a_nested_pipeline_waits_for_no_other(
        self, config: RuntimeConfig, gate: Gate
    ) -> None:
        nodes = [node("slow")(lambda x: gate.wait()), node("fast")(_work.same)]
        after = node("after")(lambda fast: gate.open())
        pipeline = Pipeline([Pipeline(nodes, name="inner"), after])
        assert pipeline.run({"x": 1}, config=config)["slow"] is True

    def test_a_node_of_a_nested_pipeline_starts_when_its_own_inputs_are_there(
        self, config: RuntimeConfig, gate: Gate
    ) -> None:
        nodes = [node("early")(lambda x: gate.open()), node("late")(lambda slow: slow)]
        slow = node("slow")(lambda x: gate.wait())
        pipeline = Pipeline([slow, Pipeline(nodes, name="inner")])
        assert pipeline.run({"x": 1}, config=config)["late"] is True

    def test_a_slow_nested_map_delays_no_step_beside_it(
        self, config: RuntimeConfig, gate: Gate
    ) -> None:
        nodes = [
            mapped(lambda x: gate.wait()),
            node("first")(_work.adding(1)),
            node("second")(lambda first: gate.open()),
        ]
        found = Pipeline(nodes).run({"x": 1, "xs": [1]}, config=config)
        assert found["ys"] == [True]

    def test_the_first_failure_of_a_run_does_not_wait_for_the_others(
        self, config: RuntimeConfig, gate: Gate
    ) -> None:
        def fail(x: int) -> None:
            raise ZeroDivisionError

        nodes = [node("slow")(lambda x: gate.wait()), node("bad")(fail)]
        start = time.monotonic()
        with pytest.raises(ZeroDivisionError):
            Pipeline(nodes).run({"x": 1}, config=config)
        assert time.monotonic() - start < self.limit / 2

    # --- One map

    @pytest.mark.parametrize("way", ["map", "nested map", "map_iter"])
    def test_items_overlap(self, config: RuntimeConfig, marks: Marks, way: str) -> None:
        meet = meeting(marks, "here", 2, self.limit)
        if way == "map":
            found = single(meet).map({"x": [1, 2]}, map_over="x", config=config)
        elif way == "map_iter":
            found = list(single(meet).map_iter({"x": [1, 2]}, map_over="x", config=config))
        else:
            lists = Pipeline([mapped(meet)]).run({"xs": [1, 2]}, config=config)["ys"]
            found = [{"y": entry} for entry in lists]
        assert found == [{"y": True}, {"y": True}]

    def test_inner_maps_use_the_workers_that_an_outer_map_leaves_over(
        self, config: RuntimeConfig, marks: Marks
    ) -> None:
        meet = meeting(marks, "here", 2, self.limit)
        (found,) = Pipeline([mapped(meet)]).map({"xs": [[1, 2]]}, map_over="xs", config=config)
        assert found == {"ys": [True, True]}

    @pytest.mark.parametrize(("count", "slow"), [(3, 0), (300, 0), (300, 150)])
    def test_one_slow_item_delays_no_other(
        self, config: RuntimeConfig, gate: Gate, count: int, slow: int
    ) -> None:
        results = single(lambda x: gate.wait() if x == slow else x).map_iter(
            {"x": range(count)}, map_over="x", ordered=False, config=config
        )
        others = [next(results)[0] for _ in range(count - 1)]
        assert slow not in others
        gate.open()
        assert next(results) == (slow, {"y": True})
        assert sorted([*others, slow]) == list(range(count))

    @pytest.mark.parametrize(("count", "slow"), [(3, 0), (200, 100)])
    def test_one_slow_item_of_a_nested_map_delays_no_other(
        self, config: RuntimeConfig, marks: Marks, count: int, slow: int
    ) -> None:
        meet = meeting(marks, "done", count, self.limit)
        leave = _work.marking(marks, "done")
        pipeline = Pipeline([mapped(lambda x: meet(x) if x == slow else leave(x))])
        found = pipeline.run({"xs": range(count)}, config=config)["ys"]
        assert found == [True if x == slow else x for x in range(count)]

    def test_unordered_results_come_as_they_finish(self, config: RuntimeConfig, gate: Gate) -> None:
        results = single(lambda x: x or gate.wait()).map_iter(
            {"x": [0, 1, 2]}, map_over="x", ordered=False, config=config
        )
        assert sorted([next(results), next(results)]) == [(1, {"y": 1}), (2, {"y": 2})]
        gate.open()
        assert next(results) == (0, {"y": True})

    def test_results_keep_the_order_of_the_items_though_the_last_finish_first(
        self, config: RuntimeConfig, gate: Gate
    ) -> None:
        def work(x: int) -> int:
            if x == 3:
                gate.open()
            return x if x or gate.wait() else -1

        found = single(work).map({"x": range(4)}, map_over="x", config=config)
        assert found == [{"y": x} for x in range(4)]

    # --- Several executors

    def test_a_slow_node_with_a_config_of_its_own_delays_no_step_beside_it(
        self, config: RuntimeConfig, gate: Gate
    ) -> None:
        threads = RuntimeConfig(executor=ThreadPoolExecutor(max_workers=2))
        nodes = [
            node("slow", config=threads)(lambda x: gate.wait()),
            node("first")(_work.adding(1)),
            node("second")(lambda first: gate.open()),
        ]
        assert Pipeline(nodes, config=config).run({"x": 1})["slow"] is True


def meeting(marks: Marks, name: str, count: int, seconds: float) -> Callable[[object], bool]:
    """Return a function that leaves a mark and waits until there are `count` of them."""

    def meet(x: object) -> bool:
        marks.leave(name)
        end = time.monotonic() + seconds
        while marks.count(name) < count and time.monotonic() < end:
            time.sleep(_work.PAUSE)
        return marks.count(name) >= count

    return meet
