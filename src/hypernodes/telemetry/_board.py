"""What progress is shown of: lines with counts, those of one run together on a board."""

from __future__ import annotations

import itertools
import logging
import threading
from abc import ABC, abstractmethod
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from hypernodes._dispatch.session import log_error

if TYPE_CHECKING:
    from hypernodes._engine.observing.tally import Tally
    from hypernodes.callbacks import CallbackContext

Counts = tuple[int, int, int]

REDRAW: Final = 0.1
"""Seconds between two pictures."""
_logger: Final = logging.getLogger("hypernodes.telemetry")


@dataclass(slots=True, eq=False)
class Line:
    """What is counted of one pipeline, or of the maps at one place.

    Attributes:
        name: What it is called.
        depth: How deep it lies.
        unit: What is counted: `"nodes"` or `"items"`.
        total: How many there are, if that is known.
        state: What is done, and will not change (all, failed, and cached ones); and the maps that
            are under way, by their run. Changed at once, since another thread reads it.
    """

    name: str
    depth: int
    unit: str
    total: int | None = 0
    state: tuple[Counts, dict[str, Tally]] = field(default_factory=lambda: ((0, 0, 0), {}))

    def aim(self, count: int | None) -> None:
        """Expect so many more."""
        self.total = None if self.total is None or count is None else self.total + count

    def add(self, *, is_failed: bool, is_cached: bool) -> None:
        """Count one."""
        (done, failed, cached), tallies = self.state
        self.state = (done + 1, failed + is_failed, cached + is_cached), tallies

    def follow(self, run_id: str, tally: Tally) -> None:
        """Count what a map counts, as it goes on."""
        settled, tallies = self.state
        self.state = settled, tallies | {run_id: tally}

    def settle(self, run_id: str) -> None:
        """Count what a map has come to."""
        settled, tallies = self.state
        left = {key: tally for key, tally in tallies.items() if key != run_id}
        if run_id in tallies:
            self.state = _sum(settled, tallies[run_id]), left

    def counts(self) -> Counts:
        """Return how many are done, how many of them failed, and how many came from a cache."""
        found, tallies = self.state
        for tally in tallies.values():
            found = _sum(found, tally)
        return found

    @property
    def done(self) -> int:
        """How many are done."""
        return self.counts()[0]


def _sum(counts: Counts, tally: Tally) -> Counts:
    done, failed, cached = counts
    return done + tally.ended, failed + tally.failed, cached + tally.cached


class Display(ABC):
    """Shows the lines of boards."""

    @abstractmethod
    def add(self, board: Board, line: Line) -> None:
        """Show a further line of a board."""

    @abstractmethod
    def draw(self, board: Board) -> None:
        """Show how far the lines of a board are."""

    @abstractmethod
    def close(self, board: Board) -> None:
        """Show the lines of a board for the last time."""


class Board:
    """The lines of one outermost run, and the thread that has them drawn.

    Args:
        display: Draws them.

    Attributes:
        lines: The lines, by their place and what they count.
        runs: How many of its pipelines have started and not ended.
    """

    _numbers = itertools.count(1)

    def __init__(self, display: Display) -> None:
        self.lines: dict[tuple[tuple[str, ...], str], Line] = {}
        self.runs = 0
        self._display = display
        self._is_over = threading.Event()
        self._thread: threading.Thread | None = None

    def expect(self, ctx: CallbackContext, unit: str, count: int | None) -> None:
        """Expect so many more on a line; the first time, it is shown from then on."""
        key = ctx.path, unit
        if key in self.lines:
            self.lines[key].aim(count)
            return
        line = Line(ctx.path[-1], ctx.depth, unit)
        line.aim(count)
        self._display.add(self, line)
        self.lines[key] = line
        self._start()

    def _start(self) -> None:
        if self._thread is None:
            self._is_over.clear()
            name = f"hypernodes-progress-{next(self._numbers)}"
            call = copy_context().run
            self._thread = threading.Thread(target=call, args=(self._draw,), name=name, daemon=True)
            self._thread.start()

    def _draw(self) -> None:
        try:
            while not self._is_over.wait(REDRAW):
                self._display.draw(self)
        except Exception as error:  # noqa: BLE001 - whatever a file raises
            log_error(_logger, "progress is not shown any more", error)

    def close(self) -> None:
        """Draw for the last time."""
        self._is_over.set()
        thread, self._thread = self._thread, None
        try:
            if thread is not None:
                thread.join()
        finally:
            self._display.close(self)
            self.lines.clear()
