"""The chunks on their way: which there are, and when to ask how far they have come."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from hypernodes._engine.clusters.places import Flight, Place

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from hypernodes._engine.clusters.allotment import Allotment
    from hypernodes._engine.clusters.needs import Needs
    from hypernodes._engine.shipping.chunk import Chunk
    from hypernodes._engine.shipping.sources import Source

LOOK: Final = 0.2
"""Seconds after which what others could run at once is taken back."""
FRESH: Final = 0.5
"""Seconds after which what is done is fetched."""
EARLY: Final = 0.05
"""The same where nothing is known of a map: its first item may have failed."""
FEW: Final = 64
"""Chunks under way up to which that is asked; it would hold up the others."""
PATIENCE: Final = 2.0
"""Seconds after which a worker is ended that is still at what nobody wants."""
FEW_SUSPECTS: Final = 3
NUMBERS: Final = itertools.count(1)
"""Those of chunks, of all pools: these may have workers in common."""


class UnderWay:
    """The chunks of one pool that have been sent and have not come back.

    Args:
        allotment: Knows the places, and what waits for them.
    """

    def __init__(self, allotment: Allotment) -> None:
        self._allotment = allotment
        self._flights: dict[int, Flight] = {}

    def __len__(self) -> int:
        return len(self._flights)

    def __iter__(self) -> Iterator[Flight]:
        return iter(tuple(self._flights.values()))

    def get(self, number: int) -> Flight | None:
        """Return the chunk of that number, if it is still on its way."""
        return self._flights.get(number)

    def begin(self, chunk: Chunk, place: Place, over: tuple[int, ...] = ()) -> Flight:
        """Take note of a chunk that is sent to a place, and tells it of plans that are over."""
        flight = Flight(next(NUMBERS), chunk, place, over)
        self._flights[flight.number] = place.flights[flight.number] = flight
        return flight

    def land(self, flight: Flight) -> None:
        """Take note of a chunk that is on its way no more."""
        del self._flights[flight.number]
        flight.place.flights.pop(flight.number, None)
        flight.chunk.source.flying -= 1

    # ------------------------------------------------------------ what nobody wants

    def doom(self, source: Source) -> dict[Place, list[int]]:
        """Have workers ended that do not end what is nobody's any more; return it by place."""
        found: dict[Place, list[int]] = {}
        doomed_at = time.monotonic() + PATIENCE
        for flight in self._flights.values():
            if flight.chunk.source is source:
                flight.doomed_at = doomed_at
                found.setdefault(flight.place, []).append(flight.number)
        return found

    def doomed(self, now: float) -> list[Place]:
        """Return the places of what is to end by now, each time once."""
        late = [f for f in self._flights.values() if f.doomed_at is not None and now >= f.doomed_at]
        for flight in late:
            flight.doomed_at = None
        return [flight.place for flight in late]

    # ------------------------------------------------------------ looks

    def stuck(self, now: float) -> list[Place]:
        """Return the places that have not answered for too long, each time once.

        Not at first sight: this process may have stood still itself.
        """
        due = [f for f in self._flights.values() if f.stuck_at is not None and now >= f.stuck_at]
        for flight in due:
            flight.is_stuck = flight.doubted_at is not None
            flight.doubted_at = now
        return list(dict.fromkeys(flight.place for flight in due if flight.is_stuck))

    def dues(self) -> Iterator[float]:
        """Yield when there is something to be done about them."""
        idle = self._idle()
        for place in self._allotment.places.values():
            for look in self._looks(place, idle):
                yield look.due
        for flight in self._flights.values():
            yield from filter(None, (flight.doomed_at, flight.stuck_at))

    def unseen(self, now: float) -> Iterator[tuple[Place, list[int], bool]]:
        """Yield which are to be looked at by now, at which place, and whether to take back."""
        idle = self._idle()
        for place in self._allotment.places.values():
            slow = [look for look in self._looks(place, idle) if look.due <= now]
            for look in slow:
                look.flight.ask(now)
            for back in (True, False):
                numbers = [look.flight.number for look in slow if look.back is back]
                if numbers:
                    yield place, numbers, back

    def _idle(self) -> set[Needs]:
        """Return of what kinds places could run at once what has not begun at others."""
        if any(source.waiting for source in self._allotment.sources):
            return set()
        places = self._allotment.places.values()
        return {place.needs for place in places if place.is_open and place.has_room}

    def _looks(self, place: Place, idle: set[Needs]) -> Iterator[_Look]:
        """Yield the flights of a place of which there may be news before their end, and when."""
        back = place.needs in idle
        is_small = len(self._flights) <= FEW
        for number, flight in enumerate(place.flights.values()):
            if flight.looking or flight.end is not None or flight.chunk.source.closed:
                continue
            has_more = len(flight.chunk.entries) > 1
            if back and (number >= place.capacity or has_more):
                yield _Look(flight, flight.looked_at + LOOK, back=True)
            elif number < place.capacity and (has_more or flight.is_followed):
                is_early = is_small and flight.is_news
                yield _Look(flight, flight.looked_at + (EARLY if is_early else FRESH), back=False)

    # ------------------------------------------------------------ when a place is gone

    def running_at(self, place: Place) -> list[Flight]:
        """Return those that have surely begun, and not ended, where they run in order.

        Of those that share a resource only the first: the others may have waited for it. What began
        where another one had lent its place has announced that.
        """
        found: dict[Any, Flight] = {}
        open_ones = [flight for flight in place.flights.values() if flight.end is None]
        lodgers = (flight for flight in open_ones[place.capacity :] if flight.begun)
        for flight in (*open_ones[: place.capacity], *lodgers):
            chunk = flight.chunk
            needs = self._allotment.needs_of(chunk.source, chunk.entries[0])
            found.setdefault(needs or flight.number, flight)
        return list(found.values())

    def lacking(self) -> Iterable[Flight]:
        """Return those that need a value which is lost."""
        flights = self._flights.values()
        return [f for f in flights if any(r.lost for r in f.chunk.references.values())]


def is_charged(flights: Iterable[Flight]) -> bool:
    """Whether the crash that ended some chunks counts for each of their pieces.

    One of many has most likely nothing to do with it.
    """
    pieces = sum(len(flight.chunk.entries) - flight.chunk.received for flight in flights)
    return pieces <= FEW_SUSPECTS


class _Look(NamedTuple):
    """When a flight is to be asked how far it is, and whether it gives back what has not begun."""

    flight: Flight
    due: float
    back: bool
