"""Events on their way back from a worker: records that always unpickle, and what is added here."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from hypernodes._engine.failure import Failure
from hypernodes._engine.observing.witness import Record, Recorder, clock, replay
from hypernodes._engine.shipping.errors import PackedError, pack_error, unpack_error
from hypernodes._engine.shipping.parcels import check_readable, unpack
from hypernodes._home import loads_at_home
from hypernodes.exceptions import NodeTimeoutError

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping, Sequence

    from hypernodes._dispatch.place import Worker
    from hypernodes._engine.failure import Outcome
    from hypernodes._engine.kernel import PipelineExecutionEngine
    from hypernodes._engine.observing.stage import Stage
    from hypernodes._engine.observing.witness import Witness
    from hypernodes._engine.plan import Step
    from hypernodes._engine.shipping.parcels import Packer, Parcel

OVER = "over"
"""Told at the end of an item: its outcome, which travels by itself, says the rest."""


class Withheld:
    """Stands for a value that a callback has asked for and that cannot travel.

    Args:
        kind: The name of its type.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __repr__(self) -> str:
        return f"<a {self.kind}, which cannot leave its worker>"


class Told(NamedTuple):
    """What a piece of work gave, and the records of it."""

    outcome: Any
    records: list[Record]


NOTHING: Final[Mapping[int, str]] = MappingProxyType({})


class Raised(NamedTuple):
    """What ends a run, and is no failure of an item.

    Attributes:
        error: What was raised; on its way it is packed.
    """

    error: Any


class _Surfacing:
    """Stands for the error that a piece has failed with: it travels with the outcome."""


class Lost(NamedTuple):
    """A failed attempt at a node of which its worker can tell no more.

    Attributes:
        path: The node.
        error: Why its worker is gone.
        attempt: Which attempt it was.
        delay: After how many seconds another one is made.
    """

    path: tuple[str, ...]
    error: BaseException
    attempt: int
    delay: float


class Story(NamedTuple):
    """How a piece of work went.

    Attributes:
        outcome: What it gave.
        records: What its worker tells; None if that is gone.
        lost: The attempts of others.
    """

    outcome: Any
    records: list[Record] | None
    lost: Sequence[Lost] = ()


UNDER_WAY: Final = Story(None, None)


class News(NamedTuple):
    """What there is to be told of some pieces.

    Attributes:
        parcel: Their records.
        lost: Attempts that were made by workers that are gone, if it is one piece.
    """

    parcel: Parcel | None = None
    lost: Sequence[Lost] = ()


# ---------------------------------------------------------------- in the worker


class PieceRecorder(Recorder):
    """Makes the records of a piece, without what the driver knows: an item and its outcome.

    Args:
        records: Where they are put.
        stage: What is known here of the runs.
        item_index: See `Witness`.
        signatures: Under what steps were looked up in the driver.
    """

    def __init__(
        self,
        records: list[Record],
        stage: Stage,
        item_index: int | None,
        signatures: Mapping[int, str] = NOTHING,
    ) -> None:
        super().__init__(records.append, stage, item_index)
        self._records = records
        self._signatures.update(signatures)

    def started(self, when: float, item: Any, given: Any, worker: Worker | None = None) -> None:
        del item
        super().started(when, None, given, worker)

    def ended(self, *facts: Any) -> None:
        self._records.append(((), OVER, facts[:1]))

    def failed(self, *facts: Any) -> None:
        self._records.append(((), OVER, facts[:1]))


def raised(error: BaseException, records: list[Record]) -> Told:
    """Return how a piece went that ends the run."""
    return Told(Raised(pack_error(error)), _without(records, error))


def records_of(told: Told) -> list[Record]:
    """Return the records of a piece, without the error that travels with its outcome."""
    outcome, records = told
    return _without(records, outcome.error) if isinstance(outcome, Failure) else records


def _without(records: list[Record], error: BaseException) -> list[Record]:
    return [_exchanged(record, error, _Surfacing()) for record in records]


def _exchanged(record: Record, old: object, new: object) -> Record:
    place, told, facts = record
    return place, told, tuple(new if fact is old else fact for fact in facts)


def pack_records(told: list[list[Record]], packer: Packer) -> Parcel:
    """Return the records of some pieces, ready to travel; what cannot is withheld."""
    packed = [[_packed(record) for record in records] for records in told]
    try:
        parcel = packer.pack(packed)
        check_readable(parcel)
    except Exception:  # noqa: BLE001 - whatever the user's classes raise
        fitting = [[_fitting(record, packer) for record in records] for records in packed]
        return packer.pack(fitting)
    return parcel


def _packed(record: Record) -> Record:
    place, told, facts = record
    if not any(isinstance(fact, BaseException) for fact in facts):
        return record
    return place, told, tuple(pack_error(f) if isinstance(f, BaseException) else f for f in facts)


def _fitting(record: Record, packer: Packer) -> Record:
    place, told, facts = record
    return place, told, tuple(_that_travels(fact, packer) for fact in facts)


def _that_travels(value: Any, packer: Packer) -> Any:
    try:
        check_readable(packer.pack(value))
    except Exception:  # noqa: BLE001 - whatever the user's classes raise
        if type(value) is dict:
            return {name: _that_travels(part, packer) for name, part in value.items()}
        if type(value) is tuple:
            return tuple(_that_travels(part, packer) for part in value)
        return Withheld(type(value).__name__)
    return value


# ---------------------------------------------------------------- in the driver


def unpack_records(parcel: Parcel) -> list[list[Record]]:
    """Return the records of some pieces."""
    told = unpack(parcel, loads=loads_at_home)
    return [[_unpacked(record) for record in records] for records in told]


def _unpacked(record: Record) -> Record:
    place, told, facts = record
    if not any(isinstance(fact, PackedError) for fact in facts):
        return record
    return place, told, tuple(unpack_error(f) if isinstance(f, PackedError) else f for f in facts)


def tell_item(
    witness: Witness,
    engine: PipelineExecutionEngine,
    inputs: Mapping[str, Any],
    item: Mapping[str, Any],
    story: Story,
) -> None:
    """Tell a witness of an item that has run in a worker, or has died there.

    Args:
        witness: Who is told.
        engine: What ran it.
        inputs: The inputs that all items share.
        item: The item's own.
        story: How it went.
    """
    if not story.records and not isinstance(story.outcome, Raised):
        duration = _least_duration(story.outcome, story.lost)
        engine.opened(inputs, item, witness, clock() - duration)
    tell_records(witness, engine, item, story.records or (), story)
    tell_end(witness, engine, story)


def tell_end(
    witness: Witness, engine: PipelineExecutionEngine, story: Story, but: Container[int] = ()
) -> None:
    """Tell a witness of the end of an item of which all else has been told.

    Args:
        witness: Who is told.
        engine: What ran it.
        story: How it went.
        but: The steps that are told to their ends.
    """
    outcome, records, lost = story
    if isinstance(outcome, Raised):
        return
    _, told, facts = records[-1] if records else ((), "", ())
    if not records:
        steps = [step for step in engine.plan.steps if step.index not in but]
        _tell_of_death(witness, steps, outcome, lost)
    engine.closed(witness, outcome, facts[0] if told == OVER else clock())


def tell_segment(
    witness: Witness, engine: PipelineExecutionEngine, number: int, story: Story
) -> None:
    """Tell a witness of a segment that has run in a worker, or has died there."""
    given, records, lost = story
    if records is None:
        _tell_of_death(witness, engine.segments[number].steps, given, lost)
    else:
        tell_records(witness, engine, {}, records, story)


def tell_records(
    witness: Witness,
    engine: PipelineExecutionEngine,
    item: Mapping[str, Any],
    records: Iterable[Record],
    story: Story = UNDER_WAY,
) -> None:
    """Tell a witness what a worker tells.

    Args:
        witness: Who is told.
        engine: What runs there.
        item: The item's own inputs, which do not travel back.
        records: What the worker tells.
        story: How it went, if it is over.
    """
    outcome, _, lost = story
    has_failed = isinstance(outcome, Failure | Raised)
    for record in records:
        place, told, facts = record
        if told == "started" and not place:
            begun, _, *others = facts
            is_shown = engine.audience is not None and engine.audience.inputs
            witness.started(begun, dict(item) if is_shown else None, *others)
        elif told != OVER:
            replay(witness, _with_error(record, outcome.error) if has_failed else record)
        if lost and not place and told == "node_started":
            _tell_lost(witness, engine.plan.steps[facts[0]], lost)


def _with_error(record: Record, error: BaseException) -> Record:
    """Return a record with the error that surfaces, not one that is its like."""
    place, told, facts = record
    return place, told, tuple(error if type(fact) is _Surfacing else fact for fact in facts)


def _tell_lost(witness: Witness, step: Step, lost: Sequence[Lost]) -> None:
    for path, error, attempt, delay in lost:
        if path == step.path:
            witness.node_retried(step.index, clock(), error, attempt, delay)


def _tell_of_death(
    witness: Witness, steps: list[Step], outcome: Outcome, lost: Sequence[Lost]
) -> None:
    """Tell of a node that took its worker with it."""
    if not isinstance(outcome, Failure):
        return
    for step in steps:
        if step.path == outcome.path and step.inner is None:
            now = clock()
            witness.node_started(step.index, now - _least_duration(outcome, lost), None)
            _tell_lost(witness, step, lost)
            witness.node_failed(step.index, now, outcome.error, outcome.attempts)


def _least_duration(outcome: Outcome, lost: Sequence[Lost]) -> float:
    """Return how many seconds a node has taken at least, as far as timeouts and delays tell."""
    if not isinstance(outcome, Failure):
        return 0.0
    mine = [attempt for attempt in lost if attempt.path == outcome.path]
    errors = [outcome.error, *(attempt.error for attempt in mine)]
    late = [error.timeout for error in errors if isinstance(error, NodeTimeoutError)]
    return sum(filter(None, late)) + sum(attempt.delay for attempt in mine)
