"""One map: an outcome for each item, in their order, on whatever is mapped over."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import pytest

from hypernodes._node import node
from hypernodes.exceptions import InputError, MissingInputError, UnknownInputError
from hypernodes.pipeline import Pipeline
from hypernodes.testing import _work
from hypernodes.testing._suite.base import SEQUENTIAL, Conformance, mapped, single
from hypernodes.testing._suite.runs import STATISTICS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from hypernodes.config import RuntimeConfig
    from hypernodes.testing._work import Marks

ITERABLES: Final[dict[str, Callable[[list[int]], Any]]] = {
    "list": list,
    "tuple": tuple,
    "range": lambda values: range(len(values)),
    "generator": lambda values: (value for value in values),
    "dict view": lambda values: dict.fromkeys(values).keys(),
    "array": lambda values: pytest.importorskip("numpy").array(values),
}


class Maps(Conformance):
    """What `map` gives, and a pipeline that is mapped inside another."""

    # --- Results and their order

    @pytest.mark.parametrize("mode", ["zip", "product"])
    @pytest.mark.parametrize("count", [0, 1, 3, 30])
    def test_a_map_gives_what_the_sequential_executor_gives_in_the_same_order(
        self, config: RuntimeConfig, mode: str, count: int
    ) -> None:
        values = [[number, number**2, -number] for number in range(count)]
        inputs = {"values": values, "unit": range(1, count + 1)}
        over = ("values", "unit")
        found = STATISTICS.map(inputs, map_over=over, map_mode=mode, config=config)
        expected = STATISTICS.map(inputs, map_over=over, map_mode=mode, config=SEQUENTIAL)
        assert [list(item.items()) for item in found] == [list(item.items()) for item in expected]
        assert len(found) == (count if mode == "zip" else count**2)

    def test_a_product_varies_the_last_name_fastest(self, config: RuntimeConfig) -> None:
        inputs = {"a": [1, 2], "b": "xyz", "c": (5, 6, 7)}
        pipeline = single(lambda a, b, c: (a, b, c))
        found = pipeline.map(inputs, map_over=["c", "a"], map_mode="product", config=config)
        assert [item["y"] for item in found] == [(a, "xyz", c) for c in (5, 6, 7) for a in (1, 2)]

    def test_results_keep_the_order_of_the_items_whatever_they_take(
        self, config: RuntimeConfig
    ) -> None:
        def work(x: int) -> int:
            time.sleep(0.005 * (-x % 5))
            return x

        assert single(work).map({"x": range(40)}, map_over="x", config=config) == [
            {"y": x} for x in range(40)
        ]
        found = Pipeline([mapped(work)]).run({"xs": range(40)}, config=config)
        assert found == {"ys": list(range(40))}

    def test_thousands_of_items(self, config: RuntimeConfig) -> None:
        found = single(lambda x: -x).map({"x": range(3000)}, map_over="x", config=config)
        assert [item["y"] for item in found] == [-x for x in range(3000)]

    def test_asked_for_outputs_come_in_the_order_in_which_they_are_asked_for(
        self, config: RuntimeConfig
    ) -> None:
        inputs = {"values": [[1, 2], [5, 9]]}
        names = ["total", "low"]
        found = STATISTICS.map(inputs, map_over="values", output_name=names, config=config)
        assert [list(item.items()) for item in found] == [
            [("total", 3), ("low", 1)],
            [("total", 14), ("low", 5)],
        ]

    # --- What is mapped over

    @pytest.mark.parametrize("kind", ITERABLES)
    def test_any_iterable_can_be_mapped_over(self, config: RuntimeConfig, kind: str) -> None:
        inputs = {"x": ITERABLES[kind]([0, 1, 2])}
        found = single(lambda x: (x, type(x).__name__)).map(inputs, map_over="x", config=config)
        inputs = {"x": ITERABLES[kind]([0, 1, 2])}
        expected = single(lambda x: (x, type(x).__name__)).map(
            inputs, map_over="x", config=SEQUENTIAL
        )
        assert found == expected

    def test_rows_of_an_array_are_its_items(self, config: RuntimeConfig) -> None:
        numpy = pytest.importorskip("numpy")
        rows = numpy.arange(600).reshape(100, 6)
        found = single(lambda x: x * 2).map({"x": rows}, map_over="x", config=config)
        assert [item["y"].tolist() for item in found] == (2 * rows).tolist()

    @pytest.mark.parametrize("mode", ["zip", "product"])
    def test_no_items_give_no_results(self, config: RuntimeConfig, mode: str) -> None:
        pipeline = single(lambda x, z: x)
        over = ["x", "z"]
        empty: tuple[Iterable[int], ...] = ((), iter(()))
        for values in empty:
            inputs = {"x": values, "z": []}
            assert pipeline.map(inputs, map_over=over, map_mode=mode, config=config) == []
        assert Pipeline([mapped(_work.same)]).run({"xs": []}, config=config) == {"ys": []}

    def test_other_inputs_are_shared_by_all_items(self, config: RuntimeConfig) -> None:
        table = {number: -number for number in range(1000)}
        pipeline = single(lambda x, table, shift=3: table[x] + shift)
        found = pipeline.map({"x": range(50), "table": table}, map_over="x", config=config)
        assert found == [{"y": 3 - x} for x in range(50)]

    def test_intermediates_and_bound_names_can_be_mapped_over(self, config: RuntimeConfig) -> None:
        nodes = [node("a")(lambda x: [x]), node("b")(lambda a, k: (a, k))]
        pipeline = Pipeline(nodes).bind(k=1)
        found = pipeline.map({"a": [5, 6], "k": [7, 8]}, map_over=["a", "k"], config=config)
        assert found == [{"a": 5, "b": (5, 7)}, {"a": 6, "b": (6, 8)}]

    @pytest.mark.parametrize(
        ("inputs", "options", "kind"),
        [
            ({"x": [1], "z": [1, 2]}, {}, InputError),
            ({"x": "words", "z": [1]}, {}, InputError),
            ({"x": {1: 2}, "z": [1]}, {}, InputError),
            ({"x": [1]}, {}, MissingInputError),
            ({"x": [1], "z": [1], "v": 1}, {}, UnknownInputError),
            ({"x": [1], "z": [1]}, {"map_mode": "zap"}, InputError),
            ({"x": [1], "z": [1]}, {"on_error": "ignore"}, InputError),
            ({"x": [1], "z": [1]}, {"output_name": "why"}, InputError),
        ],
    )
    def test_wrong_requests_are_refused(
        self, config: RuntimeConfig, inputs: Any, options: Any, kind: type[InputError]
    ) -> None:
        with pytest.raises(kind):
            single(lambda x, z: x).map(inputs, map_over=["x", "z"], **options, config=config)

    # --- Nothing lost, nothing twice

    def test_no_item_is_lost_or_run_twice(self, config: RuntimeConfig, marks: Marks) -> None:
        found = single(_work.marking(marks)).map({"x": range(500)}, map_over="x", config=config)
        assert found == [{"y": x} for x in range(500)]
        assert marks.counts() == {str(x): 1 for x in range(500)}

    def test_no_item_of_a_nested_map_is_lost_or_run_twice(
        self, config: RuntimeConfig, marks: Marks
    ) -> None:
        pipeline = Pipeline(
            [mapped(_work.marking(marks)), node("z")(sum).rename(inputs={"iterable": "ys"})]
        )
        assert pipeline.run({"xs": range(500)}, config=config)["z"] == sum(range(500))
        assert marks.counts() == {str(x): 1 for x in range(500)}

    def test_each_node_of_an_item_runs_once(self, config: RuntimeConfig, marks: Marks) -> None:
        nodes = [
            node("a")(_work.marking(marks, "a")),
            node("b")(_work.marking(marks, "b")).rename(inputs={"x": "a"}),
            node("c")(_work.marking(marks, "c")).rename(inputs={"x": "a"}),
            node("d")(lambda b, c: (b, c)),
        ]
        found = Pipeline(nodes).map({"x": range(60)}, map_over="x", output_name="d", config=config)
        assert found == [{"d": (x, x)} for x in range(60)]
        assert marks.counts() == dict.fromkeys("abc", 60)
