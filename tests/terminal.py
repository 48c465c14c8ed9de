"""A terminal of our own: what a program draws on it, as somebody would see it."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time

import pyte

PATIENCE = 60  # seconds until a test is given up


class Terminal:
    """Runs a script on a pseudo-terminal and interprets what it writes."""

    def __init__(self, script, *, rows=24, columns=80):
        self.screen = pyte.HistoryScreen(columns, rows, history=10_000)
        self._stream = pyte.ByteStream(self.screen)
        self._end = time.monotonic() + PATIENCE
        self._here, there = pty.openpty()
        fcntl.ioctl(there, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", script],
            stdin=there,
            stdout=there,
            stderr=there,
            start_new_session=True,
        )
        os.close(there)

    @property
    def lines(self):
        """All lines there are, also those that have left the screen at the top."""
        above = (
            "".join(line[column].data for column in range(self.screen.columns))
            for line in self.screen.history.top
        )
        return [line.rstrip() for line in (*above, *self.screen.display) if line.strip()]

    def wait_for(self, *texts):
        """Wait until each of some texts is on the screen."""
        while not all(any(text in line for line in self.lines) for text in texts):
            assert self._read(), f"the program has ended:\n{self.text}"

    def finish(self):
        """Wait for the end of the program; return its lines."""
        while self._read():
            continue
        os.close(self._here)
        self.process.wait(PATIENCE)
        return self.lines

    def interrupt(self):
        """Press Ctrl-C."""
        self.process.send_signal(signal.SIGINT)

    @property
    def text(self):
        return "\n".join(self.lines)

    def _read(self):
        ready, _, _ = select.select([self._here], [], [], max(0.0, self._end - time.monotonic()))
        assert ready, f"nothing happens any more:\n{self.text}"
        try:
            block = os.read(self._here, 65536)
        except OSError:  # Linux's way to say that the other end is closed
            return False
        self._stream.feed(block)
        return bool(block)
