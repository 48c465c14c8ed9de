"""A chunk: pieces that travel together, and how far they have come."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hypernodes._engine.plan import Slot
    from hypernodes._engine.shipping.deaths import Trouble
    from hypernodes._engine.shipping.keeping import Reference
    from hypernodes._engine.shipping.parcels import Parcel
    from hypernodes._engine.shipping.sources import Source


@dataclass(slots=True, eq=False)
class Chunk:
    """Pieces on their way through a worker.

    Attributes:
        source: Where they come from.
        entries: The pieces; fewer after some have been taken back.
        parcel: What the worker gets.
        references: What it is to get besides from where it was made, by slot.
        trouble: For a piece that runs alone, what befell it before.
        number: Its number, given by the pool.
        base: The number of its first piece among those of its worker.
        received: How many outcomes have come.
    """

    source: Source
    entries: Sequence[Any]
    parcel: Parcel
    references: Mapping[Slot, Reference] = field(default_factory=dict)
    trouble: Trouble | None = None
    number: int = 0
    base: int = 0
    received: int = 0

    @property
    def is_told(self) -> bool:
        """Whether its worker has something to tell of pieces that are under way."""
        return self.trouble is None and self.source.is_told

    @property
    def token(self) -> int:
        """What its worker calls the plan that it needs."""
        return self.source.token if self.trouble is None else self.source.careful_token
