"""Bare processes that take one item after the other from a list that they share."""

from __future__ import annotations

from concurrent import futures
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

from benchmarks.peers.plain import Plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.graphs import Function
    from benchmarks.measure import Call

_shared: list[Any] = []


class SharedList(Plain):
    """No item waits while a process is idle, and none travels: nothing can be faster by much."""

    def process_mapper(self, function: Function, values: Sequence[Any], workers: int) -> Call:
        """Return one task a process, which works until the list is done."""
        context = get_context("forkserver")
        taken = context.Value("q", 0)
        given = (function, values, taken)
        pool = futures.ProcessPoolExecutor(workers, context, _share, given)

        def call() -> list[dict[str, Any]]:
            taken.value = 0
            found: dict[int, Any] = {}
            for share in [pool.submit(_work) for _ in range(workers)]:
                found |= share.result()
            return [{function.__name__: found[number]} for number in range(len(values))]

        return call


def _share(function: Function, values: Sequence[Any], taken: Any) -> None:
    _shared[:] = function, values, taken


def _work() -> dict[int, Any]:
    function, values, taken = _shared
    found = {}
    while (number := _next(taken)) < len(values):
        found[number] = function(values[number])
    return found


def _next(taken: Any) -> int:
    with taken.get_lock():
        number: int = taken.value
        taken.value = number + 1
    return number
