"""The contracts: how a pipeline runs (`Executor`) and where (`Backend`).

Both are frozen pydantic models: descriptions that can be compared, hashed, pickled, printed and
kept in a file. What they open (pools, clusters) lives elsewhere and is opened on first use.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import copy_context
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict

from hypernodes._aside import in_thread

if TYPE_CHECKING:
    from typing import Self

    from hypernodes._engine.failure import Failure
    from hypernodes.config import RuntimeConfig
    from hypernodes.pipeline import Pipeline

__all__ = ["Backend", "Executor", "RunContext"]

OutputName = str | Sequence[str] | None
"""Which outputs are asked for: one name, several, or None for all."""


@dataclass(frozen=True, slots=True)
class RunContext:
    """What a run is told besides its inputs; an executor hands it on as it is.

    Attributes:
        config: The config in force for the pipeline.
        pinned: Whether `config` was given at the call and so rules nested pipelines and nodes too.
        path: The names from the outermost pipeline to this one.
        away: Whether another executor's run asks for this one.
        audience: 0 where nobody observes the run, nor anything in it; else a number that is
            another one whenever the plugins are.
    """

    config: RuntimeConfig
    pinned: bool = False
    path: tuple[str, ...] = ("pipeline",)
    away: bool = False
    audience: int = 0


class Executor(BaseModel, ABC):
    """How: runs a pipeline, or maps it over items.

    An executor is a description; equal ones share what they have opened. Every executor gives the
    results of `SequentialExecutor`, in the same order.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    def __str__(self) -> str:
        return repr(self)

    @abstractmethod
    def run_pipeline(
        self,
        pipeline: Pipeline,
        inputs: Mapping[str, Any],
        ctx: RunContext,
        output_name: OutputName = None,
    ) -> dict[str, Any]:
        """Run `pipeline` once.

        Args:
            pipeline: What to run.
            inputs: Values by name.
            ctx: The config in force and where this run stands; goes on as it is.
            output_name: The outputs that are asked for; None for all.

        Returns:
            The outputs by name.

        Raises:
            Exception: What a node raised, as its own type.
        """

    async def arun_pipeline(
        self,
        pipeline: Pipeline,
        inputs: Mapping[str, Any],
        ctx: RunContext,
        output_name: OutputName = None,
    ) -> dict[str, Any]:
        """Do as `run_pipeline`, without blocking the running loop; by default in a thread."""
        return await in_thread(self.run_pipeline, pipeline, inputs, ctx, output_name)

    @abstractmethod
    def map_items(
        self,
        pipeline: Pipeline,
        items: Iterable[Mapping[str, Any]],
        inputs: Mapping[str, Any],
        ctx: RunContext,
        output_name: OutputName = None,
    ) -> Iterable[dict[str, Any] | Failure]:
        """Run `pipeline` once for each of `items`.

        Args:
            pipeline: What to run.
            items: The inputs that are each item's own; taken lazily, a bounded number ahead.
            inputs: The inputs that all items share.
            ctx: The config in force and where this run stands; goes on as it is.
            output_name: The outputs that are asked for; None for all.

        Returns:
            For each item, in order, its outputs, or a `Failure` where a node raised.
        """

    def map_unordered(
        self,
        pipeline: Pipeline,
        items: Iterable[Mapping[str, Any]],
        inputs: Mapping[str, Any],
        ctx: RunContext,
        output_name: OutputName = None,
    ) -> Iterator[tuple[int, dict[str, Any] | Failure]]:
        """Do as `map_items`, but yield `(index, result)`, in any order, as they finish."""
        return enumerate(self.map_items(pipeline, items, inputs, ctx, output_name))

    def beside(self, work: Callable[[], None]) -> None:
        """Start `work`, a run on this executor inside that of another, beside what the caller does.

        Args:
            work: Never raises; tells of its end by itself.
        """
        run = copy_context().run
        threading.Thread(target=run, args=(work,), name="hypernodes-beside", daemon=True).start()

    def close(self) -> None:
        """End what this executor and its equals have opened; the next run opens it anew."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class Backend(BaseModel, ABC):
    """Where: takes a pipeline, its inputs and its config to the place where the executor runs."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    def __str__(self) -> str:
        return repr(self)

    @abstractmethod
    def run(
        self,
        pipeline: Pipeline,
        inputs: Mapping[str, Any],
        ctx: RunContext,
        output_name: OutputName = None,
    ) -> dict[str, Any]:
        """Run `pipeline` once there; as `Executor.run_pipeline`."""

    async def arun(
        self,
        pipeline: Pipeline,
        inputs: Mapping[str, Any],
        ctx: RunContext,
        output_name: OutputName = None,
    ) -> dict[str, Any]:
        """Do as `run`, without blocking the running loop; by default in a thread."""
        return await in_thread(self.run, pipeline, inputs, ctx, output_name)

    @abstractmethod
    def map(
        self,
        pipeline: Pipeline,
        items: Iterable[Mapping[str, Any]],
        inputs: Mapping[str, Any],
        ctx: RunContext,
        output_name: OutputName = None,
    ) -> Iterable[dict[str, Any] | Failure]:
        """Map `pipeline` over `items` there; as `Executor.map_items`."""

    def map_unordered(
        self,
        pipeline: Pipeline,
        items: Iterable[Mapping[str, Any]],
        inputs: Mapping[str, Any],
        ctx: RunContext,
        output_name: OutputName = None,
    ) -> Iterator[tuple[int, dict[str, Any] | Failure]]:
        """Do as `map`, but yield `(index, result)`, in any order, as they finish."""
        return enumerate(self.map(pipeline, items, inputs, ctx, output_name))
