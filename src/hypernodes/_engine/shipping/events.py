"""Events on their way back from a worker: records that always unpickle, and what is added here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from hypernodes._engine.failure import Failure
from hypernodes._engine.observing.witness import Record, Recorder, Scenery, clock, replay
from hypernodes._engine.shipping.errors import PackedError, pack_error, unpack_error
from hypernodes._engine.shipping.parcels import check_readable, unpack

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hypernodes._engine.failure import Outcome
    from hypernodes._engine.kernel import PipelineExecutionEngine
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
    """Makes the records of a piece; the end of an item is known from its outcome.

    Args:
        records: Where they are put.
        scenery: What is known here of the run.
        item_index: See `Witness`.
    """

    def __init__(self, records: list[Record], scenery: Scenery, item_index: int | None) -> None:
        super().__init__(records.append, scenery, item_index)
        self._records = records

    def ended(self, *facts: Any) -> None:
        self._records.append(((), OVER, facts[:1]))

    def failed(self, *facts: Any) -> None:
        self._records.append(((), OVER, facts[:1]))


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
        return Withheld(type(value).__name__)
    return value


# ---------------------------------------------------------------- in the driver


def unpack_records(parcel: Parcel) -> list[list[Record]]:
    """Return the records of some pieces."""
    return [[_unpacked(record) for record in records] for records in unpack(parcel)]


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
    outcome, records, lost = story
    if records is None:
        engine.opened(inputs, item, witness)
        _tell_of_death(witness, list(engine.plan.steps), outcome, lost)
        engine.closed(witness, outcome)
        return
    _tell(witness, engine, records, lost)
    _, told, facts = records[-1]
    when = facts[0] if told == OVER else clock()
    if isinstance(outcome, Failure):
        witness.failed(when, outcome.error)
    else:
        witness.ended(when, outcome)


def tell_segment(
    witness: Witness, engine: PipelineExecutionEngine, number: int, story: Story
) -> None:
    """Tell a witness of a segment that has run in a worker, or has died there."""
    given, records, lost = story
    if records is None:
        _tell_of_death(witness, engine.segments[number].steps, given, lost)
    else:
        _tell(witness, engine, records, lost)


def _tell(
    witness: Witness,
    engine: PipelineExecutionEngine,
    records: list[Record],
    lost: Sequence[Lost],
) -> None:
    for record in records:
        place, told, facts = record
        if told == OVER:
            continue
        replay(witness, record)
        if lost and not place and told == "node_started":
            _tell_lost(witness, engine.plan.steps[facts[0]], lost)


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
            witness.node_started(step.index, now, None)
            _tell_lost(witness, step, lost)
            witness.node_failed(step.index, now, outcome.error, outcome.attempts)
