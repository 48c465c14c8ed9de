"""What a worker of a cluster does with a share of a remote map: the config's executor runs it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from hypernodes._cancel import CANCELLATION, Abandoned, Cancellation
from hypernodes._dispatch.session import Session
from hypernodes._engine.claims import CURSOR, LIMIT
from hypernodes._engine.failure import Failure, recall, renumbered
from hypernodes._engine.observing.relay import RelaySite
from hypernodes._engine.observing.runs import SCENE, Run
from hypernodes._engine.observing.stage import Stage
from hypernodes._engine.observing.witness import clock
from hypernodes._engine.results import close
from hypernodes._engine.shipping.events import OVER, PieceRecorder, Told, raised
from hypernodes._engine.shipping.work import finish, rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from hypernodes._engine.claims import Claims
    from hypernodes._engine.failure import Outcome
    from hypernodes._engine.observing.follower import Follower, Site
    from hypernodes._engine.observing.stage import Scenery
    from hypernodes._engine.observing.watched import Watched
    from hypernodes._engine.observing.witness import Record
    from hypernodes._engine.shipping.work import Job


class Share:
    """Items of a map, or a run, for the executor of their config.

    Args:
        job: What runs.
        body: The items by columns, and what is known of the pass of a run.
    """

    def __init__(self, job: Job, body: Any) -> None:
        items, self._pass_facts = body
        self._names, self.indices, self._columns = items
        self._job = job
        self._cancellation = Cancellation(between_steps=True)
        self._records: dict[int, list[Record]] = {}
        self._telling = threading.Lock()
        self._run: Run | None = None

    def stop(self) -> None:
        """Have the executor stop: nobody wants what it does."""
        self._cancellation.ask()

    def __call__(self, claims: Claims, append: Callable[[Any], None]) -> None:
        """Have the items run, as far as the driver has not taken them back.

        Args:
            claims: Where they are claimed.
            append: Takes outcomes as they come, with their places among the items.
        """
        CANCELLATION.set(self._cancellation)
        if self._job.scenery is not None:
            SCENE.set(self._site(self._job.scenery))
        left = dict.fromkeys(range(len(self.indices)))
        try:
            for place, outcome in self._outcomes(claims):
                del left[place]
                append((place, self._as_told(place, outcome)))
        except Abandoned:
            return
        except BaseException as error:  # noqa: BLE001 - ends the run, in the driver
            culprit = next((n for n in left if self._has_raised(n, error)), next(iter(left), None))
            if culprit is not None:
                with self._telling:
                    append((culprit, raised(error, self._records.get(culprit, []))))
            return
        finish(self._job)

    def _outcomes(self, claims: Claims) -> Iterator[tuple[int, Outcome]]:
        plan, inputs = self._job.engine.plan, self._job.inputs
        ctx, outputs = plan.request.ctx, tuple(plan.results)
        executor, items = ctx.config.executor, self._claimed(claims)
        if self.indices == [None]:
            for _ in items:
                yield 0, self._outcome()
            return
        outcomes = executor.map_unordered(plan.pipeline, items, inputs, ctx, outputs)
        try:
            for place, outcome in outcomes:
                yield place, self._numbered(place, outcome)
        finally:
            close(outcomes)

    def _numbered(self, place: int, outcome: Outcome) -> Outcome:
        """Return an outcome under the index that its item has in the driver."""
        if not isinstance(outcome, Failure):
            return outcome
        return renumbered(outcome, self._job.engine.plan.request.ctx.path, self.indices[place])

    def _outcome(self) -> Outcome:
        """Run the pipeline once."""
        plan = self._job.engine.plan
        ctx = plan.request.ctx
        run = ctx.config.executor.run_pipeline
        try:
            return run(plan.pipeline, self._job.inputs, ctx, tuple(plan.results))
        except Exception as error:  # noqa: BLE001 - whatever the user's function raised
            return recall(error, ctx.path) or Failure(error, path=ctx.path)

    def _claimed(self, claims: Claims) -> Iterator[Mapping[str, Any]]:
        """Yield items, each claimed as the executor takes it."""
        cells, base, begin = claims
        del begin
        for number, item in enumerate(rows(self._names, self._columns), base):
            cells[CURSOR] = number + 1
            if number >= cells[LIMIT]:
                return
            yield item

    # ------------------------------------------------------------ what is told

    def _site(self, scenery: Scenery) -> Site:
        """Return the site of what runs here, whose passes are recorded."""
        request = self._job.engine.plan.request
        session = Session()
        session.state.update(scenery.state)
        facts = scenery.pipeline, request.ctx, scenery.run_id, scenery.parent_run_id
        run = Run(session, *facts, is_map=scenery.mode == "map")
        run.begin(clock(), None)
        self._run = run
        return RelaySite(_Numbered(run, self.indices, self._pass_facts), self._recorder)

    def _recorder(self, place: int | None) -> PieceRecorder:
        place = place or 0
        scenery, index = self._job.scenery, self.indices[place]
        assert scenery is not None  # noqa: S101 - only where somebody observes
        records = self._records.setdefault(place, [])
        return PieceRecorder(records, Stage(self._job.engine.plan, scenery, index), index)

    def told(self) -> list[tuple[int, list[Record]]]:
        """Take what there is to be told of items that are under way; in any thread, one at a time.

        What tells of a failure goes with the outcome, which has the same error.
        """
        if self._job.scenery is None:
            return []
        with self._telling:
            self._count()
            found = [(place, _taken(each)) for place, each in tuple(self._records.items())]
        return [(place, records) for place, records in found if records]

    def _count(self) -> None:
        """Tell how far the maps are that are open inside of items."""
        if self._run is None:
            return
        numbers = self.indices if self._pass_facts is None else self._pass_facts[:1]
        with self._run.session.lock:
            for part in self._run.passes:
                records = self._records.get(numbers.index(part.index))
                if records is not None:
                    records.extend(part.news())

    def _as_told(self, place: int, outcome: Outcome) -> Any:
        if self._job.scenery is None:
            return outcome
        return Told(outcome, self._records.pop(place, []))

    def _has_raised(self, place: int, error: BaseException) -> bool:
        records = self._records.get(place, ())
        return any(fact is error for _, _, facts in records for fact in facts)


def _taken(records: list[Record]) -> list[Record]:
    """Take records from the first, up to one of an end or of a failure."""
    ends = (n for n, record in enumerate(records) if _is_of_outcome(record))
    count = next(ends, len(records))
    taken = records[:count]
    del records[:count]
    return taken


def _is_of_outcome(record: Record) -> bool:
    _, told, facts = record
    is_error = any(isinstance(fact, BaseException) for fact in facts)
    return told == OVER or (is_error and told != "node_retried")


class _Numbered:
    """A site whose items have the indexes that they have in the driver.

    Args:
        run: What follows the run, or map, here.
        indices: The indexes, by the place of the item.
        pass_facts: Of a run: the indexes of its pass, and under what steps were looked up.
    """

    def __init__(self, run: Run, indices: Sequence[int | None], pass_facts: Any) -> None:
        self.run = run
        self._indices = indices
        self._pass_facts = pass_facts

    def enter(self, engine: Watched, index: int | None = None) -> Follower:
        """Return who follows a pass."""
        if index is not None:
            return self.run.enter(engine, self.number(index))
        number, item_index, signatures = self._pass_facts
        entered = self.run.enter(engine, number)
        entered.item_index = item_index
        for step, signature in signatures.items():
            entered.missed(step, signature)
        return entered

    def number(self, index: int) -> int:
        """Return what an item is called in the driver."""
        number = self._indices[index]
        assert number is not None  # noqa: S101 - only items are asked for
        return number
