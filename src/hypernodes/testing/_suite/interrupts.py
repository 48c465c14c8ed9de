"""Ctrl-C, and the end of the program."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import pytest

from hypernodes.testing._driver import ENDS, WAYS
from hypernodes.testing._suite.drivers import Drivers, posix

if TYPE_CHECKING:
    from hypernodes.abc import Executor
    from hypernodes.testing._work import Marks


class Interrupts(Drivers):
    """What Ctrl-C does."""

    @posix
    @pytest.mark.parametrize("way", WAYS)
    def test_ctrl_c_ends_the_run_and_the_program_soon(
        self, executor: Executor, marks: Marks, way: str
    ) -> None:
        with self.driver(way, executor, marks) as process:
            sent = time.time()
            process.send_signal(signal.SIGINT)
            told, errors = process.communicate(timeout=self.limit)
        assert process.returncode == 0, errors
        word, at = told.split()
        assert word == "interrupted"
        assert float(at) - sent < self.stop_within

    def test_the_program_ends_by_itself_though_nothing_is_closed(
        self, executor: Executor, marks: Marks
    ) -> None:
        with self.driver(ENDS, executor, marks) as process:
            told, errors = process.communicate(timeout=self.limit)
        assert (process.returncode, told) == (0, ""), errors
