"""One contender in a process of its own, as the controller sees it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
# Where `make bench` puts the ancestor: in the environment that runs this, off its path.
ANCESTOR = Path(sys.prefix) / "ancestor"

GRACE = 10.0  # seconds that a process may take to end

Answer = dict[str, Any]


class Contender:
    """A worker process: started with the first request, and again after it died."""

    def __init__(self, key: str) -> None:
        """Take the `key` of the contender."""
        self.key = key
        self.version = ""
        self.missing: Answer = {}
        self._process: subprocess.Popen[str] | None = None

    def ask(self, op: str, *, seconds: float = 120.0, **arguments: Any) -> Answer:
        """Send a request and return the answer; a failure is an answer with "error" in it.

        Args:
            op: What to do; see `worker`.
            seconds: How long to wait; then the process is killed, and that is the failure.
            arguments: For the request.
        """
        if self._process is None and not self.missing:
            self._start()
        return self.missing or self._exchange({"op": op, **arguments}, seconds)

    def close(self) -> None:
        """End the process: by itself, so that it ends its own workers, or else by force."""
        process, self._process = self._process, None
        if process is None:
            return
        try:
            process.communicate(timeout=GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()

    def _start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", self.key],
            cwd=ROOT,
            env=environment(self.key),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        hello = self._exchange({"op": "hello"}, seconds=60.0)
        if "version" in hello:
            self.version = hello["version"]
        else:
            self.missing = hello
            self.close()

    def _exchange(self, request: Answer, seconds: float) -> Answer:
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            return {"error": "no process"}
        stopper = threading.Timer(seconds, process.kill)
        stopper.start()
        try:
            print(json.dumps(request), file=process.stdin, flush=True)
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            stopper.cancel()
        if not line:
            self.close()
            return {"error": f"its process died, or took more than {seconds:.0f} s"}
        answer: Answer = json.loads(line)
        return answer


def environment(key: str) -> dict[str, str]:
    """Return the environment of a process for the contender `key`, without the user's settings."""
    env = {name: text for name, text in os.environ.items() if not name.startswith("HYPERNODES_")}
    env |= {"PYTHONHASHSEED": "0", "HAMILTON_TELEMETRY_ENABLED": "false"}
    if key == "ancestor":
        env["PYTHONPATH"] = str(ANCESTOR)
    return env


def reason(answer: Answer) -> str:
    """Return why an answer holds no figures, or nothing if it does."""
    return str(answer.get("error", ""))
