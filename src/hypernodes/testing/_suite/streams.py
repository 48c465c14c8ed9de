"""Lazy maps: results as they come, items taken as they are needed, an early end."""

from __future__ import annotations

import gc
import time
from typing import TYPE_CHECKING, Final

import pytest

from hypernodes._engine.failure import Failure
from hypernodes.exceptions import InputError
from hypernodes.testing import _work
from hypernodes.testing._suite.base import Conformance, single

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hypernodes.config import RuntimeConfig
    from hypernodes.testing._work import Marks

MORE_THAN_TAKEN: Final = 200_000
in_both_orders = pytest.mark.parametrize("ordered", [True, False], ids=["ordered", "unordered"])


class Streams(Conformance):
    """What `map_iter` gives."""

    @pytest.mark.parametrize("count", [0, 1, 2, 70, 1500])
    def test_results_come_in_the_order_of_the_items(
        self, config: RuntimeConfig, count: int
    ) -> None:
        items = (number for number in range(count))
        results = single(lambda x: -x).map_iter({"x": items}, map_over="x", config=config)
        assert [result["y"] for result in results] == [-x for x in range(count)]

    @pytest.mark.parametrize("count", [0, 1, 2, 70, 1500])
    def test_unordered_results_come_with_their_index(
        self, config: RuntimeConfig, count: int
    ) -> None:
        results = single(lambda x: -x).map_iter(
            {"x": range(count)}, map_over="x", ordered=False, config=config
        )
        assert sorted((index, found["y"]) for index, found in results) == [
            (index, -index) for index in range(count)
        ]

    @in_both_orders
    def test_no_item_of_a_lazy_map_is_lost_or_run_twice(
        self, config: RuntimeConfig, marks: Marks, *, ordered: bool
    ) -> None:
        results = single(_work.marking(marks)).map_iter(
            {"x": iter(range(300))}, map_over="x", ordered=ordered, config=config
        )
        assert len(list(results)) == 300
        assert marks.counts() == {str(x): 1 for x in range(300)}

    # --- Items are taken as they are needed

    def test_nothing_is_taken_before_the_first_result_is_asked_for(
        self, config: RuntimeConfig
    ) -> None:
        taken: list[int] = []
        results = single(_work.same).map_iter({"x": counted(taken)}, map_over="x", config=config)
        assert len(taken) <= 1
        results.close()
        assert len(taken) <= 1

    @in_both_orders
    def test_a_bounded_number_of_items_is_taken_ahead(
        self, config: RuntimeConfig, *, ordered: bool
    ) -> None:
        taken: list[int] = []
        results = single(_work.same).map_iter(
            {"x": counted(taken)}, map_over="x", ordered=ordered, config=config
        )
        for number in range(300):
            next(results)
            assert len(taken) <= number + self.most_ahead
        results.close()

    def test_a_consumer_that_pauses_stops_the_taking(self, config: RuntimeConfig) -> None:
        def work(x: int) -> int:
            time.sleep(0.001)
            return x

        taken: list[int] = []
        results = single(work).map_iter({"x": counted(taken)}, map_over="x", config=config)
        assert next(results) == {"y": 0}
        before = -1
        end = time.monotonic() + self.limit
        while before < len(taken) and time.monotonic() < end:
            before = len(taken)
            time.sleep(0.3)
        assert before == len(taken), "items are taken though nobody takes the results"
        results.close()

    # --- The end

    @in_both_orders
    def test_closing_early_takes_no_further_item(
        self, config: RuntimeConfig, *, ordered: bool
    ) -> None:
        taken: list[int] = []
        results = single(_work.same).map_iter(
            {"x": counted(taken)}, map_over="x", ordered=ordered, config=config
        )
        next(results)
        results.close()
        count = len(taken)
        assert single(_work.same).run({"x": 1}, config=config) == {"y": 1}
        assert len(taken) == count
        assert next(results, None) is None

    def test_closing_early_cancels_what_has_not_started(
        self, config: RuntimeConfig, marks: Marks
    ) -> None:
        def work(x: int) -> None:
            marks.leave("begun")
            time.sleep(0.005)

        results = single(work).map_iter({"x": range(2000)}, map_over="x", config=config)
        next(results)
        results.close()
        assert single(_work.same).run({"x": 1}, config=config) == {"y": 1}
        assert marks.count("begun") < 1000

    def test_results_that_are_let_go_leave_the_executor_usable(self, config: RuntimeConfig) -> None:
        results = single(_work.same).map_iter({"x": counted([])}, map_over="x", config=config)
        next(results)
        del results
        gc.collect()
        assert single(_work.same).run({"x": 1}, config=config) == {"y": 1}

    @pytest.mark.parametrize("count", [0, 1, 5, 64])
    def test_an_error_of_the_items_is_raised_after_the_results_before_it(
        self, config: RuntimeConfig, count: int
    ) -> None:
        def broken() -> Iterator[int]:
            yield from range(count)
            raise OSError("no more")

        results = single(_work.same).map_iter({"x": broken()}, map_over="x", config=config)
        assert [next(results) for _ in range(count)] == [{"y": x} for x in range(count)]
        with pytest.raises(OSError, match="no more"):
            next(results)
        with pytest.raises(OSError, match="no more"):
            single(_work.same).map({"x": broken()}, map_over="x", config=config)

    @pytest.mark.parametrize("count", [0, 1, 64])
    def test_unequal_lengths_that_show_only_at_the_end_are_refused(
        self, config: RuntimeConfig, count: int
    ) -> None:
        pipeline = single(lambda x, z: x)

        def inputs() -> dict[str, Iterator[int]]:
            return {"x": iter(range(count)), "z": iter(range(count + 1))}

        with pytest.raises(InputError, match="length"):
            list(pipeline.map_iter(inputs(), map_over=["x", "z"], config=config))
        with pytest.raises(InputError, match="length"):
            pipeline.map(inputs(), map_over=["x", "z"], config=config)

    # --- Failures

    def test_a_failure_of_a_lazy_map_is_raised_in_its_place(self, config: RuntimeConfig) -> None:
        results = single(_work.negative_fails).map_iter(
            {"x": [0, 1, -2, 3]}, map_over="x", config=config
        )
        assert [next(results), next(results)] == [{"y": 0}, {"y": 1}]
        with pytest.raises(ValueError, match="no -2"):
            next(results)
        assert next(results, None) is None

    @in_both_orders
    def test_failures_of_a_lazy_map_are_returned_in_their_places(
        self, config: RuntimeConfig, *, ordered: bool
    ) -> None:
        items = [-x if x % 7 == 3 else x for x in range(100)]
        results = single(_work.negative_fails).map_iter(
            {"x": items}, map_over="x", ordered=ordered, on_error="return", config=config
        )
        found = dict(enumerate(results) if ordered else results)
        failed = {index for index, outcome in found.items() if isinstance(outcome, Failure)}
        assert failed == set(range(3, 100, 7))
        assert {index: found[index].index for index in failed} == {index: index for index in failed}
        assert all(found[x] == {"y": x} for x in range(100) if x not in failed)


def counted(taken: list[int]) -> Iterator[int]:
    """Yield numbers, more than anybody should take, and note which were taken."""
    for number in range(MORE_THAN_TAKEN):
        taken.append(number)
        yield number
