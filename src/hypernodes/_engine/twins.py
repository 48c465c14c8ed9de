"""Equal items of one map: the first runs, and the others take what it leaves in the cache."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypernodes._engine.jobs import Receiver

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from hypernodes._engine.batches import Batch, Item
    from hypernodes._engine.failure import Outcome


class Twins(Receiver):
    """Holds items back while an equal one is under way, and passes outcomes on.

    Args:
        receiver: Gets the outcomes.
        identify: Returns what equal items have in common, or None where that is not known.

    Attributes:
        free: Called with items that are held no longer, and the outcome of the first.
    """

    __slots__ = ("_identify", "_names", "_receiver", "_waiting", "free")

    def __init__(self, receiver: Receiver, identify: Callable[[Any], Hashable | None]) -> None:
        self.free: Callable[[Batch, Outcome], None] | None = None
        self._receiver = receiver
        self._identify = identify
        self._names: dict[int, Hashable] = {}
        self._waiting: dict[Hashable, dict[int, Item]] = {}

    def hold(self, batch: Batch) -> Batch:
        """Return the items that can run; the others wait."""
        first: dict[int, Item] = {}
        for index, item in batch.items():
            name = self._identify(item)
            if name in self._waiting:
                self._waiting[name][index] = item
                continue
            if name is not None:
                self._names[index] = name
                self._waiting[name] = {}
            first[index] = item
        return first

    @property
    def is_over(self) -> bool:
        return self._receiver.is_over

    def put(self, index: int, outcome: Outcome) -> None:
        self._receiver.put(index, outcome)
        self._release(index, outcome)

    def put_all(self, indexes: Sequence[int], outcomes: Sequence[Outcome]) -> None:
        self._receiver.put_all(indexes, outcomes)
        for index, outcome in zip(indexes, outcomes, strict=True):
            self._release(index, outcome)

    def _release(self, index: int, outcome: Outcome) -> None:
        name = self._names.pop(index, None)
        held = self._waiting.pop(name, None)
        if held and self.free is not None:
            self.free(held, outcome)
