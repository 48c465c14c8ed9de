"""The same maps simulated and run: `python -m benchmarks.scaling validate`."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest.mock import patch

from benchmarks.measure import check
from benchmarks.scaling import rules
from benchmarks.scaling.costs import PROCESSES
from benchmarks.scaling.parts import Work
from benchmarks.scaling.simulation import Simulation
from hypernodes import Pipeline, ProcessPoolExecutor, RuntimeConfig, node

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROUNDS = 9


@dataclass(frozen=True)
class Case:
    """A map that is run and simulated.

    Attributes:
        name: What its items do.
        seconds: For how long.
        items: How many there are.
        workers: How many do it.
        body: What an item runs.
    """

    name: str
    seconds: float
    items: int
    workers: int
    body: Callable[[float, Any], Any]


class Verdict(NamedTuple):
    """How long a map took and how many chunks it had, run and simulated."""

    case: Case
    seconds: float
    chunks: int
    simulated_seconds: float
    simulated_chunks: int


def idle(seconds, x):  # noqa: ARG001 - takes what the others take
    """Do nothing."""
    return x


def busy(seconds, x):
    """Use a processor for so many seconds."""
    end = process_time() + seconds
    while process_time() < end:
        pass
    return x


def asleep(seconds, x):
    """Use none."""
    time.sleep(seconds)
    return x


CASES = (
    Case("nothing", 0.0, 1_000_000, 2, idle),
    Case("compute 20 us", 20e-6, 500_000, 2, busy),
    Case("compute 100 us", 100e-6, 100_000, 2, busy),
    Case("compute 1 ms", 1e-3, 10_000, 2, busy),
    Case("sleep 10 ms", 10e-3, 20_000, 32, asleep),
    Case("sleep 50 ms", 50e-3, 5_000, 32, asleep),
)


def verdicts() -> Iterator[Verdict]:
    """Run and simulate each case."""
    for case in CASES:
        seconds, chunks = min(ran(case) for _ in range(ROUNDS))
        work = Work(items=case.items, seconds=case.seconds, known=True)
        found = Simulation(work, case.workers, PROCESSES).run()
        yield Verdict(case, seconds, chunks, found.seconds, found.chunks)


def ran(case: Case) -> tuple[float, int]:
    """Run a map on warm workers; return the time by the clock, and how many chunks it had."""
    pipeline = Pipeline([node("y")(partial(case.body, case.seconds))])
    given: list[int] = []
    give = rules.hand.Hand.give

    def counted(hand: Any, chunk: Any, number: int) -> None:
        given.append(number)
        give(hand, chunk, number)

    with ProcessPoolExecutor(max_workers=case.workers) as executor:
        config = RuntimeConfig(executor=executor)
        warm = range(20 * case.workers)
        pipeline.map({"x": warm}, map_over="x", config=config)
        with patch.object(rules.hand.Hand, "give", counted):
            before = perf_counter()
            results = pipeline.map({"x": range(case.items)}, map_over="x", config=config)
            seconds = perf_counter() - before
    check([result["y"] for result in results] == list(range(case.items)), results[:3])
    return seconds, len(given)
