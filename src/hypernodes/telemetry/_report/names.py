"""What the page calls nodes, items and workers, and how it refers to them."""

from __future__ import annotations

import os
import platform
from collections import Counter
from typing import TYPE_CHECKING, Final

from hypernodes.telemetry._report.drawing import Picture, picture_of
from hypernodes.telemetry._report.words import LONGEST_NAME, shortened

if TYPE_CHECKING:
    from hypernodes._dispatch.place import Worker
    from hypernodes.telemetry._report.record import Key, Path, Record

INSIDE: Final = " \N{SINGLE RIGHT-POINTING ANGLE QUOTATION MARK} "


class Names:
    """The names of all that a run has, and its picture, which has nodes that nobody called.

    Args:
        record: The run.

    Attributes:
        picture: The graph, if it can be drawn.
        keys: All nodes, those that took longest first.
    """

    def __init__(self, record: Record) -> None:
        self._record = record
        self._root = len(record.path)
        self.picture: Picture | None = picture_of(record.pipeline, record.path)
        drawn = [] if self.picture is None else self.picture.leaves
        keys = list(dict.fromkeys([*record.nodes, *drawn]))
        self.keys: list[Key] = sorted(keys, key=self._weight)
        self._numbers = {key: number for number, key in enumerate(self.keys)}
        self._paths = Counter(path for path, _ in self.keys)
        self._here = platform.node(), os.getpid()

    def _weight(self, key: Key) -> tuple[float, int]:
        stats = self._record.nodes.get(key)
        return (0.0, 0) if stats is None else (-stats.seconds, -stats.calls - stats.cached)

    def number(self, key: Key) -> int | None:
        """Return what a node is referred to by."""
        return self._numbers.get(key)

    def of(self, key: Key) -> str:
        """Return the name of a node, with those of the pipelines around it inside the run."""
        path, outputs = key
        name = self.path(path)
        if self._paths[path] > 1:
            name = f"{name} → {', '.join(outputs)}"
        return shortened(name, LONGEST_NAME)

    def path(self, path: Path) -> str:
        """Return the name of what is at a path; the run's own pipeline goes without saying."""
        return shortened(INSIDE.join(path[self._root :] or path[-1:]), LONGEST_NAME)

    def place(self, path: Path, items: tuple[int, ...]) -> str:
        """Return where something is, with the item."""
        return f"{self.path(path)}, {self.item(items)}" if items else self.path(path)

    @staticmethod
    def item(items: tuple[int, ...]) -> str:
        """Return what an item is called, inside of the items around it."""
        return f"item {INSIDE.join(map(str, items))}" if items else ""

    def worker(self, worker: Worker) -> tuple[str, str]:
        """Return what a worker is called: its process, and its thread."""
        if (worker.host, worker.process) == self._here:
            return "driver", worker.thread
        process = f"process {worker.process}"
        return (process if worker.host == self._here[0] else f"{worker.host}, {process}"), (
            worker.thread
        )
