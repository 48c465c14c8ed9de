"""What goes wrong: errors as themselves, failures as values, the rest unharmed."""

from __future__ import annotations

import pickle
import time
from typing import TYPE_CHECKING, Any

import pytest

from hypernodes._engine.failure import Failure
from hypernodes._node import node
from hypernodes.pipeline import Pipeline
from hypernodes.testing import _work
from hypernodes.testing._suite.base import Conformance, mapped, single

if TYPE_CHECKING:
    from hypernodes.config import RuntimeConfig
    from hypernodes.testing._work import Marks

no_exceptions = pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit])


class Failures(Conformance):
    """What becomes of what a node raises."""

    # --- Raised

    def test_an_error_surfaces_as_itself_with_a_note(self, config: RuntimeConfig) -> None:
        nodes = [node("a")(_work.same), node("y")(_work.negative_fails).rename(inputs={"x": "a"})]
        pipeline = Pipeline([Pipeline([*nodes, node("z")(_work.same)], name="inner")], name="outer")
        with pytest.raises(ValueError, match="no -1") as caught:
            pipeline.run({"x": -1}, config=config)
        assert type(caught.value) is ValueError
        assert caught.value.args == ("no -1",)
        (note,) = caught.value.__notes__
        assert "'negative_fails'" in note
        assert "'outer > inner'" in note

    def test_the_note_names_the_item(self, config: RuntimeConfig) -> None:
        with pytest.raises(ValueError, match="no -9") as caught:
            single(_work.negative_fails).map({"x": [1, 2, -9, 4]}, map_over="x", config=config)
        (note,) = caught.value.__notes__
        assert "item 2" in note
        assert "'negative_fails'" in note

    def test_notes_name_the_items_of_every_map_on_the_way(self, config: RuntimeConfig) -> None:
        pipeline = Pipeline([mapped(_work.negative_fails)], name="outer")
        with pytest.raises(ValueError, match="no -4") as caught:
            pipeline.map({"xs": [[1], [2, 3, -4], [5]]}, map_over="xs", config=config)
        inner, outer = caught.value.__notes__
        assert "item 2" in inner
        assert "item 1" in outer

    def test_notes_of_the_user_and_the_cause_stay(self, config: RuntimeConfig) -> None:
        def fail(x: int) -> None:
            error = TypeError("mine")
            error.add_note("a note")
            raise error from KeyError("root")

        with pytest.raises(TypeError, match="mine") as caught:
            Pipeline([node("y")(fail), node("z")(_work.same)]).run({"x": 1}, config=config)
        assert type(caught.value.__cause__) is KeyError
        assert caught.value.__cause__.args == ("root",)
        assert caught.value.__notes__[0] == "a note"
        assert len(caught.value.__notes__) == 2

    def test_an_error_that_pickle_cannot_build_again(self, config: RuntimeConfig) -> None:
        with pytest.raises(_work.TwoArgumentsError, match="7: two") as caught:
            single(_work.fail_twice_over).run({"x": 7}, config=config)
        assert caught.value.code == 7
        self._fails_everywhere(_work.fail_twice_over, _work.TwoArgumentsError, config)

    def test_an_error_that_cannot_be_pickled(self, config: RuntimeConfig) -> None:
        with pytest.raises(_work.LockedError, match="locked 7"):
            single(_work.fail_locked).run({"x": 7}, config=config)
        self._fails_everywhere(_work.fail_locked, _work.LockedError, config)

    def test_an_error_that_cannot_be_changed(self, config: RuntimeConfig) -> None:
        with pytest.raises(_work.FrozenError) as caught:
            single(_work.fail_frozen).run({"x": 7}, config=config)
        assert caught.value.code == 7
        self._fails_everywhere(_work.fail_frozen, _work.FrozenError, config)

    def test_an_error_of_a_class_made_inside_a_function(self, config: RuntimeConfig) -> None:
        class LocalError(KeyError):
            pass

        def fail(x: int) -> None:
            raise LocalError(x)

        with pytest.raises(KeyError) as caught:
            single(fail).run({"x": 7}, config=config)
        assert type(caught.value).__name__ == "LocalError"
        assert caught.value.args == (7,)

    def test_stop_iteration_ends_no_loop_of_the_library(self, config: RuntimeConfig) -> None:
        def fail(x: int) -> int:
            if x == 2:
                raise StopIteration(x)
            return x

        pipeline = single(fail)
        with pytest.raises(StopIteration):
            pipeline.run({"x": 2}, config=config)
        found = pipeline.map({"x": range(5)}, map_over="x", on_error="return", config=config)
        assert [type(outcome) for outcome in found] == [dict, dict, Failure, dict, dict]
        assert isinstance(found[2].error, StopIteration)

    def test_the_first_failure_cancels_what_has_not_started(
        self, config: RuntimeConfig, marks: Marks
    ) -> None:
        def work(x: int) -> None:
            marks.leave("begun")
            if x == 0:
                raise ZeroDivisionError
            time.sleep(0.005)

        count = 1500
        with pytest.raises(ZeroDivisionError):
            single(work).map({"x": range(count)}, map_over="x", config=config)
        with pytest.raises(ZeroDivisionError):
            Pipeline([mapped(work)]).run({"xs": range(count)}, config=config)
        assert single(_work.same).run({"x": 1}, config=config) == {"y": 1}
        assert marks.count("begun") < count

    def test_after_a_failure_the_executor_is_as_before(self, config: RuntimeConfig) -> None:
        pipeline = single(_work.negative_fails)
        for _ in range(3):
            with pytest.raises(ValueError, match="no -1"):
                pipeline.run({"x": -1}, config=config)
            with pytest.raises(ValueError, match="no -1"):
                pipeline.map({"x": [0, -1, 2]}, map_over="x", config=config)
            found = pipeline.map({"x": range(20)}, map_over="x", config=config)
            assert found == [{"y": x} for x in range(20)]

    # --- Returned

    @pytest.mark.parametrize("count", [1, 2, 30, 400])
    def test_where_failures_are_returned_everything_else_is_there(
        self, config: RuntimeConfig, count: int
    ) -> None:
        items = [-x if x % 7 == 1 else x for x in range(count)]
        nodes = [node("y")(_work.negative_fails), node("z")(lambda y: -y)]
        pipeline = Pipeline(nodes, name="maybe")
        found = pipeline.map({"x": items}, map_over="x", on_error="return", config=config)
        assert len(found) == count
        for x, outcome in enumerate(found):
            if x % 7 != 1:
                assert outcome == {"y": x, "z": -x}
                continue
            assert isinstance(outcome, Failure)
            assert (outcome.index, outcome.node, outcome.attempts) == (x, "negative_fails", 1)
            assert outcome.path == ("maybe", "negative_fails")
            assert outcome.inputs == {"x": -x}
            assert (type(outcome.error), outcome.error.args) == (ValueError, (f"no {-x}",))
            assert [f"item {x}" in note for note in outcome.error.__notes__] == [True]

    def test_the_inputs_of_a_failure_are_the_items_own(self, config: RuntimeConfig) -> None:
        pipeline = single(lambda x, z, shared: shared[x])
        inputs = {"x": [0, 5], "z": ["a", "b"], "shared": [1]}
        found = pipeline.map(inputs, map_over=["x", "z"], on_error="return", config=config)
        assert found[0] == {"y": 1}
        assert isinstance(found[1].error, IndexError)
        assert found[1].inputs == {"x": 5, "z": "b"}

    def test_a_failure_inside_a_nested_map_is_the_outer_items(self, config: RuntimeConfig) -> None:
        inner = Pipeline([node("y")(_work.negative_fails)], name="inner")
        outer = Pipeline([inner.as_node(map_over="x")], name="outer")
        lists = [[1], [2, -3], [], [4]]
        found = outer.map({"x": lists}, map_over="x", on_error="return", config=config)
        assert [found[index] for index in (0, 2, 3)] == [{"y": [1]}, {"y": []}, {"y": [4]}]
        assert (found[1].index, found[1].inputs) == (1, {"x": [2, -3]})
        assert (found[1].node, found[1].path[-3:]) == (
            "negative_fails",
            ("outer", "inner", "negative_fails"),
        )

    def test_all_items_may_fail(self, config: RuntimeConfig) -> None:
        found = single(_work.negative_fails).map(
            {"x": range(-20, 0)}, map_over="x", on_error="return", config=config
        )
        assert [str(failure.error) for failure in found] == [f"no {x}" for x in range(-20, 0)]

    def test_failures_pickle(self, config: RuntimeConfig) -> None:
        (failure,) = single(_work.negative_fails).map(
            {"x": [-1]}, map_over="x", on_error="return", config=config
        )
        again = pickle.loads(pickle.dumps(failure))  # noqa: S301 - our own
        assert (again.index, again.node, again.path) == (0, failure.node, failure.path)
        assert str(again.error) == "no -1"

    # --- What is no `Exception`

    @no_exceptions
    def test_what_is_no_exception_ends_the_run_as_itself(
        self, config: RuntimeConfig, marks: Marks, kind: type[BaseException]
    ) -> None:
        pipeline = single(_work.flaky(marks, 9, kind), retries=3)
        with pytest.raises(kind):
            pipeline.run({"x": 1}, config=config)
        assert marks.counts() == {"1": 1}
        assert single(_work.same).run({"x": 1}, config=config) == {"y": 1}

    @no_exceptions
    @pytest.mark.parametrize("on_error", ["raise", "return"])
    def test_what_is_no_exception_is_never_a_failure(
        self, config: RuntimeConfig, kind: type[BaseException], on_error: str
    ) -> None:
        def leave(x: int) -> int:
            if x == 3:
                raise kind(x)
            return x

        pipeline = single(leave, retries=3)
        with pytest.raises(kind):
            pipeline.map({"x": range(40)}, map_over="x", on_error=on_error, config=config)
        assert pipeline.map({"x": [1]}, map_over="x", config=config) == [{"y": 1}]

    def _fails_everywhere(self, fail: Any, kind: type[Exception], config: RuntimeConfig) -> None:
        """Check that `fail` raises `kind` among other nodes, and for each item of a map."""
        pipeline = Pipeline([node("y")(fail), node("z")(_work.same)])
        with pytest.raises(kind):
            pipeline.run({"x": 1}, config=config)
        with pytest.raises(kind):
            pipeline.map({"x": range(9)}, map_over="x", config=config)
        found = pipeline.map({"x": range(9)}, map_over="x", on_error="return", config=config)
        assert [type(failure.error) for failure in found] == [kind] * 9
