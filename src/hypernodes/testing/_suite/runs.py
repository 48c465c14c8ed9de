"""One run: results and their order, what is computed, what becomes of values."""

from __future__ import annotations

import operator
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import pytest

from hypernodes._node import node
from hypernodes.exceptions import (
    InputError,
    MissingInputError,
    NodeOutputError,
    UnknownInputError,
)
from hypernodes.pipeline import Pipeline
from hypernodes.testing import _work
from hypernodes.testing._suite.base import SEQUENTIAL, Conformance, chain, mapped, single
from hypernodes.testing._suite.graphs import random_pipeline
from hypernodes.testing._work import adding

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypernodes.config import RuntimeConfig
    from hypernodes.testing._work import Marks

STATISTICS: Final = Pipeline(
    [
        node("summary")(_work.summary),
        node("spread")(_work.spread),
        node("total")(_work.total),
        node(output_name=("low", "high"))(_work.bounds),
    ],
    name="statistics",
)
CALLABLES: Final[dict[str, Callable[..., Any]]] = {
    "lambda": lambda x: 3 * x,
    "object": _work.Scale(3),
    "method": _work.Scale(3).shifted,
    "partial": partial(operator.mul, 3),
    "class": _work.Scale,
    "builtin": abs,
    "coroutine function": _work.same_later,
}


class Runs(Conformance):
    """What `run` gives."""

    # --- Results and their order

    def test_a_run_gives_what_the_sequential_executor_gives_in_the_same_order(
        self, config: RuntimeConfig
    ) -> None:
        inputs = {"values": [3, 1, 8], "unit": 2}
        found = STATISTICS.run(inputs, config=config)
        assert list(found.items()) == list(STATISTICS.run(inputs, config=SEQUENTIAL).items())

    @pytest.mark.parametrize("names", ["spread", ["high", "total"], ("summary", "low")])
    def test_outputs_that_are_asked_for_come_in_that_order(
        self, config: RuntimeConfig, names: Any
    ) -> None:
        inputs = {"values": [3, 1, 8]}
        found = STATISTICS.run(inputs, output_name=names, config=config)
        expected = STATISTICS.run(inputs, output_name=names, config=SEQUENTIAL)
        assert list(found.items()) == list(expected.items())

    def test_a_long_chain(self, config: RuntimeConfig) -> None:
        pipeline = chain([operator.neg, abs, adding(1)] * 70)
        assert pipeline.run({"x": 1}, output_name="y209", config=config) == {"y209": 71}

    def test_a_fan_out_and_in(self, config: RuntimeConfig) -> None:
        branches = [node(f"b{number}")(adding(number)) for number in range(100)]
        pairs = [
            node(f"p{number}")(lambda left, right: right - left).rename(
                inputs={"left": f"b{number}", "right": f"b{number + 1}"}
            )
            for number in range(99)
        ]
        found = Pipeline([*pairs, *branches]).run({"x": 5}, config=config)
        assert [found[f"b{number}"] for number in range(100)] == list(range(5, 105))
        assert [found[f"p{number}"] for number in range(99)] == [1] * 99

    def test_a_diamond(self, config: RuntimeConfig) -> None:
        nodes = [
            node("top")(adding(1)),
            node("left")(lambda top: top * 2),
            node("right")(lambda top: top * 3),
            node("bottom")(lambda left, right: (left, right)),
        ]
        found = Pipeline(nodes).run({"x": 1}, output_name="bottom", config=config)
        assert found == {"bottom": (4, 6)}

    @pytest.mark.parametrize("seed", [1, 2, 3])
    def test_a_random_graph_of_some_hundred_nodes(self, config: RuntimeConfig, seed: int) -> None:
        pipeline = random_pipeline(seed, 300)
        inputs = {"x": seed, "xs": range(5)}
        found = pipeline.run(inputs, config=config)
        assert list(found.items()) == list(pipeline.run(inputs, config=SEQUENTIAL).items())

    @pytest.mark.parametrize("seed", [4, 5])
    def test_a_random_graph_mapped_over_items(self, config: RuntimeConfig, seed: int) -> None:
        pipeline = random_pipeline(seed, 100)
        inputs = {"x": range(7), "xs": range(3)}
        found = pipeline.map(inputs, map_over="x", config=config)
        assert found == pipeline.map(inputs, map_over="x", config=SEQUENTIAL)

    # --- Functions

    @pytest.mark.parametrize("kind", CALLABLES)
    def test_every_kind_of_callable_can_be_a_node(self, config: RuntimeConfig, kind: str) -> None:
        pipeline = single(CALLABLES[kind])
        (name, *_) = pipeline.required_args
        found = pipeline.run({name: -7}, config=config)
        assert found == pipeline.run({name: -7}, config=SEQUENTIAL)

    def test_closures_keep_what_they_hold(self, config: RuntimeConfig) -> None:
        nodes = [node(f"n{number}")(adding([number])) for number in range(5)]
        found = Pipeline(nodes).run({"x": ["x"]}, config=config)
        assert found == {f"n{number}": ["x", number] for number in range(5)}

    def test_several_outputs_are_unpacked_in_order(self, config: RuntimeConfig) -> None:
        nodes = [
            node(("before", "after"))(_work.neighbours),  # a generator
            node(("only",))(lambda after: [after]),
            node("pair")(lambda before, only: (before, only)),
        ]
        found = Pipeline(nodes).run({"x": 5}, config=config)
        assert found == {"before": 4, "after": 6, "only": 6, "pair": (4, 6)}

    def test_a_wrong_number_of_values_is_an_error(self, config: RuntimeConfig) -> None:
        pipeline = Pipeline([node(("a", "b", "c"))(_work.neighbours)], name="short")
        with pytest.raises(NodeOutputError) as caught:
            pipeline.run({"x": 5}, config=config)
        error = caught.value
        assert (error.node, error.path) == ("neighbours", ("short", "neighbours"))
        assert (error.expected, error.received) == (3, 2)

    # --- What is given, and what is computed

    def test_defaults_bound_values_and_given_ones(self, config: RuntimeConfig) -> None:
        first = node("first")(lambda x, step=1: x + step)
        second = node("second")(lambda first, step=10: first + step)
        pipeline = Pipeline([first, second])
        bound = pipeline.bind(x=7)
        assert pipeline.run({"x": 0}, config=config) == {"first": 1, "second": 11}
        assert pipeline.run({"x": 0, "step": 5}, config=config) == {"first": 5, "second": 10}
        assert bound.run(config=config) == {"first": 8, "second": 18}
        assert bound.run({"x": 1}, config=config) == {"first": 2, "second": 12}

    def test_none_is_a_value(self, config: RuntimeConfig) -> None:
        pipeline = Pipeline([node("a")(lambda x: None), node("b")(lambda a, x=3: (a, x))])
        assert pipeline.run({"x": None}, config=config) == {"a": None, "b": (None, None)}

    def test_only_what_is_asked_for_is_computed(self, config: RuntimeConfig, marks: Marks) -> None:
        nodes = [
            node("a")(_work.marking(marks, "a")),
            node("b")(_work.marking(marks, "b")).rename(inputs={"x": "a"}),
            node("c")(_work.marking(marks, "c")).rename(inputs={"x": "needs more"}),
        ]
        assert Pipeline(nodes).run({"x": 1}, output_name="b", config=config) == {"b": 1}
        assert marks.counts() == {"a": 1, "b": 1}

    def test_a_given_intermediate_is_used_and_nothing_that_only_it_needs_runs(
        self, config: RuntimeConfig, marks: Marks
    ) -> None:
        nodes = [
            node("a")(_work.marking(marks, "a")),
            node("b")(_work.marking(marks, "b")).rename(inputs={"x": "a"}),
            node("c")(adding(1)).rename(inputs={"x": "b"}),
        ]
        assert Pipeline(nodes).run({"b": 5}, config=config) == {"b": 5, "c": 6}
        assert marks.counts() == {}

    def test_each_node_runs_once(self, config: RuntimeConfig, marks: Marks) -> None:
        nodes = [node("a")(_work.marking(marks, "a"))]
        nodes += [
            node(f"n{number}")(_work.marking(marks, f"n{number}")).rename(inputs={"x": "a"})
            for number in range(20)
        ]
        Pipeline(nodes).run({"x": 1}, config=config)
        assert marks.counts() == dict.fromkeys(["a", *(f"n{number}" for number in range(20))], 1)

    def test_wrong_requests_are_refused_as_by_the_sequential_executor(
        self, config: RuntimeConfig
    ) -> None:
        requests: list[tuple[dict[str, Any], Any, type[InputError]]] = [
            ({}, None, MissingInputError),
            ({"values": [1], "unti": 2}, None, UnknownInputError),
            ({"values": [1]}, "sumary", InputError),
        ]
        for inputs, names, kind in requests:
            with pytest.raises(kind) as expected:
                STATISTICS.run(inputs, output_name=names, config=SEQUENTIAL)
            with pytest.raises(kind) as found:
                STATISTICS.run(inputs, output_name=names, config=config)
            assert type(found.value) is type(expected.value)
            assert str(found.value) == str(expected.value)

    # --- Values

    def test_the_inputs_of_the_caller_are_not_changed(self, config: RuntimeConfig) -> None:
        values = [1, 2, 3]
        inputs = {"x": values, "xs": values, "y": 5}
        given = dict(inputs)
        nodes = [node("a")(lambda x, y=1: y), node("b")(lambda a, x: a), mapped(_work.same)]
        pipeline = Pipeline(nodes).bind(y=9)
        pipeline.run(inputs, output_name=["b", "ys"], config=config)
        pipeline.map(inputs, map_over="x", output_name=["b", "ys"], config=config)
        assert inputs == given
        assert values == [1, 2, 3]
        assert inputs["x"] is values

    def test_what_a_node_gets_from_another_it_may_change(self, config: RuntimeConfig) -> None:
        def grow(y: list[int]) -> list[int]:
            y.append(len(y))
            return y

        nodes = [node("y")(lambda x: [x]), node("z")(grow), mapped(lambda x: [x])]
        nodes += [node("zs")(lambda ys: [grow(y) for y in ys])]
        pipeline = Pipeline(nodes)
        found = pipeline.run({"x": 1, "xs": [1, 2]}, output_name=["z", "zs"], config=config)
        items = pipeline.map({"x": range(9)}, map_over="x", output_name="z", config=config)
        assert found == {"z": [1, 1], "zs": [[1, 1], [2, 1]]}
        assert items == [{"z": [x, 1]} for x in range(9)]

    def test_the_callers_own_results_may_be_changed(self, config: RuntimeConfig) -> None:
        pipeline = single(lambda x: [x])
        for outcome in pipeline.map({"x": range(3)}, map_over="x", config=config):
            outcome["y"].append("more")
        assert pipeline.run({"x": 1}, config=config) == {"y": [1]}

    @pytest.mark.parametrize("size", [3, 300_000])
    def test_arrays_travel_as_they_are(self, config: RuntimeConfig, size: int) -> None:
        numpy = pytest.importorskip("numpy")
        array = numpy.arange(size)
        nodes = [
            node("doubled")(lambda array: array * 2),
            node("last")(lambda doubled: doubled[-1]),
        ]
        found = Pipeline(nodes).run({"array": array}, config=config)
        assert found["doubled"].dtype == array.dtype
        assert found["doubled"].tolist() == [2 * number for number in range(size)]
        assert found["last"] == 2 * (size - 1)
        assert array[-1] == size - 1

    def test_a_small_array_from_another_node_may_be_changed(self, config: RuntimeConfig) -> None:
        numpy = pytest.importorskip("numpy")

        def overwrite(a: Any) -> Any:
            a[0] = 7
            return a

        pipeline = Pipeline([node("a")(lambda x: numpy.zeros(x + 1)), node("b")(overwrite)])
        assert pipeline.run({"x": 1}, config=config)["b"].tolist() == [7, 0]
