"""What an adapter offers: ways to get a call that can be timed, and stores of values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from benchmarks.graphs import Function
    from benchmarks.measure import Call

    CachedCall = Callable[[Any], Any]


@dataclass(frozen=True)
class Store:
    """Where a contender keeps values: two calls.

    Args:
        put: Takes a text of 64 hexadecimal digits and a value.
        get: Takes the text and returns the value.
    """

    put: Callable[[str, Any], object]
    get: Callable[[str], Any]


class Peer:
    """One contender. A subclass overrides what its library can do; the rest is not implemented.

    The methods return a `Call`: everything before the first call is preparation, and not timed,
    except where a benchmark says that it times the preparation too.
    """

    def version(self) -> str:
        """Return the version of the library."""
        raise NotImplementedError

    def build(self, functions: Sequence[Function]) -> Any:
        """Wrap `functions` as nodes and build the graph."""
        raise NotImplementedError("no graphs")

    def runner(self, functions: Sequence[Function], inputs: Mapping[str, Any]) -> Call:
        """Return a call that runs all nodes on `inputs` and returns all outputs by name."""
        raise NotImplementedError("no graphs")

    def mapper(self, functions: Sequence[Function], name: str, values: Sequence[Any]) -> Call:
        """Return a call that runs all nodes once for each of `values` of the input `name`."""
        raise NotImplementedError("no maps")

    def thread_runner(
        self, functions: Sequence[Function], inputs: Mapping[str, Any], workers: int
    ) -> Call:
        """Return `runner`'s call, with nodes that are ready running in `workers` threads."""
        raise NotImplementedError("no threads in a run")

    def thread_mapper(
        self, functions: Sequence[Function], name: str, values: Sequence[Any], workers: int
    ) -> Call:
        """Return `mapper`'s call, with items in `workers` threads."""
        raise NotImplementedError("no threads in a map")

    def process_runner(
        self, functions: Sequence[Function], inputs: Mapping[str, Any], workers: int
    ) -> Call:
        """Return `runner`'s call, with nodes that are ready running in `workers` processes."""
        raise NotImplementedError("no processes in a run")

    def process_mapper(self, function: Function, values: Sequence[Any], workers: int) -> Call:
        """Return a call that maps one function over its argument in `workers` warm processes."""
        raise NotImplementedError("no processes in a map")

    def async_runner(self, functions: Sequence[Function], inputs: Mapping[str, Any]) -> Call:
        """Return `runner`'s call for coroutine functions, awaited together."""
        raise NotImplementedError("no coroutines in a run")

    def async_mapper(self, function: Function, values: Sequence[Any]) -> Call:
        """Return a call that maps one coroutine function over its argument."""
        raise NotImplementedError("no coroutines in a map")

    def stream(self, function: Function, values: Iterable[Any]) -> Iterator[dict[str, Any]]:
        """Return the results of one function over its argument, as they come."""
        raise NotImplementedError("no streams")

    def disk_store(self, directory: str) -> Store:
        """Return a store of files in `directory`."""
        raise NotImplementedError("no store on disk")

    def full_store(self, directory: str) -> Store:
        """Return the store of `disk_store` where something has to go for each new entry."""
        raise NotImplementedError("no bound")

    def memory_store(self) -> Store:
        """Return a store in this process, safe from what users do to values."""
        raise NotImplementedError("no store in memory")

    def cached_runner(self, functions: Sequence[Function], directory: str) -> CachedCall:
        """Return `runner`'s call with a cache in `directory`; it takes the inputs."""
        raise NotImplementedError("no cache")

    def remembering_runner(self, functions: Sequence[Function]) -> CachedCall:
        """Return `runner`'s call with a cache in memory; it takes the inputs."""
        raise NotImplementedError("no cache in memory")

    def cached_mapper(self, functions: Sequence[Function], name: str, directory: str) -> CachedCall:
        """Return `mapper`'s call for the last output, with a cache; it takes the values."""
        raise NotImplementedError("no cache in a map")

    def rows(self, result: Any, names: Sequence[str]) -> list[dict[str, Any]]:
        """Turn what `mapper`'s call returned into one dict an item, to check it; not timed."""
        return [{name: row[name] for name in names} for row in result]
