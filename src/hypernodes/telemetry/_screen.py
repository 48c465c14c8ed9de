"""Bars on a terminal, below what the program prints meanwhile."""

from __future__ import annotations

import os
import re
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakValueDictionary

from tqdm.std import tqdm
from tqdm.utils import disp_trim

from hypernodes.telemetry._board import Board, Display

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypernodes.telemetry._board import Line

_UP: Final = "\x1b[A"
_MOVES: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
"""What moves the cursor, which names have to leave where it is."""
_screens: Final[WeakValueDictionary[int, Screen]] = WeakValueDictionary()


def screen_of(file: Any) -> Screen:
    """Return the screen that a file is, the same for all who draw on it."""
    with tqdm.get_lock():
        found = _screens.get(id(file))
        if found is None:
            found = _screens[id(file)] = Screen(file)
        return found


def look_of(line: Line, file: Any = None) -> dict[str, Any]:
    """Return what a bar for a line looks like, as arguments of tqdm.

    Args:
        line: The line.
        file: Where the bar is written; None for where anything can be shown.
    """
    encoding = getattr(file, "encoding", None) or "utf-8"
    name = _MOVES.sub(" ", line.name).encode(encoding, "backslashreplace").decode(encoding)
    return {
        "total": line.total,
        "desc": "  " * line.depth + name,
        "unit": f" {line.unit}",
        "disable": False,
        "mininterval": 0,
        "miniters": 1,
    }


def remarks_of(line: Line) -> str:
    """Return what a line tells besides how much is done."""
    _, failed, cached = line.counts()
    remarks = {"failed": failed, "cached": cached}
    return ", ".join(f"{number} {what}" for what, number in remarks.items() if number)


def show(bar: Any, line: Line) -> None:
    """Have a bar of tqdm show how far a line is."""
    bar.total = line.total
    bar.set_postfix_str(remarks_of(line), refresh=False)
    if not bar.update(line.done - bar.n):
        bar.refresh()


def _fitting(*facts: Any, ncols: int | None = None, **named: Any) -> str:
    """Return a bar that fits on the terminal; tqdm sees to that where totals are known."""
    text: str = tqdm.format_meter(*facts, ncols=ncols, **named)
    return disp_trim(text, ncols) if ncols else text


def quiet(kind: Any) -> Any:
    """Return a class of tqdm's without the thread that looks after slow bars: boards have one."""
    return type("Bar", (kind,), {"monitor_interval": 0})


class Screen(Display):
    """The bars on one terminal, of all that run at the same time.

    tqdm's own lock guards all of it, since bars of the program may be on the same screen.

    Args:
        file: The terminal.
    """

    def __init__(self, file: Any) -> None:
        self._file = file
        self._raw = _Raw(file)
        self._kind = type("Bar", (quiet(tqdm),), {"format_meter": staticmethod(_fitting)})
        self._bars: dict[tuple[Board, int], tuple[Line, Any]] = {}
        self._streams: list[_Stream] = []
        self._is_clear = True

    def add(self, board: Board, line: Line) -> None:
        with tqdm.get_lock():
            if not self._bars:
                self._take_streams()
            place = len(self._bars)
            options = {"file": self._raw, "position": place, "leave": False, "dynamic_ncols": True}
            self._is_clear = False
            self._bars[board, place] = line, self._kind(**look_of(line, self._file), **options)

    def draw(self, board: Board) -> None:
        with tqdm.get_lock():
            self._is_clear = False
            for (owner, _), (line, bar) in self._bars.items():
                if owner is board:
                    show(bar, line)

    def close(self, board: Board) -> None:
        with tqdm.get_lock():
            self.clear()
            over = [entry for key, entry in self._bars.items() if key[0] is board]
            left = [(key[0], entry) for key, entry in self._bars.items() if key[0] is not board]
            texts = [_last_text(line, bar) for line, bar in over]
            for _, bar in over:
                bar.close()
            self._raw.write("".join(f"{text}\n" for text in texts))
            self._raw.flush()
            self._bars = {(owner, place): entry for place, (owner, entry) in enumerate(left)}
            for place, (_, bar) in enumerate(self._bars.values()):
                bar.pos = -place
            if not self._bars:
                self._give_streams_back()
        self._raw.check()

    def clear(self) -> None:
        """Take the bars away until they are drawn again."""
        if not self._is_clear:
            self._is_clear = True
            for _, bar in self._bars.values():
                bar.clear()

    # ------------------------------------------------------------ what the program prints

    def _take_streams(self) -> None:
        """Have what is printed come above the bars, whoever writes it to this terminal."""
        for stream in {id(s): s for s in (self._file, sys.stdout, sys.stderr)}.values():
            with suppress(AttributeError, ValueError):  # not a file, closed, or not to be changed
                if stream.isatty():
                    self._streams.append(_Stream(stream, self))

    def leave_streams(self) -> None:
        """Let streams be as they were, in a process that was forked: the bars are its parent's.

        tqdm's lock is one for all of these processes, so one that is killed as it prints keeps it.
        """
        for stream in self._streams:
            stream.leave()
        self._streams.clear()

    def _give_streams_back(self) -> None:
        while self._streams:
            with suppress(Exception):  # it may be closed by now
                self._streams.pop().restore()


def _leave_all_streams() -> None:
    for screen in tuple(_screens.values()):
        screen.leave_streams()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_leave_all_streams)


def _last_text(line: Line, bar: Any) -> str:
    """Return a bar as it is in the end, with its rate over all the time."""
    bar.total, bar.n = line.total, line.done
    bar.set_postfix_str(remarks_of(line), refresh=False)
    return bar.format_meter(**bar.format_dict | {"rate": None})  # type: ignore[no-any-return]


class _Raw:
    """A file as it was before its `write` was replaced, which fails only when it is asked.

    Bars of tqdm hold a lock while they write, and keep it if that fails.
    """

    def __init__(self, file: Any) -> None:
        self._file = file
        self._write = file.write
        self._error: Exception | None = None

    def write(self, text: str) -> None:
        self._try(self._write, text)

    def flush(self) -> None:
        self._try(self._file.flush)

    def _try(self, call: Callable[..., object], *arguments: object) -> None:
        try:
            call(*arguments)
        except Exception as error:  # noqa: BLE001 - raised by `check`
            self._error = self._error or error

    def check(self) -> None:
        """Raise the first error there was since the last time."""
        error, self._error = self._error, None
        if error is not None:
            raise error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


class _Stream:
    """A stream to the terminal: whole lines come above the bars, the rest waits.

    Its `write` is replaced, since many keep the stream itself, as handlers of logging do. What
    moves the cursor, as other bars of tqdm do, goes through: they have their places.

    Args:
        stream: The stream.
        screen: Has the bars.
    """

    def __init__(self, stream: Any, screen: Screen) -> None:
        self._stream = stream
        self._screen = screen
        self._plain = stream.write
        self._rest = ""
        stream.write = self._write

    def restore(self) -> None:
        """Write what waits, and give the stream its own `write` back."""
        self.leave()
        if self._rest:
            self._plain(self._rest)

    def leave(self) -> None:
        """Give the stream its own `write` back."""
        if vars(self._stream).get("write") == self._write:
            del self._stream.write

    def _write(self, text: str) -> int:
        with tqdm.get_lock():
            if text.startswith("\r") or not text.replace(_UP, ""):
                self._plain(text)
                return len(text)
            lines, end, self._rest = (self._rest + text).rpartition("\n")
            if end:
                self._screen.clear()
                self._plain(lines + end)
                self._stream.flush()
            return len(text)
