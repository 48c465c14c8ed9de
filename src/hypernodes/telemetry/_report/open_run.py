"""A run on its way: what it belongs to, and who takes the blame for its failures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypernodes.telemetry._report.record import Fault, ItemStats, RunStats, words_of

if TYPE_CHECKING:
    from hypernodes._dispatch.place import Worker
    from hypernodes.telemetry._report.record import Path, Record


class OpenRun:
    """A run on its way.

    Args:
        record: What is noted.
        path: Its place.
        around: The run around it, if that is on the same record.
        items: The indexes of the items around it, from the outside in.
        is_map: Whether it is a map.
        state: What tells the outermost run it is part of.
    """

    def __init__(
        self,
        record: Record,
        path: Path,
        *,
        around: OpenRun | None,
        items: tuple[int, ...],
        is_map: bool,
        state: dict[str, Any],
    ) -> None:
        self.record: Record = record
        self.path: Path = path
        self.around: OpenRun | None = around
        self.items: tuple[int, ...] = items
        self.state: dict[str, Any] = state
        self.has_failed: bool = False
        self.faulty: set[int] = set()
        self._is_map = is_map

    def items_at(self, index: int | None) -> tuple[int, ...]:
        """Return the indexes of the items around something at an item of this run."""
        return (*self.items, index) if self._is_map and index is not None else self.items

    def holds(self, fault: Fault, items: tuple[int, ...]) -> bool:
        """Return whether a failure happened inside one of its items."""
        size = len(self.path)
        return fault.path[:size] == self.path and fault.items[: len(items)] == items

    def item_stats(self) -> tuple[ItemStats, ...]:
        """Return where its items are counted."""
        record = self.record
        return (record.items, record.own_items) if self.around is None else (record.items,)

    def end(self, seconds: float) -> None:
        """Note how long it took."""
        if self.around is None:
            self.record.seconds = seconds
        else:
            stats = self.record.runs.setdefault(self.path, RunStats())
            stats.runs += 1
            stats.seconds += seconds

    def fail(self, index: int | None) -> None:
        """Note that something in it has failed, so that nobody else takes the blame."""
        self.has_failed = True
        if self._is_map and index is not None:
            self.faulty.add(index)
        if self.around is not None:
            self.around.fail(self.items[-1] if self.items else None)

    def fault(self, error: BaseException, seconds: float, when: float, worker: Worker) -> Fault:
        """Return a failure of this run in words."""
        record = self.record
        kind, message, trace = words_of(error, in_full=record.wants_faults)
        start = when - seconds - record.origin
        facts = self.path, None, self.items, kind, message, trace, None, start, seconds, 1, worker
        return Fault(*facts)
