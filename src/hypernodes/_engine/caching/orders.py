"""What goes with the values of a segment: what to look up, or where to keep what is made."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from hypernodes._engine.flights import FLIGHTS
from hypernodes._engine.segments import Segment

if TYPE_CHECKING:
    from hypernodes._engine.caching.changes import Guard
    from hypernodes._engine.caching.keys import Key
    from hypernodes._engine.caching.prepared import Once
    from hypernodes._engine.failure import Failure
    from hypernodes._engine.kernel import InThread
    from hypernodes._engine.observing.witness import Witness
    from hypernodes._engine.plan import Step

# Slots that no plan has.
ORDER: Final = -1
LOOKUPS: Final = -2
AROUND: Final = -3


class Order(NamedTuple):
    """What is to become of the value that a step makes.

    Attributes:
        made: The signature under which it is kept.
        code: What its code hashes to.
        keys: The keys of its arguments.
        since: When it was looked up; see `Flights.now`.
        once: What the run has warned of.
        is_sound: Whether it may be kept: its arguments are what their keys say.
        guard: Looks after what it may be made of.
    """

    made: str
    code: str
    keys: tuple[Key, ...]
    since: int
    once: Once
    is_sound: bool
    guard: Guard | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrived, (self.made, self.code, self.keys, self.once, self.is_sound)


def _arrived(
    made: str,
    code: str,
    keys: tuple[Key, ...],
    once: Once,
    is_sound: bool,  # noqa: FBT001 - unpickling passes by position
) -> Order:
    """Return an order in another process, which has other flights."""
    return Order(made, code, keys, FLIGHTS.now(), once, is_sound)


class Call(NamedTuple):
    """How a step is called.

    Attributes:
        item: The index of the item, in a map.
        in_thread: Calls what may block, and what is no coroutine.
        witness: Who is told, if somebody observes.
    """

    item: int | None
    in_thread: InThread
    witness: Witness | None = None


class Lookups(Segment):
    """Lookups on their way through a scheduler, as if they were a segment.

    Args:
        wanted: Steps, with signatures.
    """

    __slots__ = ("wanted",)

    def __init__(self, wanted: list[tuple[Step, str]]) -> None:
        super().__init__([replace(wanted[0][0], inner=None)], index=LOOKUPS)
        self.wanted = wanted


class FailedError(Exception):
    """Carries a failure through coroutines that make values.

    Args:
        failure: What failed.
    """

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure)
        self.failure = failure
