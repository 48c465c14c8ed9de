"""What a map's consumer takes its outcomes from, and items come through as these go on."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from functools import wraps
from itertools import chain, islice, repeat, starmap
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, ParamSpec

from hypernodes._engine.jobs import Receiver
from hypernodes._engine.mapping import Rows

if TYPE_CHECKING:
    from hypernodes._engine.batches import Batch
    from hypernodes._engine.failure import Outcome

P = ParamSpec("P")

Handful = tuple[Sequence[int], Sequence["Outcome"]]
"""Indexes, and outcomes of as many items."""

MOST_GROWTH: Final = 8
MOST_AT_ONCE: Final = 64
SLOW: Final = 0.008
"""Seconds for which items that are slow to come hold up those that are there."""


class Handed(Iterator[tuple[int, "Outcome"]]):
    """The outcomes of a map with their indexes, as they come: one by one, or several at once.

    Args:
        handfuls: The same, as many at once as there are.

    Attributes:
        handfuls: For who takes them so.
    """

    def __init__(self, handfuls: Generator[Handful, None, None]) -> None:
        self.handfuls = handfuls
        self._pairs = chain.from_iterable(starmap(_paired, handfuls))

    def __iter__(self) -> Iterator[tuple[int, Outcome]]:  # noqa: PYI034 - faster, by a call each
        return self._pairs

    def __next__(self) -> tuple[int, Outcome]:
        return next(self._pairs)

    def close(self) -> None:
        """Drop what has not started; there are no more outcomes."""
        self.handfuls.close()


def handing(generate: Callable[P, Generator[Handful, None, None]]) -> Callable[P, Handed]:
    """Have what a method yields several at once be had one by one, too: see `Handed`."""

    @wraps(generate)
    def handed(*args: P.args, **kwargs: P.kwargs) -> Handed:
        return Handed(generate(*args, **kwargs))

    return handed


def _paired(indexes: Sequence[int], outcomes: Sequence[Outcome]) -> Iterator[tuple[int, Outcome]]:
    left = list(reversed(outcomes))  # each is let go of when its consumer does so
    return zip(indexes, map(list.pop, repeat(left, len(left))), strict=True)


def handed_over(
    stream: Stream,
    batch: Batch,
    add: Callable[[Batch], None],
    receive: Callable[[], None],
    close: Callable[[], None],
) -> Generator[Handful, None, None]:
    """Yield the outcomes of a map to its consumer, and take items as these go on.

    Args:
        stream: The items and outcomes.
        batch: The first items.
        add: Takes items that can run.
        receive: Puts outcomes into the stream; waits for one where there is nothing else to do.
        close: Drops what has not started; called in the end.
    """
    try:
        while batch or not stream.is_done:
            add(batch)
            receive()
            yield from stream.ready()
            batch = stream.take()
        stream.finish()
    finally:
        close()


class Stream(Receiver):
    """The items and outcomes of a map whose consumer takes them as they come.

    Args:
        items: The items, taken as there is room.
        ahead: How many may be taken ahead of the consumer.
        ordered: Whether outcomes are handed over in the order of the items.
        patience: More are taken ahead while half of them go, on to the consumer, in less seconds.
        farthest: How many are taken ahead at the most.
        at_hand: How many are there, as far as is known: these need not be waited for.
        by_columns: Whether items that are at hand are taken in blocks.
    """

    def __init__(
        self,
        items: Iterable[Mapping[str, Any]],
        *,
        ahead: int,
        ordered: bool,
        patience: float,
        farthest: int,
        at_hand: int = 0,
        by_columns: bool = False,
    ) -> None:
        self._rows = items if by_columns and isinstance(items, Rows) else None
        self._items = iter(items)
        self._ahead = ahead
        self._ordered = ordered
        self._patience = patience
        self._farthest = farthest
        self._at_hand = at_hand
        self._taken = 0
        self._received = 0
        self._delivered = 0
        self._next = 0
        self._early: dict[int, Outcome] = {}
        self._arrived: list[Handful] = []
        self._singly: tuple[list[int], list[Outcome]] = [], []
        self._exhausted = False
        self._error: Exception | None = None
        self._last_look = perf_counter()
        self._next_look = ahead // 2
        self._growth = 2  # the first time, nobody has consumed much yet

    @property
    def outstanding(self) -> bool:
        """Whether outcomes are still to come."""
        return self._received < self._taken

    @property
    def is_open(self) -> bool:
        """Whether there may be more items, and room for them."""
        return not self._exhausted and self._taken - self._delivered < self._ahead

    @property
    def must_wait(self) -> bool:
        """Whether there is nothing to do before an outcome comes."""
        return self.outstanding and not self.is_open

    @property
    def is_done(self) -> bool:
        """Whether everything has been handed over."""
        return self._exhausted and self._delivered == self._taken

    @property
    def most(self) -> int:
        """How many items there are, at the most."""
        return self._taken if self._exhausted else sys.maxsize

    # ------------------------------------------------------------ items

    def take(self) -> Batch:
        """Take some items, as far as there is room; few at a time, should they be slow to come."""
        room = self._ahead - (self._taken - self._delivered)
        wanted = min(room, max(self._ahead // 2, self._at_hand - self._taken))
        batch = self._batch(wanted) if wanted > 0 and not self._exhausted else {}
        self._taken += len(batch)
        if self._delivered >= self._next_look:
            self._look_at_clock()
        return batch

    def _batch(self, wanted: int) -> Batch:
        if self._rows is None:
            return dict(enumerate(self._pull(wanted), self._taken))
        block = self._rows.block(self._taken, wanted)
        self._exhausted, self._error = len(block) < wanted, self._rows.error
        return block

    def _pull(self, wanted: int) -> list[Mapping[str, Any]]:
        """Return the next items; fewer where they are slow to come, end or fail."""
        items: list[Mapping[str, Any]] = []
        enough = perf_counter() + SLOW
        piece = 1
        try:
            while len(items) < wanted and (not items or perf_counter() < enough):
                aim = min(len(items) + piece, wanted)
                items.extend(islice(self._items, aim - len(items)))  # kept on errors
                if len(items) < aim:
                    self._exhausted = True
                    break
                piece = min(2 * piece, MOST_AT_ONCE)
        except Exception as error:  # noqa: BLE001 - raised when what came before is handed over
            self._exhausted = True
            self._error = error
        return items

    def _look_at_clock(self) -> None:
        """Take more ahead while half of it goes, on to the consumer, in next to no time."""
        now = perf_counter()
        took = now - self._last_look
        if took < self._patience:
            growth = min(max(2, int(self._patience / took)), self._growth)
            self._ahead = min(growth * self._ahead, self._farthest)
            self._growth = MOST_GROWTH
        self._last_look = now
        self._next_look = self._delivered + self._ahead // 2

    def finish(self) -> None:
        """Raise what the items' own iterator raised, now that all before it is handed over."""
        if self._error is not None:
            raise self._error

    # ------------------------------------------------------------ outcomes

    def put(self, index: int, outcome: Outcome) -> None:
        self._received += 1
        if self._ordered:
            self._early[index] = outcome
        else:
            indexes, outcomes = self._singly
            indexes.append(index)
            outcomes.append(outcome)

    def put_all(self, indexes: Sequence[int], outcomes: Sequence[Outcome]) -> None:
        if not indexes:
            return
        self._received += len(outcomes)
        if not self._ordered:
            self._arrived.append((indexes, outcomes))
        elif isinstance(indexes, range) and indexes.start == self._next:
            self._arrived.append((indexes, outcomes))
            self._next = indexes.stop
            self._follow_up()
        else:
            self._early.update(zip(indexes, outcomes, strict=True))

    def ready(self) -> Iterator[Handful]:
        """Yield the outcomes that can be handed over by now."""
        if self._ordered:
            self._follow_up()
        elif self._singly[0]:
            self._arrived.append(self._singly)
            self._singly = [], []
        arrived, self._arrived = self._arrived, []
        arrived.reverse()
        while arrived:
            self._delivered += len(arrived[-1][0])
            yield arrived.pop()

    def _follow_up(self) -> None:
        """Take what came early and follows what has arrived."""
        early, index = self._early, self._next
        if index not in early:
            return
        outcomes = []
        while index in early:
            outcomes.append(early.pop(index))
            index += 1
        self._arrived.append((range(self._next, index), outcomes))
        self._next = index
