"""Programs of their own that drive the executor, so that they can be interrupted and killed."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hypernodes.testing._suite.base import Conformance

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hypernodes.abc import Executor
    from hypernodes.testing._work import Marks

posix = pytest.mark.skipif(os.name != "posix", reason="needs signals")


class Drivers(Conformance):
    """Starts programs that drive the executor; it has to be importable where they run."""

    @contextmanager
    def driver(self, way: str, executor: Executor, marks: Marks) -> Iterator[subprocess.Popen[str]]:
        """Give a program that runs `executor`, once it has called a node; kill it in the end."""
        command = [sys.executable, "-m", "hypernodes.testing._driver", way, str(marks.folder)]
        path = os.pathsep.join(place or str(Path.cwd()) for place in sys.path)
        with subprocess.Popen(  # noqa: S603 - our own program
            [*command, pickle.dumps(executor).hex()],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": path},
            text=True,
        ) as process:
            try:
                self.wait_for(lambda: process.poll() is not None or bool(marks.names()))
                assert process.poll() is None, process.communicate()[1]
                yield process
            finally:
                process.kill()

    def wait_for_end_of(self, pids: set[int]) -> None:
        """Fail where one of these processes lives on."""
        self.wait_for(lambda: not any(map(is_alive, pids)))


def is_alive(pid: int) -> bool:
    """Whether there is such a process, and it has not ended."""
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except ProcessLookupError:
        return False
    except (OSError, UnicodeError):
        return not Path("/proc/self/stat").exists()
    return state[0] not in "ZX"
