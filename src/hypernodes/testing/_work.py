"""What the nodes of the suite do, and how it learns of it: no memory is shared, only files.

Workers import this room, so it needs no pytest.
"""

from __future__ import annotations

import os
import threading
import time
import zlib
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from hypernodes._stateful import stateful

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PAUSE = 0.002
"""Seconds between two looks at a file."""


@dataclass(frozen=True)
class Marks:
    """Counts what happens in any process: each mark is a file of its own in `folder`."""

    folder: Path

    def leave(self, name: object) -> None:
        """Leave a mark of that name, which must be fit for a file's."""
        (self.folder / f"{name}@{uuid4().hex}").touch()

    def counts(self) -> Counter[str]:
        """Return how many marks there are of each name."""
        return Counter(path.name.partition("@")[0] for path in self.folder.iterdir())

    def count(self, name: object) -> int:
        """Return how many marks there are of one name."""
        return self.counts()[str(name)]

    def names(self) -> set[str]:
        """Return the names of which there are marks."""
        return set(self.counts())


@dataclass(frozen=True)
class Gate:
    """Lets calls in any process wait until it is opened, or for `seconds`."""

    path: Path
    seconds: float

    def open(self) -> None:
        """Let everybody through, now and later."""
        self.path.touch()

    def wait(self) -> bool:
        """Return whether it was opened in time."""
        end = time.monotonic() + self.seconds
        while not self.path.exists():
            if time.monotonic() > end:
                return False
            time.sleep(PAUSE)
        return True


# --- Errors ---------------------------------------------------------------------------------------


class TwoArgumentsError(Exception):
    """One that `pickle` by itself cannot build again."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code


class LockedError(ValueError):
    """One that holds what cannot be pickled."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = threading.Lock()


@dataclass(frozen=True)
class FrozenError(Exception):
    """One that cannot be changed, not even to take a note."""

    code: int


def fail_twice_over(x: int) -> None:
    """Raise an error with two required arguments."""
    raise TwoArgumentsError(x, "two")


def fail_locked(x: int) -> None:
    """Raise an error that holds a lock."""
    raise LockedError(f"locked {x}")


def fail_frozen(x: int) -> None:
    """Raise an error that cannot be changed."""
    raise FrozenError(x)


# --- Functions ------------------------------------------------------------------------------------


def bounds(values: list[int]) -> tuple[int, int]:
    """Return the lowest and the highest."""
    return min(values), max(values)


def total(values: list[int], weight: int = 1) -> int:
    """Return the weighted sum."""
    return weight * sum(values)


def spread(low: int, high: int, *, unit: int = 1) -> float:
    """Return how far apart the bounds are."""
    return (high - low) / unit


async def summary(total: int, spread: float, /) -> tuple[int, float]:
    """Return both, as one value."""
    return total, spread


def neighbours(x: int) -> Iterator[int]:
    """Yield the numbers before and after."""
    yield x - 1
    yield x + 1


@dataclass(frozen=True)
class Scale:
    """A callable object with a method that is one, too."""

    factor: int

    def __call__(self, x: int) -> int:
        return self.factor * x

    def shifted(self, x: int, by: int = 1) -> int:
        """Return `x` scaled and shifted."""
        return self.factor * x + by


@stateful
class Model:
    """One that leaves a mark of the process that builds it, and cannot travel when it is built.

    Args:
        marks: Where.
        factor: What it multiplies by.
        failing: How often it cannot be built at first.
    """

    def __init__(self, marks: Marks, factor: int = 2, *, failing: int = 0) -> None:
        marks.leave(os.getpid())
        if sum(marks.counts().values()) <= failing:
            raise ConnectionError("not now")
        self.factor = factor
        self.lock = threading.Lock()

    def __call__(self, x: int) -> int:
        """Return `x` scaled."""
        with self.lock:
            return self.factor * x


def use(x: int, model: Model) -> int:
    """Return what the model makes of `x`."""
    return model(x)


def same(x: Any) -> Any:
    """Return what is given."""
    return x


async def same_later(x: Any) -> Any:
    """Return what is given, as a coroutine."""
    return x


def adding(value: Any) -> Callable[[Any], Any]:
    """Return a closure that adds `value`."""
    return lambda x: x + value


def negative_fails(x: int) -> int:
    """Return what is given, or fail."""
    if x < 0:
        raise ValueError(f"no {x}")
    return x


def marking(marks: Marks, name: str | None = None) -> Callable[[Any], Any]:
    """Return a function that returns what it is given and leaves a mark of it, or of `name`."""

    def work(x: Any) -> Any:
        marks.leave(x if name is None else name)
        return x

    return work


def flaky(
    marks: Marks, times: int, error: Callable[[str], BaseException] = ValueError
) -> Callable[[Any], Any]:
    """Return a function that fails so many times for each argument, and leaves a mark each time."""

    def work(x: Any) -> Any:
        marks.leave(x)
        attempt = marks.count(x)
        if attempt <= times:
            raise error(f"attempt {attempt}")
        return x

    return work


def stuck(gate: Gate, marks: Marks, *, times: int, among: tuple[int, ...]) -> Callable[[int], int]:
    """Return a function that is stuck so many times for each of the arguments `among`."""

    def work(x: int) -> int:
        marks.leave(x)
        if x in among and marks.count(x) <= times:
            gate.wait()
        return x

    return work


# --- Functions of random graphs -------------------------------------------------------------------


def digest(count: int, *facts: Any) -> Any:
    """Return a number that depends on all of `facts`, or a tuple of `count` numbers."""
    numbers = tuple(zlib.crc32(repr((place, facts)).encode()) for place in range(count))
    return numbers if count > 1 else numbers[0]


def mixing(takes: int, makes: int, salt: int, *, is_later: bool) -> Callable[..., Any]:
    """Return a function of `takes` numbers, and of `salt` with this default, that makes `makes`."""

    def one(a: Any, salt: int = salt) -> Any:
        return digest(makes, a, salt)

    async def one_later(a: Any, salt: int = salt) -> Any:
        return digest(makes, a, salt)

    def two(a: Any, b: Any, salt: int = salt) -> Any:
        return digest(makes, a, b, salt)

    def three(a: Any, b: Any, c: Any, salt: int = salt) -> Any:
        return digest(makes, a, b, c, salt)

    return (one_later if is_later else one, two, three)[takes - 1]
