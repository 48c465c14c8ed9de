"""Workers elsewhere in the service of one run: what goes out is packed, what comes back is read."""

from __future__ import annotations

from abc import abstractmethod
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from hypernodes._engine.failure import Failure
from hypernodes._engine.shipping import blame, settings
from hypernodes._engine.shipping.errors import PackedFailure, unpack_error, unpack_failure
from hypernodes._engine.shipping.events import (
    News,
    Raised,
    Story,
    tell_segment,
    unpack_records,
)
from hypernodes._engine.shipping.keeping import Reference, beside
from hypernodes._engine.shipping.parcels import Parcel, unlink, unpack
from hypernodes._engine.shipping.sources import (
    MapSource,
    SegmentSource,
    Shipment,
    Source,
    Task,
)
from hypernodes._engine.workers import OCCUPIED, Crew, Workers
from hypernodes._home import loads_at_home
from hypernodes.config import current_config
from hypernodes.exceptions import SerializationError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping, Sequence

    from hypernodes._engine.failure import Given
    from hypernodes._engine.frame import Frame
    from hypernodes._engine.jobs import MapJob
    from hypernodes._engine.kernel import PipelineExecutionEngine
    from hypernodes._engine.observing.runs import Run
    from hypernodes._engine.observing.witness import Record
    from hypernodes._engine.segments import Segment
    from hypernodes._engine.shipping.events import Lost
    from hypernodes._engine.shipping.pace import Pace
    from hypernodes._engine.shipping.parcels import Packer
    from hypernodes._engine.workers import Post

    Take = Callable[[Source, Sequence[Any], Any, Any, Any], None]

NO_NEWS: Final = News()
MOST_AHEAD: Final = 16_384
AHEAD: Final = 512
"""Items for each worker, from which on a map takes no more ahead of its consumer."""


class Dispatcher(Workers):
    """Workers that get chunks of work from sources, and share no memory with this process.

    Args:
        packer: Makes parcels of what goes out.
        pace: What the pace of a map is before anything is known.

    Attributes:
        packer: Makes parcels of what goes out.
        renewed: Names and hashes of code for which workers were replaced: new ones have imported
            it anew.
        patience: For how many seconds of work items are taken ahead of a map's consumer.
    """

    packer: Packer
    patience: float = 0.008
    renewed: frozenset[tuple[str, str]] = frozenset()

    def crew(self, executor: Hashable, post: Post) -> Crew:
        return ShippingCrew(self, executor, post)

    def __init__(self, packer: Packer, pace: Pace) -> None:
        self.packer = packer
        self._pace = pace
        self._paces: WeakKeyDictionary[PipelineExecutionEngine, Pace] = WeakKeyDictionary()

    def pace(self, engine: PipelineExecutionEngine) -> Pace:
        """Return what says how many items of a new map a chunk should hold."""
        pace = self._paces[engine] = self._paces.get(engine, self._pace).again()
        return pace

    @abstractmethod
    def offer(self, source: Source) -> None:
        """See to what waits in `source`; may be said again and again."""

    @abstractmethod
    def drop(self, source: Source) -> None:
        """Forget `source`, which has been closed."""

    def adopted(self, given: Any) -> Any:
        """Return what a segment gives, with references to what has stayed where it was made."""
        return given


class ShippingCrew(Crew):
    """Sends chunks to workers that share no memory with this process; see `Crew`."""

    takes_columns = True

    def __init__(self, pool: Dispatcher, executor: Hashable, post: Post) -> None:
        self._pool = pool
        self.patience = pool.patience
        self.farthest = self.at_hand = max(MOST_AHEAD, AHEAD * pool.size)
        self._post = post
        self._facts = current_config(), OCCUPIED.get() | {executor, pool.ground} - {None}
        self._settings: Parcel | None = None
        self._engines: dict[int, Parcel] = {}
        self._segments: dict[tuple[int, int], tuple[SegmentSource, Any]] = {}
        self._maps: dict[MapJob, MapSource] = {}
        self._unread: dict[int, list[Parcel]] = {}
        self._twins: dict[int, tuple[Any, Reference]] = {}
        self._running = 0

    @property
    def is_idle(self) -> bool:
        maps = self._maps.values()
        return not (self._running or self._unread or any(s.waiting or s.flying for s in maps))

    def takes_items(self, engine: PipelineExecutionEngine) -> bool:
        return not engine.is_tied

    def run_segment(
        self, frame: Frame, segment: Segment, then: Callable[[Given], None], *, alone: bool
    ) -> None:
        # Also what is alone runs in a worker: who chooses processes wants nodes apart from here.
        del alone
        taken = frame.arguments(segment)
        if segment.index < 0:  # no step of the plan: nothing for another process
            then(frame.engine.attempt_segment(segment.index, taken, frame.index))
            return
        then = frame.kept_here(segment, taken, then)
        source = self._segment_source(frame)
        shared = {*frame.engine.plan.shared.values(), *frame.engine.plan.constants}
        values = {s: self._nearest(value) for s, value in taken.items() if s not in shared}
        task = Task(segment.index, frame.index, values, then, frame.is_open, frame.witness)
        source.tasks.append(task)
        self._running += 1
        self._pool.offer(source)

    def serve(self, job: MapJob) -> None:
        source = self._maps.get(job)
        if source is None:
            run = None if job.enter is None else job.enter.run
            facts = self._source_facts(job.engine, job.inputs, self._take_items, run)
            source = self._source_of(job, facts)
            self._maps[job] = source
        self._pool.offer(source)

    def close(self, *, over: bool) -> None:
        del over  # no more than drops what is left
        sources: list[Source] = [*self._maps.values()]
        sources += [source for source, _ in self._segments.values()]
        for source in sources:
            source.close()
            self._pool.drop(source)
        for parcel in self._engines.values():
            unlink(parcel.files)
        for parcels in list(self._unread.values()):
            unlink(path for parcel in parcels for path in parcel.files)
        self._segments.clear()
        self._maps.clear()
        self._twins.clear()

    # ------------------------------------------------------------ what goes out

    def _source_of(self, job: MapJob, facts: tuple[Any, ...]) -> MapSource:
        """Return what the items of a map are taken from."""
        return MapSource(job, self._pool.pace(job.engine), *facts)

    def _segment_source(self, frame: Frame) -> SegmentSource:
        key = id(frame.engine), id(frame.inputs)
        if key not in self._segments:
            run = None if frame.witness is None else frame.witness.run
            facts = self._source_facts(frame.engine, frame.inputs, self._take_given, run)
            source = SegmentSource(frame.engine, *facts)
            self._segments[key] = source, frame.inputs  # kept, so that its id stays its own
        return self._segments[key][0]

    def _source_facts(
        self,
        engine: PipelineExecutionEngine,
        inputs: Mapping[str, Any],
        take: Take,
        run: Run | None,
    ) -> tuple[Any, ...]:
        shipment = self._shipment(engine, inputs, run)
        notify = partial(self._notify, engine, inputs)
        return shipment, self._pool.packer, partial(self._deliver, take), self._stop, notify

    def _shipment(
        self, engine: PipelineExecutionEngine, inputs: Mapping[str, Any], run: Run | None
    ) -> Shipment:
        """Pack what all pieces share.

        Raises:
            SerializationError: A function or a shared input cannot travel.
        """
        packer = self._pool.packer
        if self._settings is None:
            self._settings = packer.pack(settings.current())
        parcel = self._engines.get(id(engine))
        if parcel is None:
            parcel = self._engines[id(engine)] = self._packed_engine(engine)
        shared = engine.shared_inputs(inputs)
        try:
            packed = packer.pack(shared)
        except Exception as error:
            raise blame.input_error(engine, shared, error, packer) from error
        scene = None if run is None else run.told()
        facts = packer.pack_code((*self._facts, self._pool.renewed, scene))
        return Shipment(self._settings, (parcel, packed, facts))

    def _packed_engine(self, engine: PipelineExecutionEngine) -> Parcel:
        packer = self._pool.packer
        try:
            return packer.pack_code(engine)
        except Exception as error:
            raise blame.code_error(engine, error, packer) from error

    # ------------------------------------------------------------ what comes back

    def _deliver(
        self,
        take: Take,
        source: Source,
        entries: Sequence[Any],
        found: Parcel | Given,
        news: News = NO_NEWS,
    ) -> None:
        """Send outcomes on to the scheduler's thread; called by the dispatcher."""
        if isinstance(found, Parcel):
            parcels = [found] if news.parcel is None else [found, news.parcel]
            self._unread[id(entries)] = parcels
            if source.closed:  # just now, perhaps after the unread ones were looked through
                unlink(path for parcel in parcels for path in parcel.files)
        self._post(partial(self._read, take, source, entries, found, news))

    def _read(
        self,
        take: Take,
        source: Source,
        entries: Sequence[Any],
        found: Parcel | Given,
        news: News,
    ) -> None:
        if not isinstance(found, Parcel):
            take(source, entries, [found], [None], news.lost)
            return
        try:
            outcomes = _outcomes(source, entries, found)
            told = None if news.parcel is None else unpack_records(news.parcel)
        finally:
            del self._unread[id(entries)]
        take(source, entries, outcomes, told or [None] * len(entries), news.lost)

    def _take_items(
        self,
        source: Any,
        entries: Sequence[Any],
        outcomes: list[Any],
        told: list[list[Record] | None],
        lost: Sequence[Lost],
    ) -> None:
        job = source.job
        kinds = set(map(type, outcomes))
        if Failure in kinds:
            for place, outcome in enumerate(outcomes):
                if type(outcome) is Failure:
                    index = entries[place]
                    outcomes[place] = outcome.at_item(index, job.items[index])
        if job.enter is not None:
            for index, outcome, records in zip(entries, outcomes, told, strict=True):
                source.tell(index, job.items[index], Story(outcome, records, lost))
        if Raised in kinds:
            _end_by(outcomes)
        job.items.drop(entries)
        job.receive(entries, outcomes)
        if job.is_over and self._maps.pop(job, None) is not None:
            source.close()
            self._pool.drop(source)

    def _take_given(
        self,
        source: Source,
        entries: Sequence[Any],
        outcomes: list[Any],
        told: list[list[Record] | None],
        lost: Sequence[Lost],
    ) -> None:
        for task, given, records in zip(entries, outcomes, told, strict=True):
            self._running -= 1
            if task.witness is not None:
                story = Story(given, records, lost)
                tell_segment(task.witness, source.engine, task.number, story)
            if type(given) is Raised:
                _end_by([given])
            task.then(self._adopted(given))

    def _adopted(self, given: Any) -> Any:
        """Return what a segment gives; note which of it is also where it was made."""
        given = self._pool.adopted(given)
        if type(given) is dict:
            for place in [p for p, value in given.items() if p < 0 and type(value) is Reference]:
                value = given[beside(place)]
                self._twins[id(value)] = value, given.pop(place)
        return given

    def _nearest(self, value: Any) -> Any:
        """Return what stands for a value where it was made, if it is there; else the value."""
        _, reference = self._twins.get(id(value), (None, None))
        return value if reference is None or reference.lost else reference

    def _notify(
        self,
        engine: PipelineExecutionEngine,
        inputs: Mapping[str, Any],
        method: str,
        *facts: Any,
    ) -> None:
        self._post(partial(getattr(engine, method), inputs, *facts))

    def _stop(self, error: BaseException) -> None:
        self._post(partial(_raise, error))


def _raise(error: BaseException) -> None:
    raise error


def _end_by(outcomes: list[Any]) -> None:
    """Raise what one of some outcomes ends the run with."""
    raise next(outcome.error for outcome in outcomes if type(outcome) is Raised)


def _outcomes(source: Source, entries: Sequence[Any], parcel: Parcel) -> list[Any]:
    """Return the outcomes in a parcel, in the order of the entries."""
    try:
        found = unpack(parcel, loads=loads_at_home)
    except Exception as error:  # noqa: BLE001 - whatever the user's classes raise
        return [_unreadable(source, entry, error) for entry in entries]
    if isinstance(found, tuple):
        names, columns, count = found
        if len(names) == 1:
            (name,) = names
            return [{name: value} for value in columns[0]]
        rows = zip(*columns, strict=True) if names else [()] * count
        return [dict(zip(names, row, strict=True)) for row in rows]
    indices = map(source.index_of, entries)
    return [_outcome(value, index) for value, index in zip(found, indices, strict=True)]


def _outcome(value: Any, index: int | None) -> Any:
    if isinstance(value, dict):
        return value
    if isinstance(value, PackedFailure):
        return unpack_failure(value, index)
    return Raised(unpack_error(value.error))


def _unreadable(source: Source, entry: Any, cause: Exception) -> Failure:
    index, step = source.index_of(entry), source.steps_of(entry)[-1]
    message = (
        f"node {step.node.name!r}: its output cannot be read in this process "
        f"({type(cause).__name__}: {cause}); return what can be pickled and unpickled"
    )
    error = SerializationError(message, node=step.node.name, name=None, index=index)
    error.__cause__ = cause
    return source.engine.failure(error, step, index)
