"""An executor as a value, and the life of what it opens."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING

import pytest

from hypernodes.config import RuntimeConfig
from hypernodes.exceptions import HyperNodesError
from hypernodes.testing import _work
from hypernodes.testing._suite.base import Conformance, single, started

if TYPE_CHECKING:
    from hypernodes.abc import Executor
    from hypernodes.testing._work import Gate, Marks


class Life(Conformance):
    """What an executor is, and what `close` and `with` do."""

    # --- A value

    def test_it_is_equal_to_its_copies_and_hashes_like_them(self, executor: Executor) -> None:
        for copy in (executor.model_copy(), type(executor)(**dict(executor))):
            assert copy == executor
            assert hash(copy) == hash(executor)

    def test_it_pickles(self, executor: Executor) -> None:
        again = pickle.loads(pickle.dumps(executor))  # noqa: S301 - our own
        assert type(again) is type(executor)
        assert again == executor

    def test_it_cannot_be_changed(self, executor: Executor) -> None:
        with pytest.raises(ValueError, match="no_such_field"):
            type(executor)(**dict(executor) | {"no_such_field": 1})
        for name in type(executor).model_fields:
            with pytest.raises(ValueError, match="frozen"):
                setattr(executor, name, getattr(executor, name))

    def test_it_prints_its_class_and_fields(self, executor: Executor) -> None:
        assert str(executor) == repr(executor)
        assert repr(executor).startswith(f"{type(executor).__name__}(")
        assert all(
            f"{name}=" in repr(executor)
            for name, field in type(executor).model_fields.items()
            if field.repr
        )

    def test_a_config_with_it_is_a_value_too(self, executor: Executor) -> None:
        config = RuntimeConfig(executor=executor)
        copy = RuntimeConfig(executor=executor.model_copy())
        assert copy == config
        assert hash(copy) == hash(config)
        assert pickle.loads(pickle.dumps(config)) == config  # noqa: S301 - our own

    def test_a_config_with_it_can_live_in_a_file(self, executor: Executor) -> None:
        config = RuntimeConfig(executor=executor)
        assert RuntimeConfig(**config.model_dump(mode="json")) == config

    # --- Opened and closed

    def test_it_is_used_again_and_again(self, config: RuntimeConfig) -> None:
        pipeline = single(_work.same)
        for turn in range(20):
            assert pipeline.run({"x": turn}, config=config) == {"y": turn}
            found = pipeline.map({"x": [turn, turn + 1]}, map_over="x", config=config)
            assert found == [{"y": turn}, {"y": turn + 1}]

    def test_closing_twice_or_unopened_does_nothing(
        self, executor: Executor, config: RuntimeConfig
    ) -> None:
        executor.close()
        executor.close()
        assert single(_work.same).run({"x": 1}, config=config) == {"y": 1}

    def test_after_closing_the_next_run_opens_anew(
        self, executor: Executor, config: RuntimeConfig
    ) -> None:
        pipeline = single(_work.same)
        for x in range(2):
            found = pipeline.map({"x": [x, x]}, map_over="x", config=config)
            assert found == [{"y": x}, {"y": x}]
            executor.close()

    def test_a_with_block_gives_it_and_closes_it(
        self, executor: Executor, config: RuntimeConfig
    ) -> None:
        pipeline = single(_work.same)
        with executor as entered:
            assert entered is executor
            assert pipeline.map({"x": [1, 2]}, map_over="x", config=config) == [{"y": 1}, {"y": 2}]
        assert pipeline.map({"x": [3]}, map_over="x", config=config) == [{"y": 3}]

    def test_closing_an_equal_one_leaves_it_usable(
        self, executor: Executor, config: RuntimeConfig
    ) -> None:
        pipeline = single(_work.same)
        assert pipeline.map({"x": [1, 2]}, map_over="x", config=config) == [{"y": 1}, {"y": 2}]
        executor.model_copy().close()
        assert pipeline.map({"x": [1, 2]}, map_over="x", config=config) == [{"y": 1}, {"y": 2}]

    def test_closing_in_the_middle_of_a_map_hangs_nothing(
        self, executor: Executor, config: RuntimeConfig, marks: Marks, gate: Gate
    ) -> None:
        def work(x: int) -> int:
            marks.leave("begun")
            gate.wait()
            return x

        running = started(lambda: single(work).map({"x": range(200)}, map_over="x", config=config))
        self.wait_for(lambda: marks.count("begun") > 0)
        closing = started(executor.close)
        gate.open()
        closing.result(self.limit)
        try:
            assert running.result(self.limit) == [{"y": x} for x in range(200)]
        except HyperNodesError as error:
            assert "closed" in str(error)  # noqa: PT017 - either way is right
        assert single(_work.same).run({"x": 1}, config=config) == {"y": 1}
