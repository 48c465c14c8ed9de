"""Where progress is shown: on a terminal, in Jupyter, or by plain lines, as in logs."""

from __future__ import annotations

import os
import sys
import threading
from importlib import import_module
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from tqdm.std import tqdm

from hypernodes.telemetry._board import Board, Display
from hypernodes.telemetry._screen import look_of, quiet, remarks_of, screen_of, show

if TYPE_CHECKING:
    from typing import TextIO

    from hypernodes.telemetry._board import Line

_FORM: Final = "{desc}: {n_fmt}/{total_fmt}{unit} [{elapsed}<{remaining}, {rate_fmt}{postfix}]"
_ENDLESS: Final = "{desc}: {n_fmt}{unit} [{elapsed}, {rate_fmt}{postfix}]"
_LONG: Final = 1.0
"""Seconds after which the end of a run is worth a line, whatever was written before."""


def display_for(file: TextIO | None, style: str, interval: float, last: Display | None) -> Display:
    """Return what shows the lines of a run that starts now.

    Args:
        file: Where to write; None for standard error.
        style: One of those of `ProgressCallback`.
        interval: Seconds between two plain lines.
        last: What has shown the run before.
    """
    target: Any = sys.stderr if file is None else file
    if os.environ.get("TQDM_DISABLE"):
        return Lines(None, interval)
    if style == "notebook" or (style == "auto" and file is None and _is_notebook()):
        return Widgets()
    if style == "bars" or (style == "auto" and _is_terminal(target)):
        return screen_of(target)
    is_known = isinstance(last, Lines) and last.file is target
    return last if is_known and last is not None else Lines(target, interval)


def _is_terminal(file: Any) -> bool:
    try:
        return bool(file.isatty())
    except (AttributeError, ValueError):  # not a file, or a closed one
        return False


def _is_notebook() -> bool:
    """Tell whether this is a kernel of Jupyter that can show widgets."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if shell is None or "IPKernelApp" not in shell.config:
        return False
    return import_module("tqdm.notebook").IProgress is not None


class Widgets(Display):
    """Bars of Jupyter, which stay where they were made."""

    def __init__(self) -> None:
        self._kind = quiet(import_module("tqdm.notebook").tqdm)
        self._bars: list[tuple[Line, Any]] = []

    def add(self, board: Board, line: Line) -> None:
        del board  # each has widgets of its own
        self._bars.append((line, self._kind(**look_of(line))))

    def draw(self, board: Board) -> None:
        del board
        for line, bar in tuple(self._bars):
            if line.total:
                bar.container.children[1].max = line.total
            show(bar, line)

    def close(self, board: Board) -> None:
        self.draw(board)
        for _, bar in self._bars:
            bar.close()
        self._bars.clear()


class Lines(Display):
    """Plain lines, few enough for a log.

    Args:
        file: Where they go; None for nowhere.
        interval: Seconds between two times.

    Attributes:
        file: Where they go.
    """

    def __init__(self, file: Any, interval: float) -> None:
        self.file: Any = file
        self._interval = interval
        self._lock = threading.Lock()
        self._starts: dict[Board, dict[int, float]] = {}
        self._seen: dict[Board, float] = {}
        self._last = float("-inf")

    def add(self, board: Board, line: Line) -> None:
        with self._lock:
            self._seen.setdefault(board, monotonic())
            self._starts.setdefault(board, {})[id(line)] = monotonic()

    def draw(self, board: Board) -> None:
        with self._lock:
            if monotonic() - max(self._seen[board], self._last) >= self._interval:
                self._write(board)

    def close(self, board: Board) -> None:
        with self._lock:
            try:
                if self._is_worth_a_line(board):
                    self._write(board)
            finally:
                del self._seen[board], self._starts[board]

    def _is_worth_a_line(self, board: Board) -> bool:
        """Tell whether to write at the end: not for each of many short runs."""
        now, starts = monotonic(), self._starts[board]
        has_maps = any(line.unit == "items" for line in board.lines.values())
        is_long = now - min(starts.values()) >= _LONG
        return has_maps or is_long or now - self._last >= self._interval

    def _write(self, board: Board) -> None:
        now = self._last = monotonic()
        starts = self._starts[board]
        lines = tuple(board.lines.values())
        texts = [_text(line, now - starts[id(line)], self.file) for line in lines]
        if self.file is not None:
            self.file.write("".join(f"{text}\n" for text in texts))
            self.file.flush()


def _text(line: Line, elapsed: float, file: Any) -> str:
    look = look_of(line, file)
    return tqdm.format_meter(  # type: ignore[no-any-return]
        line.done,
        line.total,
        elapsed,
        prefix=look["desc"],
        unit=look["unit"],
        postfix=remarks_of(line),
        bar_format=_ENDLESS if line.total is None else _FORM,
    )
