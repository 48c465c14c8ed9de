"""Whole pipelines on a cluster: shares of a map, and runs, go to the executors of its workers."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any

from hypernodes._engine.clusters.pool import ClusterPool
from hypernodes._engine.jobs import Receiver
from hypernodes._engine.observing.passes import Entrance
from hypernodes._engine.scheduler import Scheduler
from hypernodes._engine.shipping.crew import ShippingCrew
from hypernodes._engine.shipping.events import unpack_records
from hypernodes._engine.shipping.sources import MapSource
from hypernodes._engine.shipping.tales import Tale
from hypernodes._engine.workers import MOST_AHEAD, OCCUPIED
from hypernodes.abc import Backend
from hypernodes.config import current_config

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from hypernodes._engine.clusters.cluster import Cluster
    from hypernodes._engine.failure import Outcome
    from hypernodes._engine.jobs import MapJob
    from hypernodes._engine.kernel import PipelineExecutionEngine
    from hypernodes._engine.observing.follower import Follower
    from hypernodes._engine.observing.runs import Run
    from hypernodes._engine.observing.watched import Watched
    from hypernodes._engine.shipping.deaths import Trouble
    from hypernodes._engine.shipping.events import Story
    from hypernodes._engine.shipping.pace import Pace
    from hypernodes._engine.shipping.parcels import Parcel
    from hypernodes._engine.workers import Crew, Post
    from hypernodes.abc import Executor


class RemotePool(ClusterPool):
    """A pool whose chunks are shares: a worker hands them to the executor of their config.

    Args:
        cluster: Runs them; the pool closes it in the end.
    """

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster, chunksize=None)
        self.bears: bool = cluster.bears()

    def crew(self, executor: Hashable, post: Post) -> Crew:
        return _RemoteCrew(self, executor, post)


class RemoteScheduler(Scheduler):
    """Drives a run, or a map, that goes to a cluster whole.

    What is kept in this process only has to be looked up here, node by node: then nodes travel.

    Args:
        backend: Whose workers they are.
        pool: The workers.
        executor: What runs shares there.
    """

    def __init__(self, backend: Backend, pool: RemotePool, executor: Executor) -> None:
        super().__init__(backend, pool, inline=False)
        self._size = min(MOST_AHEAD, self._size * _width(executor))

    def run(self, engine: PipelineExecutionEngine, inputs: Mapping[str, Any]) -> Outcome:
        if not self._crew.takes_items(engine):
            return super().run(engine, inputs)
        outcome = _Outcome()
        job = self._job(engine, inputs, outcome, 1, _present(engine))
        try:
            with self._inbox.open():
                self._add(job, {None: {}})  # type: ignore[dict-item] # what is no item has no index
                while not outcome.found:
                    self._inbox.handle()
        finally:
            self._close(job, over=bool(outcome.found))
        return outcome.found[0]

    def _is_apart(self, engine: PipelineExecutionEngine, count: int) -> bool:
        del count
        return not self._crew.takes_items(engine)


class _Outcome(Receiver):
    """Gets the outcome of a run."""

    def __init__(self) -> None:
        self.found: list[Outcome] = []

    def put(self, index: int | None, outcome: Outcome) -> None:
        del index
        self.found.append(outcome)


def _present(engine: PipelineExecutionEngine) -> Entrance | None:
    """Return what gives who is told of a run in the current scene."""
    present = engine.present(None)
    return None if present is None else Entrance(_Present(present), engine)


class _Present:
    """The site of one pass.

    Args:
        follower: Who is told of it.
    """

    def __init__(self, follower: Follower) -> None:
        self._follower = follower

    @property
    def run(self) -> Run:
        """The run that it belongs to."""
        return self._follower.run

    def enter(self, engine: Watched, index: int | None = None) -> Follower:
        """Return who is told."""
        del engine, index
        return self._follower

    def number(self, index: int) -> int:
        """Return what an item is called; a run has none."""
        return index


class _Shares(MapSource):
    """The items of a map, or a run, on their way to executors."""

    def __init__(self, job: MapJob, pace: Pace, post: Post, *args: Any) -> None:
        super().__init__(job, pace, *args)
        self._post = post
        self._tales: dict[int, Tale] = {}
        self._width = _width(job.engine.plan.request.ctx.config.executor)

    def _count(self, workers: int) -> int:
        """Return how many items the next share should have: enough for the executor to overlap."""
        fair = math.ceil(self.waiting / workers)
        return max(super()._count(workers), min(self._width, fair))

    def _described(self, items: tuple[Any, ...]) -> tuple[str, Any]:
        _, entries, _ = items
        enter = self.job.enter
        if enter is None or entries != [None]:
            return "share", (items, None)
        witness = enter(None)
        return "share", (items, (witness.index, witness.item_index, witness.signatures))

    # ------------------------------------------------------------ what is told while they run

    @property
    def is_told(self) -> bool:
        return self.job.enter is not None

    def hear(self, entries: Sequence[Any], told: Parcel) -> None:
        self._post(partial(self._go_on, entries, told))

    def _go_on(self, entries: Sequence[Any], told: Parcel) -> None:
        """Tell what workers tell of items that are under way; in the scheduler's thread."""
        if self.closed:
            return
        for entry, records in zip(entries, unpack_records(told), strict=True):
            if entry not in self._tales:
                self._tales[entry] = self._tale(entry)
            self._tales[entry].go_on(records)

    def _tale(self, entry: int) -> Tale:
        job = self.job
        assert job.enter is not None  # noqa: S101 - somebody observes
        return Tale(job.enter(entry), self.engine, job.items[entry])

    def _return(self, entries: Sequence[Any]) -> None:
        self._lose(entries)
        super()._return(entries)

    def _run_alone(self, entry: Any, trouble: Trouble, delay: float = 0.0) -> None:
        self._lose([entry], delay)
        super()._run_alone(entry, trouble, delay)

    def _lose(self, entries: Sequence[Any], delay: float = 0.0) -> None:
        if self.is_told:
            self._post(partial(self._tell_lost, entries, delay))

    def _tell_lost(self, entries: Sequence[Any], delay: float) -> None:
        for entry in entries:
            if entry in self._tales and not self.closed:
                self._tales[entry].lose(delay)

    def tell(self, entry: Any, item: Mapping[str, Any], story: Story) -> None:
        tale = self._tales.pop(entry, None)
        if tale is None:
            super().tell(entry, item, story)
        else:
            tale.end(story)


class _RemoteCrew(ShippingCrew):
    """Sends shares to a cluster, for one run or map."""

    def __init__(self, pool: RemotePool, executor: Hashable, post: Post) -> None:
        super().__init__(pool, executor, post)
        # Executors that wait for this code have workers here; there they have others.
        around = {each for each in OCCUPIED.get() if isinstance(each, Backend)}
        self._facts = current_config(), frozenset(around | {executor})

    def _source_of(self, job: MapJob, facts: tuple[Any, ...]) -> MapSource:
        return _Shares(job, self._pool.pace(job.engine), self._post, *facts)


def _width(executor: Any) -> int:
    """Return how many items an executor may have under way at once, as far as it says."""
    mapping = getattr(executor, "map_executor", executor)
    for name in ("max_concurrency", "max_workers"):
        if name in type(mapping).model_fields:
            return getattr(mapping, name) or MOST_AHEAD
    return 1
