"""Who worked when: lanes of blocks, of bounded number however many calls there are."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable

    from hypernodes._dispatch.place import Worker


@dataclass(slots=True)
class Block:
    """Calls that are drawn as one: one call, or several short ones after another.

    Attributes:
        start: When the first began, in seconds.
        end: When the last ended, in seconds.
        key: What was called; None where it was not always the same.
        busy: How many seconds of work are in it.
        calls: How many calls.
        failed: How many of them failed.
    """

    start: float
    end: float
    key: Hashable | None
    busy: float
    calls: int = 1
    failed: int = 0

    def take(self, other: Block) -> None:
        """Become one with a block that comes later."""
        self.end = other.end
        self.key = self.key if self.key == other.key else None
        self.busy += other.busy
        self.calls += other.calls
        self.failed += other.failed


@dataclass(slots=True)
class Lane:
    """What one worker did.

    Attributes:
        worker: The worker.
        rows: Its blocks: no two of a row overlap. Coroutines of one thread need several rows.
        calls: How many calls it made.
        busy: How many seconds they took.
        unseen: How many of them found no row.
    """

    worker: Worker
    rows: list[list[Block]] = field(default_factory=list)
    calls: int = 0
    busy: float = 0.0
    unseen: int = 0


class Timeline:
    """The lanes of all workers.

    When there are too many blocks, short ones that follow each other become one: from then on,
    nothing shorter than `grain` is told apart.

    Args:
        most_blocks: How many blocks there may be.
        most_lanes: How many workers get a lane of their own.
        most_rows: How many calls of one worker are drawn at once.

    Attributes:
        lanes: By worker.
        grain: In seconds.
        others: The workers without a lane, all in one.
    """

    def __init__(self, most_blocks: int, most_lanes: int, most_rows: int) -> None:
        self.lanes: dict[Worker, Lane] = {}
        self.grain: float = 0.0
        self.others: Lane | None = None
        self.other_workers: set[Worker] = set()
        self._most_blocks = most_blocks
        self._most_lanes = most_lanes
        self._most_rows = most_rows
        self._count = 0

    def add(self, worker: Worker, block: Block) -> None:
        """Note a call; those of one worker come in the order of their ends."""
        lane = self._lane(worker)
        lane.calls += 1
        lane.busy += block.busy
        row = self._row(lane, block.start)
        if row is None:
            lane.unseen += 1
        elif row and block.end - row[-1].start <= self.grain:
            row[-1].take(block)
        else:
            row.append(block)
            self._count += 1
            if self._count > self._most_blocks:
                self._coarsen()

    def _lane(self, worker: Worker) -> Lane:
        lane = self.lanes.get(worker)
        if lane is not None:
            return lane
        if len(self.lanes) < self._most_lanes:
            return self.lanes.setdefault(worker, Lane(worker))
        self.other_workers.add(worker)
        self.others = self.others or Lane(worker)
        return self.others

    def _row(self, lane: Lane, start: float) -> list[Block] | None:
        if lane is self.others:
            return None
        for row in lane.rows:
            if not row or row[-1].end <= start:
                return row
        if len(lane.rows) == self._most_rows:
            return None
        lane.rows.append([])
        return lane.rows[-1]

    def _coarsen(self) -> None:
        rows = [row for lane in self.lanes.values() for row in lane.rows]
        whole = max(row[-1].end for row in rows) - min(row[0].start for row in rows)
        while self._count > max(self._most_blocks * 3 // 4, len(rows)):
            self.grain = max(1.5 * self.grain, whole / self._most_blocks, 1e-6)
            for row in rows:
                row[:] = _joined(row, self.grain)
            self._count = sum(map(len, rows))


def _joined(row: list[Block], grain: float) -> list[Block]:
    joined = row[:1]
    for block in row[1:]:
        if block.end - joined[-1].start <= grain:
            joined[-1].take(block)
        else:
            joined.append(block)
    return joined
