"""What all classes of the suite share: fixtures, limits, and the shortest pipelines."""

from __future__ import annotations

import threading
import time
from concurrent import futures
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar

import pytest

from hypernodes._node import node
from hypernodes.config import RuntimeConfig
from hypernodes.executors import SequentialExecutor
from hypernodes.pipeline import Pipeline
from hypernodes.testing._work import PAUSE, Gate, Marks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from hypernodes._nested import PipelineNode
    from hypernodes.abc import Executor

Result = TypeVar("Result")
SEQUENTIAL: Final = RuntimeConfig(executor=SequentialExecutor())


class Conformance:
    """The ground of the suite; needs a fixture `executor`, of any scope, in reach of the class.

    Attributes:
        limit: Seconds after which a call counts as hung. A passing test never waits for it.
        stop_within: Seconds in which Ctrl-C has to end a run.
        most_ahead: How many items a lazy map may take ahead of its consumer.
    """

    limit: ClassVar[float] = 30.0
    stop_within: ClassVar[float] = 2.0
    most_ahead: ClassVar[int] = 50_000

    @pytest.fixture
    def config(self, executor: Executor) -> RuntimeConfig:
        """The config that every test of the suite runs under, as it is or with changes."""
        return RuntimeConfig(executor=executor)

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        """A directory that workers see under the same path; override it where they are far away."""
        return tmp_path

    @pytest.fixture
    def marks(self, folder: Path) -> Marks:
        """What nodes leave behind, wherever they run."""
        (folder / "marks").mkdir()
        return Marks(folder / "marks")

    @pytest.fixture
    def gate(self, folder: Path) -> Iterator[Gate]:
        """What calls can be made to wait for; when the test is over, it opens."""
        gate = Gate(folder / "gate", self.limit)
        yield gate
        gate.open()

    def in_time(self, function: Callable[[], Result]) -> Result:
        """Return what `function` returns; fail where that takes longer than `limit`."""
        future = started(function)
        if not futures.wait((future,), self.limit).done:
            pytest.fail(f"still running after {self.limit} s")
        return future.result()

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Wait until `condition` holds; fail where that takes longer than `limit`."""
        end = time.monotonic() + self.limit
        while not condition():
            if time.monotonic() > end:
                pytest.fail(f"it did not come about in {self.limit} s")
            time.sleep(PAUSE)


def started(function: Callable[[], Result]) -> futures.Future[Result]:
    """Return the future of `function`, which runs in a thread of its own."""
    future: futures.Future[Result] = futures.Future()

    def call() -> None:
        try:
            future.set_result(function())
        except BaseException as error:  # noqa: BLE001 - whoever waits gets it
            future.set_exception(error)

    threading.Thread(target=copy_context().run, args=(call,), daemon=True).start()
    return future


def single(function: Callable[..., Any], **options: Any) -> Pipeline:
    """Return the pipeline `single` of one function, which makes `y`."""
    return Pipeline([node("y", **options)(function)], name="single")


def mapped(function: Callable[[Any], Any], **options: Any) -> PipelineNode:
    """Return `single(function)` as a node that makes `ys` of `xs`; the function takes `x`."""
    inner = single(function, **options)
    return inner.as_node(input_mapping={"xs": "x"}, output_mapping={"y": "ys"}, map_over="xs")


def chain(functions: Sequence[Callable[[Any], Any]]) -> Pipeline:
    """Return the pipeline `chain`, from `x` over `y0`, `y1` and so on."""
    nodes, taken = [], "x"
    for number, function in enumerate(functions):
        made = node(f"y{number}")(function)
        nodes.append(made.rename(inputs={made.root_args[0]: taken}))
        taken = f"y{number}"
    return Pipeline(nodes, name="chain")
