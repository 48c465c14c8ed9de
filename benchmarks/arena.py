"""Races: the contenders take turns, so that drift of the machine hits all alike."""

from __future__ import annotations

import math
import statistics
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Any

from benchmarks import peers
from benchmarks.contender import Contender, reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

LONGEST = 900.0  # seconds that preparing may take
JUDGED = 3  # times the time of others for those who are judged by limits

# By step and contender: size, seconds.
Costs = dict[tuple[str, str], dict[int, float]]


@dataclass(frozen=True)
class Effort:
    """How much a run may cost.

    Args:
        rounds: The most samples of one contender in one race.
        enough: The fewest samples, patience permitting.
        seconds: A contender that has enough samples takes no more after this time.
        patience: A contender takes no more at all after this time, and does not start on something
            that is expected to take longer.
    """

    rounds: int
    enough: int
    seconds: float
    patience: float


FULL = Effort(rounds=15, enough=3, seconds=1.5, patience=6.0)
QUICK = Effort(rounds=5, enough=2, seconds=0.2, patience=0.6)


@dataclass
class Result:
    """What one contender did in one race: samples, or the reason why there are none."""

    key: str
    samples: list[dict[str, float]] = field(default_factory=list)
    note: str = ""
    spent: float = 0.0

    @property
    def title(self) -> str:
        """The contender's name in tables."""
        return peers.TITLES[self.key]

    def median(self, figure: str = "seconds") -> float:
        """Return the median of a figure over the samples."""
        return statistics.median(sample[figure] for sample in self.samples)

    def least(self, figure: str = "seconds") -> float:
        """Return the minimum of a figure over the samples."""
        return min(sample[figure] for sample in self.samples)

    def over(self) -> float:
        """Return the median of what each sample took longer than plain Python beside it."""
        return statistics.median(each["seconds"] - each["plain"] for each in self.samples)

    def least_over(self) -> float:
        """Return the fastest sample less plain Python's fastest."""
        return self.least() - self.least("plain")

    def wants_more(self, effort: Effort) -> bool:
        """Return whether the contender should take another turn."""
        allowed = effort.patience if len(self.samples) < effort.enough else effort.seconds
        return not self.note and self.spent < allowed * (JUDGED if self.key in peers.OURS else 1)


class Arena:
    """All contenders: started when first needed, ended together."""

    def __init__(self, effort: Effort) -> None:
        """Take the effort to spend on each race."""
        self.effort = effort
        self._contenders: dict[str, Contender] = {}
        self._costs: dict[str, Costs] = {}

    @classmethod
    @contextmanager
    def opened(cls, effort: Effort) -> Iterator[Arena]:
        """Give an arena, and end its processes when the block ends."""
        arena = cls(effort)
        try:
            yield arena
        finally:
            for contender in arena._contenders.values():
                contender.close()

    def contender(self, key: str) -> Contender:
        """Return the one process that serves `key`."""
        return self._contenders.setdefault(key, Contender(key))

    def missing(self, key: str) -> str:
        """Start a contender; return why that failed, or nothing."""
        return reason(self.contender(key).ask("drop"))

    def version(self, key: str) -> str:
        """Return a contender's version, or why it has none."""
        return self.missing(key) or self.contender(key).version

    def race(self, case: str, *, like: str = "") -> Race:
        """Return a race for the module `case`, to be run at one size after the other.

        Args:
            case: The module whose `trial` the workers call.
            like: A name shared by races of about the same cost: what took too long in one of them
                is left out of the others.
        """
        return Race(self, case, self._costs.setdefault(like or case, {}))

    def alone(self, case: str, key: str, params: dict[str, Any]) -> Result:
        """Measure once, in a process that has done nothing else."""
        contender = Contender(key)
        try:
            note = reason(contender.ask("prepare", case=case, params=params))
            if note:
                return Result(key, note=note)
            answer = contender.ask("sample")
            note = reason(answer)
            return Result(key, [] if note else [answer], note)
        finally:
            contender.close()


class Race:
    """The same trial at growing sizes; the smaller ones tell what the larger ones will cost."""

    def __init__(self, arena: Arena, case: str, costs: Costs) -> None:
        """Take the module `case`, and what is known about its `costs`."""
        self.arena = arena
        self.case = case
        self._costs = costs

    def run(self, keys: Iterable[str], params: dict[str, Any], *, size: int = 1) -> list[Result]:
        """Measure the contenders in turns.

        Args:
            keys: The contenders.
            params: Arguments for `trial`.
            size: Nodes or items.
        """
        results = [self._prepared(key, params, size) for key in keys]
        for turn in range(self.arena.effort.rounds):
            runners = [each for each in results if each.wants_more(self.arena.effort)]
            shift = turn % max(1, len(runners))
            for result in runners[shift:] + runners[:shift]:
                self._sample(result)
        for result in results:
            if result.samples:
                self._remember("call", result.key, size, result.median())
            self.arena.contender(result.key).ask("drop")
        return results

    def _prepared(self, key: str, params: dict[str, Any], size: int) -> Result:
        self.arena.missing(key)  # starts the process, which is no part of preparing
        too_long = "" if key in peers.OURS else self._too_long(key, size)
        if too_long:
            return Result(key, note=too_long)
        start = perf_counter()
        request = {"case": self.case, "params": params}
        note = reason(self.arena.contender(key).ask("prepare", seconds=LONGEST, **request))
        if not note:
            self._remember("prepare", key, size, perf_counter() - start)
        return Result(key, note=note)

    def _too_long(self, key: str, size: int) -> str:
        for step in ("prepare", "call"):
            expected = foreseen(self._costs.get((step, key), {}), size)
            if expected > self.arena.effort.patience:
                wait = f"{expected:,.0f} s" if expected < 120 else f"{expected / 60:,.0f} min"
                return f"left out: to {step} takes about {wait}"
        return ""

    def _sample(self, result: Result) -> None:
        start = perf_counter()
        answer = self.arena.contender(result.key).ask("sample")
        result.spent += perf_counter() - start
        result.note = reason(answer)
        if not result.note:
            result.samples.append(answer)

    def _remember(self, step: str, key: str, size: int, seconds: float) -> None:
        self._costs.setdefault((step, key), {})[size] = seconds


def foreseen(costs: Mapping[int, float], size: int) -> float:
    """Return the seconds to expect at `size`, from the seconds at that size or at smaller ones."""
    known = sorted((smaller, seconds) for smaller, seconds in costs.items() if smaller <= size)
    if not known:
        return 0.0
    (last, seconds), power = known[-1], 1.0
    if len(known) > 1:
        before, less = known[-2]
        power = max(1.0, math.log(seconds / less) / math.log(last / before))
    return float(seconds * (size / last) ** power)
