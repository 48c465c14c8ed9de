"""Pipelines inside pipelines: as nodes, mapped, called by nodes, under configs of their own."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from hypernodes._node import node
from hypernodes.config import RuntimeConfig
from hypernodes.pipeline import Pipeline
from hypernodes.testing import _work
from hypernodes.testing._suite.base import SEQUENTIAL, Conformance, mapped, single, started
from hypernodes.testing._suite.graphs import random_pipeline
from hypernodes.testing._suite.runs import STATISTICS

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypernodes.abc import Executor
    from hypernodes.testing._work import Marks


class Nesting(Conformance):
    """What pipelines inside pipelines give, and that none of them waits for ever."""

    # --- As nodes

    def test_a_nested_pipeline_with_other_names(self, config: RuntimeConfig) -> None:
        inner = STATISTICS.as_node(
            input_mapping={"numbers": "values"}, output_mapping={"total": "both", "high": "top"}
        )
        pipeline = Pipeline([inner, node("last")(lambda both, top: (both, top))])
        assert pipeline.run({"numbers": [1, 5]}, config=config) == {
            "both": 6,
            "top": 5,
            "last": (6, 5),
        }

    def test_of_a_nested_pipeline_only_what_is_needed_is_computed(
        self, config: RuntimeConfig, marks: Marks
    ) -> None:
        nodes = [node("a")(_work.marking(marks, "a")), node("b")(_work.marking(marks, "b"))]
        pipeline = Pipeline([Pipeline(nodes, name="inner"), node("c")(lambda a: -a)])
        assert pipeline.run({"x": 1}, output_name="c", config=config) == {"c": -1}
        assert marks.counts() == {"a": 1}

    @pytest.mark.parametrize("mode", ["zip", "product"])
    def test_a_nested_map_makes_lists(self, config: RuntimeConfig, mode: str) -> None:
        inner = Pipeline([node("s")(lambda a, b, c: a + b + c), node("n")(lambda s: -s)])
        each = inner.as_node(map_over=["a", "b"], map_mode=mode)
        inputs = {"a": [1, 2, 3], "b": [10, 20, 30], "c": 100}
        found = Pipeline([each]).run(inputs, config=config)
        assert found == Pipeline([each]).run(inputs, config=SEQUENTIAL)
        assert len(found["s"]) == (3 if mode == "zip" else 9)

    # --- Maps of maps

    @pytest.mark.parametrize("depth", [1, 2, 3, 4])
    def test_nested_maps_of_any_depth_end(self, config: RuntimeConfig, depth: int) -> None:
        pipeline, name = tower(depth), f"y{depth}"
        run = self.in_time(lambda: pipeline.run({"x": 5}, output_name=name, config=config))
        items = self.in_time(
            lambda: pipeline.map({"x": range(6)}, map_over="x", output_name=name, config=config)
        )
        assert run == {name: top(5, depth)}
        assert items == [{name: top(x, depth)} for x in range(6)]

    def test_lists_of_lists_of_lists(self, config: RuntimeConfig) -> None:
        pipeline = single(lambda x: -x)
        for _ in range(3):
            pipeline = Pipeline([pipeline.as_node(map_over="x")])
        inputs = {"x": [[[1, 2], []], [], [[3]], [[4], [5, 6], [7]]]}
        found = self.in_time(lambda: pipeline.run(inputs, config=config))
        assert found == {"y": [[[-1, -2], []], [], [[-3]], [[-4], [-5, -6], [-7]]]}

    def test_many_levels(self, config: RuntimeConfig) -> None:
        pipeline = single(lambda x: x + 1)
        for level in range(60):
            pipeline = Pipeline([pipeline], name=f"level{level}")
        assert pipeline.run({"x": 1}, config=config) == {"y": 2}

    # --- Called by nodes

    @pytest.mark.parametrize("who", ["the same", "an equal one", "sequential"])
    def test_a_node_may_run_and_map_pipelines(
        self, executor: Executor, config: RuntimeConfig, who: str
    ) -> None:
        inside = {
            "the same": RuntimeConfig(executor=executor),
            "an equal one": RuntimeConfig(executor=executor.model_copy()),
            "sequential": SEQUENTIAL,
        }[who]
        work = calling(inside)
        pipeline = Pipeline([node(f"n{number}")(work) for number in range(3)])
        run = self.in_time(lambda: pipeline.run({"x": 2}, config=config))
        items = self.in_time(lambda: pipeline.map({"x": range(12)}, map_over="x", config=config))
        assert run == {f"n{number}": called(2) for number in range(3)}
        assert items == [{f"n{number}": called(x) for number in range(3)} for x in range(12)]

    @pytest.mark.parametrize("depth", [1, 2, 3])
    def test_calls_inside_calls_end(
        self, executor: Executor, config: RuntimeConfig, depth: int
    ) -> None:
        pipeline = single(descending(depth, RuntimeConfig(executor=executor)))
        found = self.in_time(lambda: pipeline.map({"x": range(4)}, map_over="x", config=config))
        assert found == [{"y": x * 2**depth} for x in range(4)]

    def test_a_coroutine_function_may_await_pipelines(
        self, executor: Executor, config: RuntimeConfig
    ) -> None:
        inner, inside = single(_work.same_later), RuntimeConfig(executor=executor)

        async def work(x: int) -> Any:
            one = await inner.arun({"x": x}, config=inside)
            return one, await inner.amap({"x": [x, x]}, map_over="x", config=inside)

        pipeline = single(work)
        found = self.in_time(lambda: pipeline.map({"x": range(6)}, map_over="x", config=config))
        assert [item["y"] for item in found] == [({"y": x}, [{"y": x}, {"y": x}]) for x in range(6)]

    # --- Configs

    def test_a_node_with_another_executor_runs_there_and_in_the_driver(
        self, config: RuntimeConfig
    ) -> None:
        nodes = [
            node("a")(_work.adding(1)),
            node("here", config=SEQUENTIAL)(lambda a: (a, os.getpid())),
            node("c")(lambda a, here: a + here[0]),
        ]
        pipeline = Pipeline(nodes, config=config)
        me = os.getpid()
        assert pipeline.run({"x": 1}) == {"a": 2, "here": (2, me), "c": 4}
        assert pipeline.map({"x": range(9)}, map_over="x", output_name="here") == [
            {"here": (x + 1, me)} for x in range(9)
        ]

    def test_a_node_of_a_sequential_pipeline_may_have_this_executor(
        self, config: RuntimeConfig
    ) -> None:
        nodes = [node("a")(_work.adding(1)), node("b", config=config)(lambda a: -a)]
        inner = Pipeline([*nodes, node("c")(lambda a, b: (a, b))], name="inner", config=SEQUENTIAL)
        outer = Pipeline([inner.as_node(map_over="x")], config=config)
        items = self.in_time(lambda: inner.map({"x": range(9)}, map_over="x", output_name="c"))
        lists = self.in_time(lambda: outer.run({"x": range(9)}, output_name="c"))
        assert items == [{"c": (x + 1, -x - 1)} for x in range(9)]
        assert lists == {"c": [(x + 1, -x - 1) for x in range(9)]}

    def test_the_config_of_the_call_rules_the_whole_run(
        self, config: RuntimeConfig, marks: Marks
    ) -> None:
        patient = config.replace(retries=5)
        failing = node("y", config=patient)(_work.flaky(marks, 9))
        pipeline = Pipeline([Pipeline([failing], name="inner", config=patient)])
        with pytest.raises(ValueError, match="attempt 2"):
            pipeline.run({"x": 1}, config=config.replace(retries=1))
        assert marks.counts() == {"1": 2}

    def test_workers_see_the_config_in_use(self, config: RuntimeConfig) -> None:
        probe = single(_work.same)
        look = Pipeline(
            [
                node("one")(lambda x: probe.effective_config.retries),
                node("two")(lambda x: probe.effective_config.retries),
                mapped(lambda x: probe.effective_config.retries),
            ]
        )
        with RuntimeConfig.use(config.replace(retries=3)):
            run = look.run({"x": 1, "xs": range(8)})
            items = look.map({"x": range(8), "xs": [1]}, map_over="x")
        assert run == {"one": 3, "two": 3, "ys": [3] * 8}
        assert items == [{"one": 3, "two": 3, "ys": [3]}] * 8

    def test_a_config_in_use_inside_a_node_stays_there(self, config: RuntimeConfig) -> None:
        probe, other = single(_work.same), SEQUENTIAL.replace(retries=7)

        def look(x: int) -> tuple[Any, Any]:
            with RuntimeConfig.use(other):
                inside = probe.effective_config.retries
            return inside, probe.effective_config.retries

        with RuntimeConfig.use(config.replace(retries=2)):
            run = Pipeline([node("a")(look), node("b")(look)]).run({"x": 1})
        assert run == {"a": (7, 2), "b": (7, 2)}

    # --- At once

    def test_one_pipeline_runs_from_several_threads_at_once(self, config: RuntimeConfig) -> None:
        pipeline = random_pipeline(9, 60)

        def use(number: int) -> Any:
            return [
                pipeline.run({"x": number, "xs": [number, turn]}, config=config)
                for turn in range(4)
            ]

        futures = [started(lambda number=number: use(number)) for number in range(5)]  # type: ignore[misc]
        for number, future in enumerate(futures):
            assert future.result(self.limit) == [
                pipeline.run({"x": number, "xs": [number, turn]}, config=SEQUENTIAL)
                for turn in range(4)
            ]


def tower(depth: int) -> Pipeline:
    """Return a pipeline whose every level maps the one below it over three numbers."""
    pipeline = Pipeline([node("y0")(_work.adding(1))], name="level0")
    for level in range(1, depth + 1):
        below = pipeline.as_node(
            input_mapping={"xs": "x"}, output_mapping={f"y{level - 1}": "ys"}, map_over="xs"
        )
        three = node("xs")(lambda x: [x, x + 1, x + 2])
        together = node(f"y{level}")(sum).rename(inputs={"iterable": "ys"})
        pipeline = Pipeline([three, below, together], name=f"level{level}")
    return pipeline


def top(x: int, depth: int) -> int:
    """Return what `tower` makes of `x`."""
    return x + 1 if depth == 0 else sum(top(x + number, depth - 1) for number in range(3))


def calling(config: RuntimeConfig) -> Callable[[int], Any]:
    """Return a function that runs and maps a pipeline, in every way."""
    pipeline = Pipeline([node("square")(lambda x: x * x), node("cube")(lambda x: x**3)])

    def work(x: int) -> Any:
        run = pipeline.run({"x": x}, config=config)
        both = pipeline.map({"x": [x, x + 1]}, map_over="x", config=config)
        lazy = pipeline.map_iter({"x": iter([x, x + 2])}, map_over="x", config=config)
        return run["cube"], [item["square"] for item in both], [item["cube"] for item in lazy]

    return work


def called(x: int) -> Any:
    """Return what `calling` makes of `x`."""
    return x**3, [x**2, (x + 1) ** 2], [x**3, (x + 2) ** 3]


def descending(depth: int, config: RuntimeConfig) -> Callable[[int], int]:
    """Return a function that maps a function that maps a function, and so on."""
    if depth == 0:
        return _work.same
    below = single(descending(depth - 1, config))

    def work(x: int) -> int:
        items = below.map({"x": [x, x]}, map_over="x", config=config)
        return sum(item["y"] for item in items)

    return work
