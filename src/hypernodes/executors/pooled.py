"""What executors with workers have in common: all but the way to open them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sized
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from hypernodes._engine.failure import Failure, outputs_of
from hypernodes._engine.flights import release_flights
from hypernodes._engine.interrupts import Deferral
from hypernodes._engine.observing.opening import opened
from hypernodes._engine.requests import open_items
from hypernodes._engine.scheduler import Scheduler
from hypernodes._engine.workers import OCCUPIED, REGISTRY, Workers
from hypernodes.abc import Executor, OutputName, RunContext

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator, Mapping

    from hypernodes._engine.failure import Outcome
    from hypernodes._engine.kernel import PipelineExecutionEngine
    from hypernodes.pipeline import Pipeline


class Runner(Protocol):
    """What runs plans on workers."""

    def run(self, engine: PipelineExecutionEngine, inputs: Mapping[str, Any]) -> Outcome:
        """Run a plan once."""

    def map(
        self,
        engine: PipelineExecutionEngine,
        inputs: Mapping[str, Any],
        items: Iterable[Mapping[str, Any]],
        known: int,
        *,
        ordered: bool,
    ) -> Iterator[tuple[int, Outcome]]:
        """Run a plan for each of `items`; yield indexes and outcomes.

        Args:
            engine: Runs the plan.
            inputs: The inputs that all items share.
            items: The inputs that are each item's own.
            known: How many items there are to be had at once; 0 where that is not known.
            ordered: Whether outcomes come in the order of the items.
        """


class _RightHere:
    """Runs plans in the caller's thread, which is that of a worker where others wait for it."""

    def run(self, engine: PipelineExecutionEngine, inputs: Mapping[str, Any]) -> Outcome:
        return engine.attempt(inputs)

    def map(
        self,
        engine: PipelineExecutionEngine,
        inputs: Mapping[str, Any],
        items: Iterable[Mapping[str, Any]],
        known: int,
        *,
        ordered: bool,
    ) -> Iterator[tuple[int, Outcome]]:
        del known, ordered
        return engine.attempt_all(inputs, items)


class PooledExecutor(Executor):
    """Runs what can overlap on workers; the rest, and what a worker of its own asks for, here."""

    @abstractmethod
    def open_workers(self) -> Workers:
        """Open workers; they are kept, and shared by equal executors, until `close`."""

    def open_with(self, options: dict[str, Any]) -> Workers:
        """Open workers as `open_workers` does, with what `on_executor_start` hooks have asked for.

        Args:
            options: What they have filled in; local workers have no use for it.
        """
        del options
        return self.open_workers()

    def run_pipeline(
        self,
        pipeline: Pipeline,
        inputs: Mapping[str, Any],
        ctx: RunContext,
        output_name: OutputName = None,
    ) -> dict[str, Any]:
        engine = pipeline.engine(inputs, ctx, output_name)
        if self._is_occupied or not (self._gains(engine) or ctx.away):
            return outputs_of(engine.attempt(inputs))
        release_flights()
        with Deferral():
            return outputs_of(self._scheduler(engine, ctx).run(engine, inputs))

    def map_items(
        self,
        pipeline: Pipeline,
        items: Iterable[Mapping[str, Any]],
        inputs: Mapping[str, Any],
        ctx: RunContext,
        output_name: OutputName = None,
    ) -> Iterator[dict[str, Any] | Failure]:
        outcomes = self._map(pipeline, items, inputs, ctx, output_name, ordered=True)
        return (outcome for _, outcome in outcomes)

    def map_unordered(
        self,
        pipeline: Pipeline,
        items: Iterable[Mapping[str, Any]],
        inputs: Mapping[str, Any],
        ctx: RunContext,
        output_name: OutputName = None,
    ) -> Iterator[tuple[int, dict[str, Any] | Failure]]:
        return self._map(pipeline, items, inputs, ctx, output_name, ordered=False)

    def _map(
        self,
        pipeline: Pipeline,
        items: Iterable[Mapping[str, Any]],
        inputs: Mapping[str, Any],
        ctx: RunContext,
        output_name: OutputName,
        *,
        ordered: bool,
    ) -> Iterator[tuple[int, dict[str, Any] | Failure]]:
        known = len(items) if isinstance(items, Sized) else 0
        found = self._open_items(pipeline, items, inputs, ctx, output_name)
        if found is None:
            return iter(())
        engine, items = found
        if self._is_occupied:
            return engine.attempt_all(inputs, items)
        release_flights()
        with Deferral():
            scheduler = self._scheduler(engine, ctx)
        return scheduler.map(engine, inputs, items, known, ordered=ordered)

    def close(self) -> None:
        """End the workers of this executor and its equals; the next run opens new ones."""
        REGISTRY.close(self)

    def _open_items(
        self,
        pipeline: Pipeline,
        items: Iterable[Mapping[str, Any]],
        inputs: Mapping[str, Any],
        ctx: RunContext,
        output_name: OutputName,
    ) -> tuple[PipelineExecutionEngine, Iterable[Mapping[str, Any]]] | None:
        """Return what runs the items of a map, and the items; None where there are none."""
        return open_items(pipeline, items, inputs, ctx, output_name)

    def _gains(self, engine: PipelineExecutionEngine) -> bool:
        """Whether a run is better off on workers than in the thread of the caller."""
        return engine.overlaps

    @property
    def _is_occupied(self) -> bool:
        """Whether a worker of an equal executor waits for the code that runs now."""
        occupied = OCCUPIED.get()
        return bool(occupied) and self in occupied

    def ground(self) -> Hashable | None:
        """Return where its workers are to be, as far as that is known before they are opened.

        See `Workers.ground`.
        """
        return None

    def _scheduler(self, engine: PipelineExecutionEngine, ctx: RunContext) -> Runner:
        # A node that was sent here from another executor is to run here, and not with its sender.
        occupied = OCCUPIED.get()
        if occupied and self.ground() in occupied:
            return _RightHere()
        workers = self._workers(engine, ctx)
        if workers.ground in occupied:  # hooks have had a say in it
            return _RightHere()
        return Scheduler(self, workers, inline=not ctx.away)

    def _workers(self, engine: PipelineExecutionEngine, ctx: RunContext) -> Workers:
        """Return the workers of this executor and its equals; open them if there are none."""
        workers = REGISTRY.of(self, partial(opened, self, ctx.config, self.open_with))
        workers.check(engine)
        return workers
