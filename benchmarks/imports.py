"""Importing the library, in fresh interpreters that take turns."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from benchmarks.arena import Arena, Result
from benchmarks.contender import ROOT, environment
from benchmarks.report import Limit, Table

if TYPE_CHECKING:
    from collections.abc import Iterator

LIMIT = Limit(30)
NAMES = "Pipeline, RuntimeConfig, node"
ROUNDS = 21
SPARSE = 5  # peers take part in every fifth round: some need more than a second


@dataclass
class Statement:
    """An import statement, and the contender in whose environment it runs."""

    title: str
    key: str
    text: str
    result: Result = field(init=False)

    def __post_init__(self) -> None:
        self.result = Result(self.key)

    def seconds(self) -> float:
        """Return the seconds the statement takes in a process of its own."""
        lines = (
            "from time import perf_counter",
            "start = perf_counter()",
            self.text,
            "print(perf_counter() - start)",
        )
        finished = subprocess.run(
            [sys.executable, "-c", "\n".join(lines)],
            cwd=ROOT,
            env=environment(self.key),
            capture_output=True,
            text=True,
            check=True,
        )
        return float(finished.stdout.split()[-1])


def statements() -> list[Statement]:
    """Return what is timed: what the limit is about first, then the peers."""
    return [
        Statement("pydantic", "plain", "import pydantic"),
        Statement("pydantic, a model's base", "plain", "from pydantic import BaseModel"),
        Statement("hypernodes", "hypernodes", "import hypernodes"),
        Statement("hypernodes, names loaded", "hypernodes", f"from hypernodes import {NAMES}"),
        Statement("ancestor", "ancestor", "import hypernodes"),
        Statement("pipefunc", "pipefunc", "import pipefunc"),
        Statement("Hamilton", "hamilton", "from hamilton import driver"),
        Statement("joblib", "joblib", "import joblib"),
    ]


def tables(arena: Arena, *, quick: bool) -> Iterator[Table]:
    """Time one import statement a process; "plain" is `import pydantic`."""
    every = statements()
    for each in every:
        each.result.note = arena.missing(each.key)  # which also warms the disk's cache
    there = [each for each in every if not each.result.note]
    for turn in range(ROUNDS // (4 if quick else 1)):
        take_turns([each for each in there if each in every[:4] or turn % SPARSE == 0])
    table = Table("imports", "import in a fresh interpreter", "ms")
    for each in every:
        limit = LIMIT if each.text == "import hypernodes" else None
        table.add("import", [each.result], factor=1e3, limit=limit)
        table.rows[-1].contender = each.title
    table.remarks.append(
        '"plain" is `import pydantic`, which loads little; the second row adds what a class that'
        " derives from its `BaseModel` loads in any case."
    )
    table.remarks.append(f'"names loaded" is `from hypernodes import {NAMES}`: the first use.')
    yield table


def take_turns(runners: list[Statement]) -> None:
    """Run each statement once; the first is `import pydantic`, the measure for the others."""
    seconds = [each.seconds() for each in runners]
    for each, took in zip(runners, seconds, strict=True):
        each.result.samples.append({"seconds": took, "plain": seconds[0]})
