"""hypernodes itself: without any config, and with each executor."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from benchmarks.graphs import Function, parameters
from benchmarks.peers.base import Peer, Store
from hypernodes import (
    AsyncExecutor,
    Cache,
    DiskCache,
    MemoryCache,
    Pipeline,
    ProcessPoolExecutor,
    RuntimeConfig,
    SequentialExecutor,
    ThreadPoolExecutor,
    node,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from benchmarks.measure import Call
    from benchmarks.peers.base import CachedCall


class Default(Peer):
    """No config at all: the library's default."""

    def version(self) -> str:
        """Return the version of hypernodes."""
        try:
            return version("hypernodes")
        except PackageNotFoundError:
            return "from source"

    def config(self) -> RuntimeConfig | None:
        """Return the config of the pipelines."""
        return None

    def build(self, functions: Sequence[Function]) -> Pipeline:
        """Return a pipeline of one node a function."""
        return Pipeline([node(function) for function in functions], config=self.config())

    def runner(self, functions: Sequence[Function], inputs: Mapping[str, Any]) -> Call:
        """Return `Pipeline.run`."""
        pipeline = self.build(functions)
        return lambda: pipeline.run(inputs)

    def mapper(self, functions: Sequence[Function], name: str, values: Sequence[Any]) -> Call:
        """Return `Pipeline.map`."""
        pipeline = self.build(functions)
        return lambda: pipeline.map({name: values}, map_over=name)

    def stream(self, function: Function, values: Iterable[Any]) -> Iterator[dict[str, Any]]:
        """Return `Pipeline.map_iter` over the argument of `function`."""
        (name,) = parameters(function)
        return self.build([function]).map_iter({name: values}, map_over=name)

    def disk_store(self, directory: str) -> Store:
        """Return a `DiskCache`."""
        cache = DiskCache(directory)
        return Store(cache.put, cache.get)

    def cached_runner(self, functions: Sequence[Function], directory: str) -> CachedCall:
        """Return `Pipeline.run` with a `DiskCache`."""
        return self._cached(functions, directory).run

    def cached_mapper(self, functions: Sequence[Function], name: str, directory: str) -> CachedCall:
        """Return `Pipeline.map` with a `DiskCache`."""
        pipeline, last = self._cached(functions, directory), functions[-1].__name__
        return lambda values: pipeline.map({name: values}, map_over=name, output_name=last)

    def remembering_runner(self, functions: Sequence[Function]) -> CachedCall:
        """Return `Pipeline.run` with a `MemoryCache`."""
        return self._with(functions, MemoryCache()).run

    def full_store(self, directory: str) -> Store:
        """Return a `DiskCache` that may take as many bytes as there are."""
        cache = DiskCache(directory, max_bytes=DiskCache(directory).stats().bytes)
        return Store(cache.put, cache.get)

    def _cached(self, functions: Sequence[Function], directory: str) -> Pipeline:
        return self._with(functions, DiskCache(directory))

    def _with(self, functions: Sequence[Function], cache: Cache) -> Pipeline:
        config = self.config() or RuntimeConfig()
        return self.build(functions).with_config(config.replace(cache=cache))

    def memory_store(self) -> Store:
        """Return a `MemoryCache`."""
        cache = MemoryCache()
        return Store(cache.put, cache.get)


class Sequential(Default):
    """`SequentialExecutor`, set on the pipeline."""

    def config(self) -> RuntimeConfig:
        """Return a config with the sequential executor."""
        return RuntimeConfig(executor=SequentialExecutor())


class Threads(Default):
    """`ThreadPoolExecutor`, with as many workers as the benchmark says."""

    workers = 4

    def config(self) -> RuntimeConfig:
        """Return a config with the thread executor."""
        return RuntimeConfig(executor=ThreadPoolExecutor(max_workers=self.workers))

    def thread_runner(
        self, functions: Sequence[Function], inputs: Mapping[str, Any], workers: int
    ) -> Call:
        """Return `Pipeline.run`."""
        self.workers = workers
        return self.runner(functions, inputs)

    def thread_mapper(
        self, functions: Sequence[Function], name: str, values: Sequence[Any], workers: int
    ) -> Call:
        """Return `Pipeline.map`."""
        self.workers = workers
        return self.mapper(functions, name, values)


class Processes(Default):
    """`ProcessPoolExecutor`, with as many workers as the benchmark says."""

    workers = 2

    def config(self) -> RuntimeConfig:
        """Return a config with the process executor."""
        return RuntimeConfig(executor=ProcessPoolExecutor(max_workers=self.workers))

    def process_runner(
        self, functions: Sequence[Function], inputs: Mapping[str, Any], workers: int
    ) -> Call:
        """Return `Pipeline.run`."""
        self.workers = workers
        return self.runner(functions, inputs)

    def process_mapper(self, function: Function, values: Sequence[Any], workers: int) -> Call:
        """Return `Pipeline.map`."""
        self.workers = workers
        return self.mapper([function], *parameters(function), values)


class Coroutines(Default):
    """`AsyncExecutor`, without a bound on what is awaited at a time."""

    def config(self) -> RuntimeConfig:
        """Return a config with the asynchronous executor."""
        return RuntimeConfig(executor=AsyncExecutor())

    def async_runner(self, functions: Sequence[Function], inputs: Mapping[str, Any]) -> Call:
        """Return `Pipeline.run`."""
        return self.runner(functions, inputs)

    def async_mapper(self, function: Function, values: Sequence[Any]) -> Call:
        """Return `Pipeline.map`."""
        return self.mapper([function], *parameters(function), values)
