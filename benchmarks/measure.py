"""Timing, on the worker's side: small loops around `perf_counter`, gc as in normal use."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass
from itertools import repeat
from time import perf_counter
from typing import Any, Protocol

Call = Callable[[], Any]

SAMPLE = 0.01  # seconds a sample of a short call should last
LOOPED = 0.0001  # calls shorter than this are timed together, longer ones one by one


class Trial(Protocol):
    """One contender, ready to be measured."""

    def sample(self) -> dict[str, float]:
        """Measure once and return the figures by name."""
        ...


def time_once(call: Call) -> float:
    """Return the seconds of one call; what it returns is let go outside the time."""
    start = perf_counter()
    result = call()
    elapsed = perf_counter() - start
    del result
    return elapsed


def time_loop(call: Call, number: int) -> float:
    """Return the seconds per call of `number` calls in a row."""
    start = perf_counter()
    for _ in repeat(None, number):
        call()
    return (perf_counter() - start) / number


class Steady:
    """Time a call that can be repeated: seconds per call, over a sample of about 10 ms."""

    def __init__(self, call: Call, least: int = 1) -> None:
        """Warm `call` up, and find out how often it fits into a sample.

        Args:
            call: What to time.
            least: The fewest calls of a sample; several where the garbage collector runs in every
                third call or so, and in turns might fall to one side only.
        """
        self.call = call
        typical = time_once(call)
        if typical < SAMPLE:
            typical = min(time_once(call) for _ in range(5))
        self.looped = typical < LOOPED
        self.number = max(least, int(SAMPLE / max(typical, 1e-9)))

    def seconds(self) -> float:
        """Return the mean seconds per call in one sample."""
        if self.looped:
            return time_loop(self.call, self.number)
        return sum(time_once(self.call) for _ in repeat(None, self.number)) / self.number


class Fresh:
    """Time something that is done once: each sample gets new functions, made outside the time.

    The garbage of the sample before is collected first, so that each pays for its own only.
    """

    def __init__(self, make: Callable[[], tuple[Call, Call]]) -> None:
        """Take `make`, which returns the call to time and the call that tidies up after it."""
        self.make = make

    def seconds(self) -> float:
        """Return the seconds of one call."""
        call, tidy = self.make()
        gc.collect()
        try:
            return time_once(call)
        finally:
            tidy()


@dataclass
class Paired:
    """A contender beside plain Python in one process, one after the other, in turning order."""

    contender: Steady | Fresh
    plain: Steady | Fresh
    turn: bool = False

    def sample(self) -> dict[str, float]:
        """Return the seconds per call of both."""
        self.turn = not self.turn
        if self.turn:
            plain, seconds = self.plain.seconds(), self.contender.seconds()
        else:
            seconds, plain = self.contender.seconds(), self.plain.seconds()
        return {"seconds": seconds, "plain": plain}


class WrongResultError(Exception):
    """A contender returned something else than plain Python did."""


def check(condition: bool, got: object) -> None:  # noqa: FBT001 - reads as a sentence
    """Refuse to measure a contender whose result is wrong."""
    if not condition:
        raise WrongResultError(repr(got)[:200])
