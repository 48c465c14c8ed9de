"""Who gets what next: the places of a cluster, the sources of chunks, and which goes with which."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from hypernodes._engine.clusters.needs import needs_of as steps_needs
from hypernodes._engine.clusters.places import Place
from hypernodes._engine.shipping.sources import MapSource

if TYPE_CHECKING:
    from hypernodes._engine.clusters.cluster import Cluster
    from hypernodes._engine.clusters.keepsakes import Keepsakes
    from hypernodes._engine.clusters.needs import Needs
    from hypernodes._engine.shipping.chunk import Chunk
    from hypernodes._engine.shipping.sources import Source

MANY: Final = 2**31


class Allotment:
    """Decides which chunk is drawn next, and where it goes.

    Args:
        cluster: Knows the resources of places.
        kept: Knows where values are.

    Attributes:
        places: Where chunks run, by name.
        sources: Where chunks come from, in turn.
        parked: Chunks that have found no place yet.
    """

    def __init__(self, cluster: Cluster, kept: Keepsakes) -> None:
        self.places: dict[str, Place] = {}
        self.sources: deque[Source] = deque()
        self.parked: list[Chunk] = []
        self._cluster = cluster
        self._kept = kept
        self._needs: WeakKeyDictionary[Source, Needs] = WeakKeyDictionary()

    @property
    def size(self) -> int:
        """How many chunks run at once; from any thread."""
        return max(1, sum(place.capacity for place in tuple(self.places.values())))

    def add(self, place: Place) -> None:
        """Take a place into account."""
        self.places[place.name] = place

    def candidate(self) -> Place | None:
        """Return the place that has the least to do, of those that may get more."""
        places = [p for p in self.places.values() if p.is_open and not p.needs]
        places.sort(key=lambda place: len(place.flights) / place.capacity)
        if places and not places[0].is_empty and self._has_alone and places[0].capacity > 1:
            del places[0]  # until it is empty
        return places[0] if places and places[0].may_queue else None

    @property
    def _has_alone(self) -> bool:
        """Whether something waits that has to run alone."""
        now = time.monotonic()
        is_due = any(source.due is not None and source.due <= now for source in self.sources)
        return is_due or any(chunk.trouble for chunk in self.parked)

    def may_wait(self) -> bool:
        """Whether chunks may wait behind others: not while something waits for an idle worker."""
        now = time.monotonic()
        return not any(source.needs_idle(now) for source in self.sources)

    def draw(self, place: Place) -> Chunk | None:
        """Return the next chunk of the source whose turn it is."""
        alone = self._cluster.isolates or place.is_empty or place.capacity == 1
        behind = not place.has_room
        for _ in range(len(self.sources)):
            source = self.sources[0]
            self.sources.rotate(-1)
            if not self._has_room_for(source):
                continue
            chunk = source.take(self.size, behind=behind, most=MANY, alone=alone)
            if chunk is not None:
                return chunk
        return None

    def _has_room_for(self, source: Source) -> bool:
        """Whether there may be more of a map where its resources are; segments wait there."""
        if not isinstance(source, MapSource):
            return True
        if any(chunk.source is source for chunk in self.parked):
            return False
        needs = self.needs_of(source, None)
        return not needs or any(p.is_open and p.may_queue for p in self._suiting(needs))

    def needs_of(self, source: Source, entry: Any) -> Needs:
        """Return what a piece needs; all items of a map need the same, so any entry will do."""
        if not isinstance(source, MapSource):
            return steps_needs(source.steps_of(entry))
        if source not in self._needs:
            self._needs[source] = steps_needs(source.steps_of(entry))
        return self._needs[source]

    def _suiting(self, needs: Needs) -> list[Place]:
        for name in self._cluster.provide(needs):
            self.add(Place(name, 1, needs))
        return [p for p in self.places.values() if self._cluster.suits(p.name, needs)]

    def best(self, chunk: Chunk, hint: Place | None, needs: Needs) -> Place | None:
        """Return where a chunk is best off: where its resources are, and then its values."""
        fit = [place for place in self._suiting(needs) if place.is_open]
        if chunk.trouble is not None:
            free = [p for p in fit if p.is_empty]
        elif hint is None or hint.has_room:
            free = [p for p in fit if p.has_room]
        else:
            free = [p for p in fit if p.has_room] or [p for p in fit if p.may_queue]
        there = self._kept.sizes(chunk.references.values())
        return max(free, key=lambda p: (there[p.name], p is hint, -len(p.flights)), default=None)

    def stranded(self) -> list[Source]:
        """Return the sources of what waits for resources that no place has any more."""
        waiting = [(chunk.source, chunk.entries[0]) for chunk in self.parked]
        maps = (each for each in self.sources if isinstance(each, MapSource) and each.waiting)
        waiting += [(each, None) for each in maps]
        found = ((source, self.needs_of(source, entry)) for source, entry in waiting)
        lacking = self._cluster.lacking
        return [source for source, needs in found if needs and lacking(needs) is not None]

    def unparked(self) -> list[Chunk]:
        """Take out chunks that have found no place yet."""
        chunks, self.parked = self.parked, []
        for chunk in chunks:
            chunk.source.flying -= 1
        return [chunk for chunk in chunks if not chunk.source.closed]
