"""What a task of a cluster is told, and what it tells: plain values that any worker can read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple
from uuid import uuid4

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hypernodes._engine.plan import Slot
    from hypernodes._engine.shipping.errors import PackedError
    from hypernodes._engine.shipping.parcels import Parcel


Notice = tuple[Any, ...]
"""The name of a method of the engine in the driver, and what to call it with."""

DRIVER: Final = uuid4().hex
"""What workers call this process, where it drives them."""


class Brief(NamedTuple):
    """What one chunk is.

    Attributes:
        driver: Whose it is.
        number: What its driver calls it.
        token: What its driver calls the plan.
        parcel: The pieces.
        places: For each value that was kept by a cluster: its slot, in the order of these values.
        spent: Attempts at calls of nodes that workers have made that are gone.
        careful: Whether every attempt is announced, and not only those that follow others.
        keeps: Whether the cluster may keep what nobody but other tasks needs.
        settles: Whether the worker takes over where the driver is.
        over: What the driver calls plans that no chunk will need again.
    """

    driver: str
    number: int
    token: int
    parcel: Parcel
    places: tuple[Slot, ...] = ()
    spent: Any = ()
    careful: bool = False
    keeps: bool = False
    settles: bool = False
    over: tuple[int, ...] = ()


class Luggage(NamedTuple):
    """What all chunks of a plan share: settings, engine, inputs, and what is in force."""

    settings: Parcel
    engine: Parcel
    inputs: Parcel
    facts: Parcel

    @property
    def size(self) -> int:
        """How many bytes it has."""
        return sum(parcel.size for parcel in self)


class Part(NamedTuple):
    """Outcomes of some pieces of a chunk, or what there is to be told of some that are under way.

    Attributes:
        number: How many parts of the chunk there were before.
        first: The place of the first among the pieces: how many had an outcome before.
        size: How many outcomes there are.
        parcel: The outcomes; None for pieces that are under way.
        told: What there is to be told of them, where somebody observes.
        places: Which pieces they are, where these are not done in order; else those from `first`
            on.
    """

    number: int
    first: int
    size: int
    parcel: Parcel | None
    told: Parcel | None
    places: tuple[int, ...] | None = None


class Report(NamedTuple):
    """How far a chunk has come.

    Attributes:
        parts: Outcomes that have not been reported before.
        back: Pieces from this place on have not begun and will not; None where none is given back.
        done: At the end, how many pieces have an outcome; None before.
        seconds: How long it took.
        trouble: What has gone wrong with all of it: "unknown" (the plan is not here), "unloadable",
            "unreadable", "stale" (a new worker may have the driver's code), or nothing.
        error: What was raised then.
        strangers: Names and hashes of code that a new worker may have as the driver has it.
        notices: What the driver has to know of code and caches: see `Source`.
    """

    parts: tuple[Part, ...] = ()
    back: int | None = None
    done: int | None = None
    seconds: float = 0.0
    trouble: str = ""
    error: PackedError | None = None
    strangers: tuple[tuple[str, str], ...] = ()
    notices: tuple[Notice, ...] = ()


class Result(NamedTuple):
    """What a task gives.

    Attributes:
        report: For the driver.
        kept: For other tasks, by slot.
    """

    report: Report
    kept: Mapping[Slot, Parcel]


class Attempt(NamedTuple):
    """An attempt at a node that is about to be made, or a chunk that is about to be read.

    Attributes:
        number: What the driver calls the chunk.
        piece: The place of the piece in the chunk, from 0.
        path: The node; none for a chunk whose plan is there, and that is read now.
        ordinal: Which call of it.
        attempt: Which attempt.
        policy: The node's retries.
    """

    number: int
    piece: int = 0
    path: tuple[str, ...] = ()
    ordinal: int = 0
    attempt: int = 0
    policy: Any = None
