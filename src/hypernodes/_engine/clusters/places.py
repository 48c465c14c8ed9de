"""The places of a cluster where chunks run, and the chunks on their way."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from hypernodes._engine.clusters.stock import Stock
from hypernodes._engine.clusters.stuck import late, patience_with
from hypernodes._engine.shipping.deaths import Death

if TYPE_CHECKING:
    from hypernodes._engine.clusters.briefs import Attempt, Part, Report
    from hypernodes._engine.clusters.needs import Needs
    from hypernodes._engine.shipping.chunk import Chunk

DEPTH: Final = 3
DOUBT: Final = 1.0
"""Seconds for answers that have come while this process stood still."""


class Flight:
    """A chunk on its way.

    Args:
        number: What workers call it.
        chunk: The chunk.
        place: Where it runs.
        over: Plans that it tells its worker to be over.

    Attributes:
        early: Parts that came before those before them, by their numbers.
        end: The last report, when it has come.
        looking: Whether it was asked how far it is, and has not answered.
        looked_at: When it was asked last, or was sent.
        begun: Whether something was announced: its plan has been read, or it runs beside others.
        death: Which attempt was announced last.
        ran: The piece of which that was.
        sent_at: When it was sent.
        doomed_at: When its worker is killed if it does not end; None where that is not planned.
        patience: For how many seconds its worker may not answer, with the longest of timeouts among
            its nodes; None where one of these has none.
        doubted_at: When it was seen that its worker has not answered for so long.
        is_stuck: Whether it has not answered since, either.
    """

    def __init__(self, number: int, chunk: Chunk, place: Place, over: tuple[int, ...] = ()) -> None:
        self.number = number
        self.chunk = chunk
        self.place = place
        self.over = over
        self._entries = tuple(chunk.entries)
        self.early: dict[int, Part] = {}
        self._heard = 0
        self.end: Report | None = None
        self.looking = False
        self.sent_at = self.looked_at = time.monotonic()
        self.begun = False
        self.death = Death()
        self.ran = -1
        self.doomed_at: float | None = None
        steps = chunk.source.steps_of(chunk.entries[0])
        self.patience = patience_with(chunk.source.engine, steps)
        self.doubted_at: float | None = None
        self.is_stuck = False

    def ask(self, now: float) -> None:
        """Take note that it is asked how far it is."""
        self.looked_at, self.looking, self.doubted_at = now, True, None

    @property
    def is_followed(self) -> bool:
        """Whether its worker is asked how far it is, though it be with its only piece."""
        return self.patience is not None or self.chunk.is_told

    @property
    def stuck_at(self) -> float | None:
        """When its worker counts as stuck if it has not answered; None where it need not answer."""
        patience = self.place.patience if self.looking and not self.is_stuck else None
        if patience is None:
            return None
        return self.looked_at + patience if self.doubted_at is None else self.doubted_at + DOUBT

    @property
    def cause(self) -> Death:
        """Why it lost its worker."""
        return late(self.death, self.chunk.source.engine) if self.is_stuck else self.death

    @property
    def is_news(self) -> bool:
        """Whether nothing is known of such chunks, nor has been asked of this one."""
        return self.looked_at == self.sent_at and self.chunk.source.is_new

    def learn(self, attempt: Attempt) -> None:
        """Take note of an attempt that is about to be made."""
        _, self.ran, path, ordinal, count, policy = attempt
        self.begun = True
        self.death = Death(path=path, ordinal=ordinal, attempt=count, policy=policy)

    def receive(self) -> None:
        """Pass on what has come, in order.

        What is missing is waited for as long as it may come. Then there is no way to what follows
        outcomes that are missing: these pieces run again.
        """
        while self.early:
            number = min(self.early)
            is_next = number == self._heard or not self.looking
            if not is_next or self.early[number].first != self.chunk.received:
                return
            self._heard = number + 1
            self._pass_on(self.early.pop(number))

    def _pass_on(self, part: Part) -> None:
        chunk = self.chunk
        if part.places is not None and part.size:
            self._put_first(part.places)
        if chunk.source.closed:
            chunk.received += part.size
        elif part.parcel is not None:
            chunk.source.receive(chunk, part.size, part.parcel, part.told)
        elif part.places is not None and part.told is not None:
            chunk.source.hear([self._entries[place] for place in part.places], part.told)

    def _put_first(self, places: tuple[int, ...]) -> None:
        """Have pieces that are done next to those before; what has not begun stays at the end."""
        chunk, done = self.chunk, [self._entries[place] for place in places]
        is_done = set(done).__contains__
        chunk.entries = [
            *chunk.entries[: chunk.received],
            *done,
            *(entry for entry in chunk.entries[chunk.received :] if not is_done(entry)),
        ]

    @property
    def is_over(self) -> bool:
        """Whether there is nothing more to come."""
        if self.end is None:
            return False
        return self.chunk.received >= (self.end.done or 0) or not self.looking


class Place:
    """Where chunks run one after another, or some at once.

    Args:
        name: What the cluster calls it.
        capacity: How many run at once.
        needs: What it is for; nothing for all that it has the resources for.

    Attributes:
        flights: What it has to do, in order.
        stock: The plans that it has.
        is_retired: Whether it is ended when it has nothing to do.
    """

    def __init__(self, name: str, capacity: int, needs: Needs = ()) -> None:
        self.name = name
        self.capacity = capacity
        self.needs = needs
        self.flights: dict[int, Flight] = {}
        self.is_retired = False
        self.stock = Stock()

    @property
    def patience(self) -> float | None:
        """For how many seconds it may not answer; None where something may take any time there."""
        found = [flight.patience for flight in self.flights.values()]
        bounded = [patience for patience in found if patience is not None]
        return max(bounded) if bounded and len(bounded) == len(found) else None

    @property
    def is_empty(self) -> bool:
        """Whether it has nothing to do."""
        return not self.flights

    @property
    def has_room(self) -> bool:
        """Whether what is sent there now starts at once."""
        return len(self.flights) < self.capacity

    @property
    def may_queue(self) -> bool:
        """Whether there may be more waiting."""
        return len(self.flights) < self.capacity * DEPTH

    @property
    def is_open(self) -> bool:
        """Whether it may be given something.

        Not beside a piece that has to be alone, nor behind it: its report might be on its way when
        the next one ends the worker.
        """
        return not self.is_retired and not any(f.chunk.trouble for f in self.flights.values())

    def over(self) -> tuple[int, ...]:
        """Take the plans that the next chunk is to tell of; none if it may be long until it can."""
        return self.stock.over() if self.has_room else ()
