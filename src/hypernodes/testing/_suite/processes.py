"""Worker processes: what travels, what a crash costs, and when they end."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING, Any

import pytest

from hypernodes._engine.failure import Failure
from hypernodes._node import node
from hypernodes.config import RetryPolicy
from hypernodes.exceptions import SerializationError, WorkerCrashedError
from hypernodes.pipeline import Pipeline
from hypernodes.testing import _work
from hypernodes.testing._suite.base import mapped, single
from hypernodes.testing._suite.drivers import Drivers, is_alive, posix

if TYPE_CHECKING:
    from hypernodes.abc import Executor
    from hypernodes.config import RuntimeConfig
    from hypernodes.testing._work import Marks


class Processes(Drivers):
    """What holds where workers are processes on this machine that the executor has started."""

    def workers(self, config: RuntimeConfig, count: int = 20) -> set[int]:
        """Return the process ids of workers that have run some items."""
        found = single(lambda x: os.getpid()).map({"x": range(count)}, map_over="x", config=config)
        return {item["y"] for item in found}

    # --- Where nodes run

    def test_nodes_run_in_workers(self, config: RuntimeConfig) -> None:
        nodes = [node("a")(lambda x: os.getpid()), node("b")(lambda x: os.getpid())]
        found = Pipeline(nodes).run({"x": 1}, config=config)
        assert os.getpid() not in {*found.values(), *self.workers(config)}

    # --- What cannot travel

    def test_a_function_that_cannot_travel_is_named_before_anything_runs(
        self, config: RuntimeConfig, marks: Marks
    ) -> None:
        lock = threading.Lock()

        def locked(a: int) -> int:
            with lock:
                return a

        pipeline = Pipeline([node("a")(_work.marking(marks)), node("b")(locked)])
        with pytest.raises(SerializationError) as caught:
            pipeline.run({"x": 1}, config=config)
        assert caught.value.node == "locked"
        with pytest.raises(SerializationError):
            pipeline.map({"x": [1, 2]}, map_over="x", on_error="return", config=config)
        assert marks.counts() == {}

    def test_a_shared_input_that_cannot_travel_is_named_before_anything_runs(
        self, config: RuntimeConfig, marks: Marks
    ) -> None:
        nodes = [node("a")(_work.marking(marks)), node("b")(lambda a, tool: a)]
        inputs = {"x": range(9), "tool": threading.Lock()}
        with pytest.raises(SerializationError, match="'tool'") as caught:
            Pipeline(nodes).map(inputs, map_over="x", on_error="return", config=config)
        assert caught.value.name == "tool"
        assert marks.counts() == {}

    def test_an_item_that_cannot_travel_fails_alone(self, config: RuntimeConfig) -> None:
        items = [1, threading.Lock(), 3, 4]
        found = single(lambda x: 1).map(
            {"x": items}, map_over="x", on_error="return", config=config
        )
        assert [type(outcome) for outcome in found] == [dict, Failure, dict, dict]
        error = found[1].error
        assert isinstance(error, SerializationError)
        assert (found[1].index, error.name) == (1, "x")

    def test_an_output_that_cannot_travel_fails_its_item_alone(self, config: RuntimeConfig) -> None:
        def work(x: int) -> Any:
            return threading.Lock() if x % 10 == 3 else x

        found = single(work).map({"x": range(30)}, map_over="x", on_error="return", config=config)
        assert failed(found) == [3, 13, 23]
        error = found[13].error
        assert isinstance(error, SerializationError)
        assert (error.node, error.name) == ("work", "y")

    # --- Crashes

    @pytest.mark.parametrize("count", [1, 3, 60])
    def test_a_crash_costs_only_the_item_that_crashes(
        self, config: RuntimeConfig, count: int
    ) -> None:
        bad = count // 2
        pipeline = single(crashing({bad}))
        found = pipeline.map({"x": range(count)}, map_over="x", on_error="return", config=config)
        assert failed(found) == [bad]
        assert all(outcome == {"y": x} for x, outcome in enumerate(found) if x != bad)
        failure = found[bad]
        assert isinstance(failure.error, WorkerCrashedError)
        assert (failure.index, failure.node, failure.inputs) == (bad, "work", {"x": bad})
        assert failure.path == ("single", "work")

    def test_items_that_crash_cost_only_themselves(self, config: RuntimeConfig) -> None:
        bad = {0, 10, 20}
        found = single(crashing(bad)).map(
            {"x": range(30)}, map_over="x", on_error="return", config=config
        )
        assert failed(found) == sorted(bad)
        assert {type(found[x].error) for x in bad} == {WorkerCrashedError}

    def test_a_crash_in_a_run_names_the_node_and_the_next_run_works(
        self, config: RuntimeConfig
    ) -> None:
        nodes = [node("a")(_work.same), node("b")(crashing({1})).rename(inputs={"x": "a"})]
        pipeline = Pipeline([*nodes, node("c")(lambda b: b)], name="chain")
        with pytest.raises(WorkerCrashedError) as caught:
            pipeline.run({"x": 1}, config=config)
        assert (caught.value.node, caught.value.path) == ("work", ("chain", "work"))
        assert pipeline.run({"x": 2}, config=config) == {"a": 2, "b": 2, "c": 2}

    def test_a_crash_in_a_nested_map_fails_the_outer_item_alone(
        self, config: RuntimeConfig
    ) -> None:
        pipeline = Pipeline([mapped(crashing({3}))], name="outer")
        lists = [[1], [2, 3], [4], [5, 6]]
        found = pipeline.map({"xs": lists}, map_over="xs", on_error="return", config=config)
        assert failed(found) == [1]
        assert [found[x] for x in (0, 2, 3)] == [{"ys": [1]}, {"ys": [4]}, {"ys": [5, 6]}]
        assert isinstance(found[1].error, WorkerCrashedError)

    def test_what_a_crash_took_along_is_done_again(
        self, config: RuntimeConfig, marks: Marks
    ) -> None:
        pipeline = single(crashing({7}, marks, times=1), retries=1)
        found = pipeline.map({"x": range(30)}, map_over="x", config=config)
        assert found == [{"y": x} for x in range(30)]

    def test_a_crash_counts_for_the_item_that_crashed_alone(
        self, config: RuntimeConfig, marks: Marks
    ) -> None:
        pipeline = single(crashing({2, 3}, marks, times=1))  # each is forgiven its own
        found = pipeline.map({"x": range(160)}, map_over="x", config=config)
        assert found == [{"y": x} for x in range(160)]

    @pytest.mark.parametrize(
        ("retry_on", "attempts"), [((WorkerCrashedError,), 3), ((ValueError,), 1)]
    )
    def test_a_crash_is_retried_where_retry_on_admits_it(
        self, config: RuntimeConfig, retry_on: Any, attempts: int
    ) -> None:
        policy = RetryPolicy(max_retries=2, initial_delay=0, retry_on=retry_on)
        (failure,) = single(crashing({1}), retries=policy).map(
            {"x": [1]}, map_over="x", on_error="return", config=config
        )
        assert isinstance(failure.error, WorkerCrashedError)
        assert failure.attempts == attempts

    @posix
    def test_a_worker_that_is_killed_idle_costs_nothing(self, config: RuntimeConfig) -> None:
        for _ in range(2):
            for pid in self.workers(config):
                os.kill(pid, signal.SIGKILL)
            found = single(_work.same).map({"x": range(30)}, map_over="x", config=config)
            assert found == [{"y": x} for x in range(30)]

    # --- Their life

    @posix
    def test_an_error_ends_no_worker(self, config: RuntimeConfig) -> None:
        before = self.workers(config)
        with pytest.raises(ValueError, match="no -1"):
            single(_work.negative_fails).map({"x": range(-1, 20)}, map_over="x", config=config)
        assert all(map(is_alive, before))

    @posix
    def test_closing_ends_the_workers(self, executor: Executor, config: RuntimeConfig) -> None:
        before = self.workers(config)
        executor.close()
        self.wait_for_end_of(before)
        assert not self.workers(config) & before

    @posix
    @pytest.mark.parametrize("end", ["SIGINT", "SIGTERM", "SIGKILL"])
    def test_workers_end_with_their_driver(
        self, executor: Executor, marks: Marks, end: str
    ) -> None:
        with self.driver("map", executor, marks) as process:
            process.send_signal(getattr(signal, end))
            process.wait(self.limit)
            workers = {int(pid) for pid in marks.names()}
        assert process.pid not in workers
        self.wait_for_end_of(workers)


def crashing(among: set[int], marks: Marks | None = None, times: int = 99) -> Any:
    """Return a function that ends its process so many times for each of the arguments `among`."""

    def work(x: int) -> int:
        if x not in among:
            return x
        if marks is not None:
            marks.leave(x)
        if marks is None or marks.count(x) <= times:
            os._exit(3)
        return x

    return work


def failed(outcomes: list[Any]) -> list[int]:
    """Return the indexes of the failures."""
    return [index for index, outcome in enumerate(outcomes) if isinstance(outcome, Failure)]
