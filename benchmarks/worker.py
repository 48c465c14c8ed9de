"""The worker: one process, one contender, lines of JSON in and out.

    {"op": "hello"}                                   -> {"version": ...}
    {"op": "prepare", "case": module, "params": {}}   -> {} when ready to be sampled
    {"op": "sample"}                                  -> {"seconds": ..., ...}
    {"op": "drop"}                                    -> {}

A failure is answered with `{"error": ...}`; a contender that is not installed fails at "hello".
"""

from __future__ import annotations

import gc
import json
import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any, TextIO

from benchmarks import peers

if TYPE_CHECKING:
    from benchmarks.measure import Trial

LONGEST = 90  # characters of a message


class Worker:
    """Answers one request at a time."""

    def __init__(self, key: str) -> None:
        """Take the `key` of the contender; nothing is imported before "hello"."""
        self.key = key
        self.peer: peers.Peer | None = None
        self.trial: Trial | None = None

    def hello(self) -> dict[str, Any]:
        """Import the contender and return its version."""
        self.peer = peers.load(self.key)
        return {"version": self.peer.version()}

    def prepare(self, case: str, params: dict[str, Any]) -> dict[str, Any]:
        """Let the module of the case make a trial."""
        self.drop()
        self.trial = import_module(f"benchmarks.{case}").trial(self.peer, **params)
        return {}

    def sample(self) -> dict[str, Any]:
        """Measure once."""
        if self.trial is None:
            raise RuntimeError("nothing prepared")
        return self.trial.sample()

    def drop(self) -> dict[str, Any]:
        """Forget the trial."""
        self.trial = None
        gc.collect()
        return {}


def serve(worker: Worker, requests: TextIO, answers: TextIO) -> None:
    """Answer `requests` until they end."""
    for line in requests:
        request = json.loads(line)
        try:
            answer = getattr(worker, request.pop("op"))(**request)
        except Exception as error:  # noqa: BLE001 - whatever a contender raises belongs in the table
            answer = {"error": described(error)}
        print(json.dumps(answer), file=answers, flush=True)


def described(error: Exception) -> str:
    """Return `error` in the few words that fit into a table."""
    if isinstance(error, NotImplementedError):
        return str(error)
    if isinstance(error, ModuleNotFoundError):
        return f"not installed ({error.name})"
    first = (str(error).strip().splitlines() or [""])[0][:LONGEST]
    return f"{type(error).__name__}: {first}"


def main() -> None:
    """Serve the contender named on the command line; its own prints go to stderr."""
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)
        serve(Worker(sys.argv[1]), sys.stdin, answers)


if __name__ == "__main__":
    main()
