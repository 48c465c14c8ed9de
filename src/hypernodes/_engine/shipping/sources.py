"""Where the pool gets chunks from: the items of one map, or the segments of one plan."""

from __future__ import annotations

import heapq
import itertools
import time
from abc import ABC, abstractmethod
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from hypernodes._engine.batches import as_run
from hypernodes._engine.shipping import blame
from hypernodes._engine.shipping.chunk import Chunk
from hypernodes._engine.shipping.deaths import (
    Death,
    Trouble,
    delay_before_next,
    failure_of,
    fruitless_error,
)
from hypernodes._engine.shipping.errors import PackedError, unpack_error
from hypernodes._engine.shipping.events import News, Story, tell_item
from hypernodes._engine.shipping.keeping import Missing, Reference
from hypernodes._engine.shipping.parcels import Packer, Parcel, unlink

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from hypernodes._engine.failure import Failure
    from hypernodes._engine.jobs import MapJob
    from hypernodes._engine.kernel import PipelineExecutionEngine
    from hypernodes._engine.observing.follower import Follower
    from hypernodes._engine.plan import Slot, Step
    from hypernodes._engine.shipping.pace import Pace

TOKENS: Final = itertools.count(1)
MOST_FRUITLESS: Final = 3


class Shipment(NamedTuple):
    """What a worker is sent before its first chunk of a source.

    Attributes:
        settings: Where the driver is.
        parcels: The engine, the shared inputs, and what is in force.
    """

    settings: Parcel
    parcels: tuple[Parcel, ...]

    @property
    def files(self) -> tuple[str, ...]:
        """Where its big parts lie."""
        return tuple(path for parcel in self.parcels for path in parcel.files)


class Source(ABC):
    """Pieces of work that share an engine and inputs.

    All but `close` and what only reads is called by the pool's dispatcher.

    Args:
        engine: What runs them.
        shipment: What a worker needs first.
        packer: Packs them.
        deliver: Takes pieces, their outcomes, in a parcel or as a failure each, and perhaps the
            news of them.
        stop: Takes what ends the run.
        notify: Takes what workers have to say of the code and of caches: the name of a method of
            the engine, and what to call it with.
    """

    def __init__(  # noqa: PLR0917 - as `ProcessCrew` collects them
        self,
        engine: PipelineExecutionEngine,
        shipment: Shipment,
        packer: Packer,
        deliver: Callable[..., None],
        stop: Callable[[BaseException], None],
        notify: Callable[..., None],
    ) -> None:
        self.engine = engine
        self.shipment = shipment
        self.token = next(TOKENS)
        self.careful_token = next(TOKENS)
        self.closed = False
        self.flying = 0
        self.stop = stop
        self.notify = notify
        self._packer = packer
        self._deliver = deliver
        self._alone: list[tuple[float, int, Any, Trouble]] = []
        self._order = itertools.count()
        self._fruitless = 0
        self._fruitless_at = 0.0

    @property
    @abstractmethod
    def waiting(self) -> int:
        """How many pieces wait to be handed out for the first time."""

    @property
    def is_new(self) -> bool:
        """Whether no chunk of several pieces has come back yet."""
        return False

    @abstractmethod
    def _next(self, workers: int, *, behind: bool, most: int) -> Sequence[Any]:
        """Return pieces to be handed out together, if any."""

    @abstractmethod
    def _pack(self, entries: Sequence[Any]) -> Parcel:
        """Return pieces, ready to travel."""

    def _references(self, entries: Sequence[Any]) -> Mapping[Slot, Reference]:
        """Return which values of pieces stay where they were made, by slot."""
        del entries
        return {}

    @abstractmethod
    def _unpackable(self, entry: Any, cause: Exception) -> Failure:
        """Return the failure of a piece that cannot travel."""

    @abstractmethod
    def _return(self, entries: Sequence[Any]) -> None:
        """Take back pieces that have not run."""

    @abstractmethod
    def index_of(self, entry: Any) -> int | None:
        """Return the index of a piece's item."""

    @abstractmethod
    def steps_of(self, entry: Any) -> list[Step]:
        """Return the steps that a piece runs."""

    @abstractmethod
    def learn(self, chunk: Chunk, seconds: float) -> None:
        """Take in what a chunk took."""

    def take(self, workers: int, *, behind: bool, most: int, alone: bool = True) -> Chunk | None:
        """Return the next chunk, or None.

        Args:
            workers: How many workers there are to share what waits.
            behind: Whether it would wait behind others.
            most: How many pieces it may have.
            alone: Whether it may be a piece that has to run alone.
        """
        while alone and not behind and self._alone and self._alone[0][0] <= time.monotonic():
            _, _, entry, trouble = heapq.heappop(self._alone)
            chunk = self._made([entry])
            if chunk is not None:
                chunk.trouble = trouble
                return chunk
        while entries := self._next(workers, behind=behind, most=most):
            chunk = self._made(entries)
            if chunk is not None:
                return chunk
        return None

    @property
    def due(self) -> float | None:
        """When the next piece that runs alone may run, on the monotonic clock."""
        return self._alone[0][0] if self._alone else None

    def needs_idle(self, now: float) -> bool:
        """Whether something waits that only an idle worker takes.

        Args:
            now: The time on the monotonic clock.
        """
        return bool(self._alone) and self._alone[0][0] <= now

    @property
    def is_told(self) -> bool:
        """Whether somebody wants to hear of pieces that are under way, and workers tell of them."""
        return False

    def hear(self, entries: Sequence[Any], told: Parcel) -> None:
        """Pass on what there is to be told of pieces that are under way."""
        # Workers tell early only of what `is_told`: nobody calls it for other sources.
        raise NotImplementedError

    def _made(self, entries: Sequence[Any]) -> Chunk | None:
        """Return a chunk of those `entries` that can travel; the others fail."""
        try:
            return Chunk(self, entries, self._pack(entries), self._references(entries))
        except Exception as error:  # noqa: BLE001 - whatever the user's classes raise
            if len(entries) == 1:
                self._deliver(self, entries, self._unpackable(entries[0], error))
                return None
        except BaseException as error:  # noqa: BLE001 - other runs have no part in it
            self.stop(error)
            return None
        good = [entry for entry in entries if self._travels(entry)]
        return Chunk(self, good, self._pack(good)) if good else None

    def _travels(self, entry: Any) -> bool:
        try:
            unlink(self._pack([entry]).files)
        except Exception as error:  # noqa: BLE001 - whatever the user's classes raise
            self._deliver(self, [entry], self._unpackable(entry, error))
            return False
        return True

    def receive(self, chunk: Chunk, count: int, parcel: Parcel, records: Parcel | None) -> None:
        """Pass on the outcomes of the next `count` pieces of a chunk, and the records of them."""
        self._fruitless = 0
        entries = chunk.entries[chunk.received : chunk.received + count]
        chunk.received += count
        lost = chunk.trouble.lost if chunk.trouble is not None else ()
        self._deliver(self, entries, parcel, News(records, lost))

    def put_back(self, chunk: Chunk, entries: Sequence[Any]) -> None:
        """Take back pieces of a chunk that have not run."""
        if self.closed or not entries:
            return
        if chunk.trouble is not None:
            self._run_alone(entries[0], chunk.trouble)
        else:
            self._return(entries)

    def unreadable(self, chunk: Chunk, packed: PackedError) -> None:
        """Take back a chunk that its worker could not read: it goes piece by piece."""
        entries = chunk.entries
        if len(entries) != 1:  # none, where they had been taken back by then
            for entry in entries:
                self._run_alone(entry, Trouble())
            return
        cause: Any = unpack_error(packed)
        self._deliver(self, entries, self._unpackable(entries[0], cause))

    def unloadable(self, packed: PackedError) -> None:
        """End the run: no worker can read its plan or what all its pieces share."""
        if not self.closed:
            cause: Any = unpack_error(packed)
            self.stop(blame.load_error(self.engine, cause, packed.module))

    def bury_fruitless(self, born: float) -> None:
        """Count a worker that died without having run a piece; too many in a row end the run.

        Args:
            born: When it was started, or sent what it died of: what ends several at once counts
                once.
        """
        if born <= self._fruitless_at:
            return
        self._fruitless_at = time.monotonic()
        self._fruitless += 1
        if self._fruitless >= MOST_FRUITLESS and not self.closed:
            self.stop(fruitless_error())

    def bury_read(self, chunk: Chunk) -> None:
        """Decide about a chunk whose worker died while it read it, or packed what it gave."""
        entries = chunk.entries[chunk.received :]
        if len(chunk.entries) == 1:
            self.bury(chunk, chunk.entries[0], Death())
            return
        for entry in entries:
            self._run_alone(entry, Trouble())

    def miss(self, chunk: Chunk) -> None:
        """Give back a piece some of whose values have been lost; only segments have such values."""
        # Only chunks with references are missed, and items have none: nobody calls it here.
        raise NotImplementedError

    def suspect(self, chunk: Chunk, ran: int, death: Death, *, charged: bool) -> None:
        """Decide about a chunk one of whose pieces ran when its worker died, nobody knows which.

        Args:
            chunk: The chunk.
            ran: The place of the piece that announced an attempt last.
            death: Which attempt that was: those before it have been made.
            charged: Whether that counts as a crash of each piece; else of none.
        """
        left = chunk.entries[chunk.received :]
        for place, entry in enumerate(left, chunk.received):
            trouble = Trouble(crashes=int(charged))
            if place == ran:
                trouble.spent[death.path, death.ordinal] = max(0, death.attempt - 1)
            self._run_alone(entry, trouble)

    def bury(self, chunk: Chunk, entry: Any, death: Death) -> None:
        """Decide about the piece that ran when its worker died."""
        if self.closed:
            return
        trouble = chunk.trouble or Trouble()
        again = delay_before_next(trouble, death)
        if again is None:
            failure = failure_of(self.index_of(entry), self.steps_of(entry), trouble, death)
            self._deliver(self, [entry], failure, News(lost=trouble.lost))
        else:
            self._run_alone(entry, trouble, delay=again)

    def _run_alone(self, entry: Any, trouble: Trouble, delay: float = 0.0) -> None:
        if not self.closed:
            due = time.monotonic() + delay
            heapq.heappush(self._alone, (due, next(self._order), entry, trouble))

    def close(self) -> None:
        """Drop what waits; nothing is delivered any more."""
        self.closed = True
        unlink(self.shipment.files)


class MapSource(Source):
    """The items of a map that wait in its job; its pieces are their indexes."""

    def __init__(self, job: MapJob, pace: Pace, *args: Any) -> None:
        super().__init__(job.engine, *args)
        self.job = job
        self._pace = pace

    @property
    def waiting(self) -> int:
        return len(self.job.pending)

    @property
    def is_new(self) -> bool:
        return not self._pace.is_timed

    def _next(self, workers: int, *, behind: bool, most: int) -> Sequence[Any]:
        pending = self.job.pending
        count = min(self._count(workers), most)
        if behind and not self._pace.may_wait(count):
            return []
        entries: list[Any] = []
        # The scheduler may drop what waits at any moment.
        with suppress(IndexError):
            entries.extend(map(deque.popleft, itertools.repeat(pending, count)))
        return as_run(entries)

    def _count(self, workers: int) -> int:
        """Return how many items the next chunk should have."""
        waiting = self.waiting
        return self._pace.count(waiting, workers, len(self.job.items) - waiting)

    def _pack(self, entries: Sequence[Any]) -> Parcel:
        names, columns = self.job.items.columns(entries)
        parcel = self._packer.pack(self._described((names, self._numbers(entries), columns)))
        self._pace.weigh(len(entries), parcel.size)
        return parcel

    def _numbers(self, entries: Sequence[Any]) -> Sequence[Any]:
        """Return what items are called where they are observed."""
        enter = self.job.enter
        return entries if enter is None or entries == [None] else list(map(enter.number, entries))

    def _described(self, items: tuple[Any, ...]) -> tuple[str, Any]:
        """Return what a worker is told of some items: what to do with them, and they themselves."""
        return "items", items

    def _unpackable(self, entry: Any, cause: Exception) -> Failure:
        item = self.job.items[entry]
        return blame.item_failure(self.engine, item, entry, cause, self._packer)

    def _return(self, entries: Sequence[Any]) -> None:
        self.job.pending.extendleft(reversed(entries))

    def index_of(self, entry: Any) -> int | None:
        return entry  # type: ignore[no-any-return]

    def steps_of(self, entry: Any) -> list[Step]:
        del entry
        plan = self.engine.plan
        return list((plan.inside or plan).steps)

    def receive(self, chunk: Chunk, count: int, parcel: Parcel, records: Parcel | None) -> None:
        self._pace.weigh(count, parcel.size + (0 if records is None else records.size))
        super().receive(chunk, count, parcel, records)

    def learn(self, chunk: Chunk, seconds: float) -> None:
        if chunk.received:
            self._pace.learn(chunk.received, seconds)

    def tell(self, entry: Any, item: Mapping[str, Any], story: Story) -> None:
        """Tell of an item that is over; called by the scheduler, where somebody observes."""
        assert self.job.enter is not None  # noqa: S101 - somebody does
        tell_item(self.job.enter(entry), self.engine, self.job.inputs, item, story)


class Task(NamedTuple):
    """A segment that waits for a worker.

    Attributes:
        number: The segment's index.
        item: The item's index, or None.
        values: What it takes and does not share with others.
        then: Takes what it gives.
        is_wanted: Tells whether its run or item goes on.
        witness: Who is told, if somebody observes.
    """

    number: int
    item: int | None
    values: Mapping[Slot, Any]
    then: Callable[[Any], None]
    is_wanted: Callable[[], bool]
    witness: Follower | None = None

    @property
    def told(self) -> tuple[Any, ...] | None:
        """What its worker has to know of the pass that it belongs to, if somebody observes."""
        witness = self.witness
        return None if witness is None else (witness.index, witness.item_index, witness.signatures)


class SegmentSource(Source):
    """The segments of a plan that are ready."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.tasks: deque[Task] = deque()

    @property
    def waiting(self) -> int:
        return len(self.tasks)

    def needs_idle(self, now: float) -> bool:
        return bool(self.tasks) or super().needs_idle(now)

    def _next(self, workers: int, *, behind: bool, most: int) -> Sequence[Any]:
        del workers, most
        if behind:
            return []
        while self.tasks:
            task = self.tasks.popleft()
            if task.is_wanted():
                return [task]
            self._deliver(self, [task], {})
        return []

    def _pack(self, entries: Sequence[Any]) -> Parcel:
        task = entries[0]
        values = {s: v for s, v in task.values.items() if type(v) is not Reference}
        return self._packer.pack(("segment", (task.number, values, task.item, task.told)))

    def _references(self, entries: Sequence[Any]) -> Mapping[Slot, Reference]:
        return {s: v for s, v in entries[0].values.items() if type(v) is Reference}

    def miss(self, chunk: Chunk) -> None:
        """Give back a segment some of whose values have been lost with a worker."""
        task = chunk.entries[0]
        values = task.values.items()
        held = {s: v for s, v in values if not (type(v) is Reference and v.lost)}
        self._deliver(self, [task], Missing(held))

    def _unpackable(self, entry: Any, cause: Exception) -> Failure:
        task = entry.number, entry.values, entry.item
        return blame.values_failure(self.engine, *task, cause, packer=self._packer)

    def _return(self, entries: Sequence[Any]) -> None:
        self.tasks.extendleft(reversed(entries))

    def index_of(self, entry: Any) -> int | None:
        return entry.item  # type: ignore[no-any-return]

    def steps_of(self, entry: Any) -> list[Step]:
        return list(self.engine.segments[entry.number].steps)

    def learn(self, chunk: Chunk, seconds: float) -> None:
        """Take nothing in: segments travel one by one."""
