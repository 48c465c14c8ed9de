"""joblib: maps only; the item's work is one plain function."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from benchmarks.peers.base import Peer, Store
from benchmarks.peers.plain import in_turn, item_function

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.graphs import Function
    from benchmarks.measure import Call
    from benchmarks.peers.base import CachedCall

joblib: Any = import_module("joblib")


class Joblib(Peer):
    """`Parallel` over `delayed` calls."""

    def version(self) -> str:
        """Return the version of joblib."""
        return str(joblib.__version__)

    def mapper(self, functions: Sequence[Function], name: str, values: Sequence[Any]) -> Call:
        """Return `Parallel(n_jobs=1)`."""
        return _parallel(functions, name, values, n_jobs=1)

    def thread_mapper(
        self, functions: Sequence[Function], name: str, values: Sequence[Any], workers: int
    ) -> Call:
        """Return `Parallel(prefer="threads")`."""
        return _parallel(functions, name, values, n_jobs=workers, prefer="threads")

    def process_mapper(self, function: Function, values: Sequence[Any], workers: int) -> Call:
        """Return `Parallel` with its default, loky, whose processes stay open."""
        one_item, name = joblib.delayed(function), function.__name__
        parallel = joblib.Parallel(n_jobs=workers)
        return lambda: [{name: y} for y in parallel(one_item(value) for value in values)]

    def cached_runner(self, functions: Sequence[Function], directory: str) -> CachedCall:
        """Return the functions under `Memory`, one after another."""
        return in_turn([joblib.Memory(directory, verbose=0).cache(each) for each in functions])

    def cached_mapper(self, functions: Sequence[Function], name: str, directory: str) -> CachedCall:
        """Return a loop over the functions under `Memory`."""
        run, last = self.cached_runner(functions, directory), functions[-1].__name__
        return lambda values: [{last: run({name: value})} for value in values]

    def disk_store(self, directory: str) -> Store:
        """Return a function under `Memory`: its first call stores, the next ones find."""
        values: dict[str, Any] = {}

        def made(signature: str) -> Any:
            return values[signature]

        cached = joblib.Memory(directory, verbose=0).cache(made)

        def put(signature: str, value: Any) -> None:
            values[signature] = value
            cached(signature)

        return Store(put, cached)


def _parallel(
    functions: Sequence[Function], name: str, values: Sequence[Any], **options: Any
) -> Call:
    one_item = joblib.delayed(item_function(functions, name))
    return lambda: joblib.Parallel(**options)(one_item(value) for value in values)
