"""How many nodes may be under way at once on a loop, shared by the runs of equal executors.

As with the job server of GNU make, a run inside a node has one slot for nothing, that of the node,
which only waits meanwhile: so no depth of nesting can use up the slots and wait for ever.
"""

from __future__ import annotations

from collections import deque
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncio

    Waiter = asyncio.Future["Slots"]


class Slots:
    """Slots that can be taken and given back; only for the thread of one loop.

    Args:
        free: How many there are.
    """

    def __init__(self, free: int) -> None:
        self._free = free
        self._waiting: deque[Waiter] = deque()

    def take(self) -> bool:
        """Take a slot, if there is a free one for which nobody waits."""
        if self._free and not self._waiting:
            self._free -= 1
            return True
        return False

    def give(self) -> None:
        """Give a slot back, to whoever has waited longest."""
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(self)
                return
        self._free += 1

    def wait(self, waiter: Waiter) -> None:
        """Have `waiter` get the next slot as its result, unless it has another by then."""
        self._waiting.append(waiter)


class Share:
    """What one run may use: the slots of all, and inside a node one of its own.

    Args:
        slots: The slots of all.
        inside: Whether the run belongs to a node that holds one of them.
    """

    def __init__(self, slots: Slots, *, inside: bool) -> None:
        self._sources = (Slots(1), slots) if inside else (slots,)

    async def take(self) -> Slots:
        """Wait for a slot; return where it has to be given back."""
        for source in self._sources:
            if source.take():
                return source
        import asyncio  # noqa: PLC0415 - loaded by now: there is a loop

        waiter: Waiter = asyncio.get_running_loop().create_future()
        for source in self._sources:
            source.wait(waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if not waiter.cancelled():
                waiter.result().give()
            raise


HELD: Final[ContextVar[frozenset[Slots]]] = ContextVar("hypernodes_held_slots", default=frozenset())
"""The slots of which the nodes around the current code, on loops, hold one each."""
