"""Values that chunks have left where they were made: where that is, and who refers to them."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING
from weakref import ref

from hypernodes._engine.shipping.keeping import Reference

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from hypernodes._engine.shipping.keeping import Kept
    from hypernodes._engine.shipping.sources import Source


class Keepsakes:
    """What is kept on a cluster; all but `refer` is called in the pool's thread.

    Args:
        release: Lets go of what chunks have left, on the cluster.
        later: Has a call made in the pool's thread.
    """

    def __init__(
        self,
        release: Callable[[Iterable[int]], None],
        later: Callable[[Callable[[], None]], None],
    ) -> None:
        self._release = release
        self._later = later
        self._left: dict[int, _Left] = {}
        self._references: dict[Kept, ref[Reference]] = {}

    def __len__(self) -> int:
        return len(self._left)

    def add(self, number: int, source: Source, place: str, slots: Iterable[int]) -> None:
        """Take note of what a chunk has left.

        Args:
            number: The chunk.
            source: Where the chunk comes from.
            place: Where it ran.
            slots: Which values.
        """
        self._left[number] = _Left(source, place, set(slots))

    def refer(self, kept: Kept) -> Reference:
        """Return a reference to a value; with the last one, the value is let go."""
        reference = Reference(kept, self._let_go)
        self._later(partial(self._keep_track, reference))
        return reference

    def _keep_track(self, reference: Reference) -> None:
        self._references[reference.kept] = ref(reference)
        reference.lost = reference.kept.number not in self._left

    def sizes(self, references: Iterable[Reference]) -> Counter[str]:
        """Return how many bytes of some values are at each place."""
        found: Counter[str] = Counter()
        for reference in references:
            left = self._left.get(reference.kept.number)
            if left is not None:
                found[left.place] += reference.kept.size
        return found

    def at(self, place: str) -> set[int]:
        """Return the chunks that have left something at a place."""
        return {number for number, left in self._left.items() if left.place == place}

    def lose(self, numbers: Collection[int]) -> None:
        """Take note that what chunks have left is gone."""
        for number in numbers:
            self._left.pop(number, None)
        for kept, known in self._references.items():
            reference = known()
            if reference is not None and kept.number in numbers:
                reference.lost = True

    def drop(self, source: Source) -> None:
        """Let go of all that the chunks of a source have left."""
        self._let_go_of([number for number, left in self._left.items() if left.source is source])

    def _let_go(self, reference: Reference) -> None:
        self._later(partial(self._drop_one, reference.kept))

    def _drop_one(self, kept: Kept) -> None:
        self._references.pop(kept, None)
        left = self._left.get(kept.number)
        if left is None:
            return
        left.slots.discard(kept.slot)
        if not left.slots:
            self._let_go_of([kept.number])

    def _let_go_of(self, numbers: list[int]) -> None:
        for number in numbers:
            del self._left[number]
        if numbers:
            self._release(numbers)


class _Left:
    """Values that a chunk has left where it ran."""

    def __init__(self, source: Source, place: str, slots: set[int]) -> None:
        self.source = source
        self.place = place
        self.slots = slots
