"""Stateful values: described where they are given, built where they are used."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from hypernodes._engine.failure import Failure
from hypernodes._node import node
from hypernodes.cache import DiskCache
from hypernodes.exceptions import InputError
from hypernodes.pipeline import Pipeline
from hypernodes.testing import _work
from hypernodes.testing._suite.base import Conformance, single

if TYPE_CHECKING:
    from pathlib import Path

    from hypernodes.config import RuntimeConfig
    from hypernodes.testing._work import Marks

DOUBLES = [{"y": 2 * x} for x in range(30)]


class Stateful(Conformance):
    """Models and the like: one of each in a process, however they come there."""

    def test_a_model_is_built_once_in_a_process_for_all_items_and_maps(
        self, config: RuntimeConfig, marks: Marks
    ) -> None:
        model, pipeline = _work.Model(marks), single(_work.use, stateful_params=("model",))
        for _ in range(3):
            inputs = {"x": range(30), "model": model}
            assert pipeline.map(inputs, map_over="x", config=config) == DOUBLES
            bound = pipeline.bind(model=model)
            assert bound.map({"x": range(30)}, map_over="x", config=config) == DOUBLES
        assert set(marks.counts().values()) == {1}

    def test_a_model_is_built_once_in_a_process_for_all_nodes(
        self, config: RuntimeConfig, marks: Marks
    ) -> None:
        model = _work.Model(marks)
        inner = single(_work.use).as_node(
            input_mapping={"xs": "x"}, output_mapping={"y": "ys"}, map_over="xs"
        )
        nodes = [node(f"y{number}")(_work.use) for number in range(6)]
        found = Pipeline([*nodes, inner]).run({"x": 4, "xs": [5, 6], "model": model}, config=config)
        assert found == {f"y{number}": 8 for number in range(6)} | {"ys": [10, 12]}
        assert set(marks.counts().values()) == {1}

    def test_a_model_in_the_code_is_built_once_in_a_process(
        self, config: RuntimeConfig, marks: Marks
    ) -> None:
        model = _work.Model(marks)

        def by_default(x: int, model: Any = model) -> Any:
            return model(x)

        called = Pipeline([node("a")(lambda x: -model(x)), node("b")(by_default), node("c")(model)])
        found = called.map({"x": range(30)}, map_over="x", config=config)
        assert found == [{"a": -2 * x, "b": 2 * x, "c": 2 * x} for x in range(30)]
        assert set(marks.counts().values()) == {1}

    def test_a_model_that_is_an_item_travels_as_its_description(
        self, config: RuntimeConfig, marks: Marks
    ) -> None:
        models = [_work.Model(marks, factor) for factor in (2, 3)]
        assert models[0](1) == 2
        found = single(_work.use).map({"x": 5, "model": models}, map_over="model", config=config)
        assert found == [{"y": 10}, {"y": 15}]

    def test_a_model_that_is_returned_is_still_described(
        self, config: RuntimeConfig, marks: Marks
    ) -> None:
        def load(factor: int) -> Any:
            made = _work.Model(marks, factor)
            return made if made.factor == factor else None

        pipeline = Pipeline([node("model")(load), node("y")(_work.use)])
        found = pipeline.run({"factor": 3, "x": 2}, config=config)
        assert (found["y"], found["model"](3)) == (6, 9)

    def test_a_model_that_cannot_be_built_fails_its_item_and_is_tried_again(
        self, config: RuntimeConfig, marks: Marks
    ) -> None:
        model = _work.Model(marks, failing=1)
        run = partial(single(_work.use).map, map_over="x", on_error="return", config=config)
        (failure,) = run({"x": [1], "model": model})
        assert isinstance(failure, Failure)
        assert isinstance(failure.error, ConnectionError)
        assert failure.node == "use"
        assert run({"x": [1], "model": model}) == [{"y": 2}]

    def test_what_a_model_made_is_found_by_its_description(
        self, config: RuntimeConfig, marks: Marks, folder: Path
    ) -> None:
        config = config.replace(cache=DiskCache(folder / "cache"))
        run = partial(single(_work.use).map, map_over="x", config=config)
        assert run({"x": range(30), "model": _work.Model(marks)}) == DOUBLES
        before = marks.counts()
        assert run({"x": range(30), "model": _work.Model(marks)}) == DOUBLES
        assert marks.counts() == before
        (other,) = run({"x": [1], "model": _work.Model(marks, 5)})
        assert other == {"y": 5}

    def test_what_all_items_share_cannot_be_mapped_over(
        self, config: RuntimeConfig, marks: Marks
    ) -> None:
        pipeline = single(_work.use, stateful_params=("model",))
        inputs = {"x": 1, "model": [_work.Model(marks)]}
        with pytest.raises(InputError, match="'use'") as caught:
            pipeline.map(inputs, map_over="model", config=config)
        assert (caught.value.name, caught.value.node) == ("model", "use")
        assert marks.counts() == {}


class StatefulInProcesses(Conformance):
    """What holds beside that where workers are processes."""

    def test_a_model_is_not_built_in_the_driver(self, config: RuntimeConfig, marks: Marks) -> None:
        model = _work.Model(marks)
        config = config.replace(cache=None)
        inputs = {"x": range(30), "model": model}
        assert single(_work.use).map(inputs, map_over="x", config=config) == DOUBLES
        chained = Pipeline([node("y")(_work.use), node("z")(_work.use).rename(inputs={"x": "y"})])
        found = chained.run({"x": 1, "model": model}, config=config)
        assert found == {"y": 2, "z": 4}
        assert "Model(" in repr(model)
        assert str(os.getpid()) not in marks.names()

    def test_a_model_is_signed_without_being_built_in_the_driver(
        self, config: RuntimeConfig, marks: Marks, folder: Path
    ) -> None:
        config = config.replace(cache=DiskCache(folder / "cache"))
        inputs = {"x": 1, "model": _work.Model(marks)}
        pipeline = single(_work.use)
        assert pipeline.explain(inputs, config=config)["use"].status == "miss"
        assert pipeline.run(inputs, config=config) == {"y": 2}
        assert pipeline.explain(inputs, config=config)["use"].status == "hit"
        assert str(os.getpid()) not in marks.names()
