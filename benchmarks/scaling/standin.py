"""A cluster in memory that answers at once and computes nothing: what is left is the driver."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from hypernodes._engine.clusters.briefs import Part, Report
from hypernodes._engine.clusters.cluster import Cluster
from hypernodes._engine.shipping.parcels import Hold, unpack
from hypernodes.executors.clustered import ClusteredExecutor

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from hypernodes._engine.clusters.cluster import Listener, Order
    from hypernodes._engine.clusters.needs import Needs

BUSY = 2
"""How many chunks each place has, as long as there are enough."""


class StandIn(Cluster):
    """Places that have chunks, and answer the oldest one with the items themselves.

    The very first is answered at once: before something has been timed, nothing waits behind it.

    Args:
        places: How many there are.
        chunks: How many chunks will come: with the last of them all are answered.
    """

    cost = 0.002

    def __init__(self, places: int, chunks: int) -> None:
        self._names = [f"place-{number}" for number in range(places)]
        self._chunks = chunks
        self._held: deque[Order] = deque()
        self._is_timed = False
        self._packer = Hold()
        self._listener: Listener

    def open(self, listener: Listener) -> None:
        self._listener = listener
        for name in self._names:
            listener.joined(name, 1)

    def submit(self, order: Order) -> None:
        self._held.append(order)
        self._chunks -= 1
        held = BUSY * len(self._names) if self._is_timed and self._chunks > 0 else 0
        self._is_timed = True
        while len(self._held) > held:
            self._answer(self._held.popleft())

    def _answer(self, order: Order) -> None:
        _, (_, _, columns) = unpack(order.brief.parcel)
        size = len(columns[0])
        parcel = self._packer.pack((("y",), columns, size))
        part = Part(0, 0, size, parcel, None)
        self._listener.reported(order.brief.number, Report(parts=(part,), done=size, seconds=1e-6))

    def look(self, place: str, numbers: Collection[int], *, back: bool, void: bool) -> None:
        del place, back, void
        self._listener.looked(numbers)

    def release(self, numbers: Iterable[int]) -> None:
        """Keep nothing."""

    def forget(self, tokens: Collection[int]) -> None:
        """Know nothing."""

    def lacking(self, needs: Needs) -> str | None:
        del needs

    def suits(self, place: str, needs: Needs) -> bool:
        del place
        return not needs

    def close(self) -> None:
        """Have nothing to end."""


class StandInExecutor(ClusteredExecutor):
    """Runs maps of one node, `y`, on a `StandIn`.

    Attributes:
        places: How many there are.
        chunks: How many chunks will come.
        chunksize: How many items each of them has.
    """

    places: int
    chunks: int
    chunksize: int | None = None

    def open_cluster(self, options: dict[str, Any]) -> Cluster:
        del options
        return StandIn(self.places, self.chunks)
