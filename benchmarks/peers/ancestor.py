"""The ancestor, hypernodes 0.4.8: the same import name, in a process with a path of its own."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from benchmarks.graphs import Function, parameters
from benchmarks.peers.base import Peer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.measure import Call
    from benchmarks.peers.base import CachedCall

ancestor: Any = import_module("hypernodes")
if not hasattr(ancestor, "SeqEngine"):
    raise ModuleNotFoundError("the hypernodes on the path is another", name="hypernodes 0.4.8")


class Ancestor(Peer):
    """Its default, the sequential engine."""

    def version(self) -> str:
        """Return the version of the distribution; the module's own attribute lags behind it."""
        return version("hypernodes")

    def build(self, functions: Sequence[Function]) -> Any:
        """Return a pipeline of one node a function."""
        return ancestor.Pipeline(nodes=[ancestor.node(function) for function in functions])

    def runner(self, functions: Sequence[Function], inputs: Mapping[str, Any]) -> Call:
        """Return `Pipeline.run`."""
        pipeline = self.build(functions)
        return lambda: pipeline.run(inputs=inputs)

    def cached_runner(self, functions: Sequence[Function], directory: str) -> CachedCall:
        """Return `Pipeline.run` with its `DiskCache`."""
        pipeline = self._cached(functions, directory)
        return lambda inputs: pipeline.run(inputs=inputs)

    def cached_mapper(self, functions: Sequence[Function], name: str, directory: str) -> CachedCall:
        """Return `Pipeline.map` with its `DiskCache`."""
        pipeline, last = self._cached(functions, directory), functions[-1].__name__
        return lambda values: pipeline.map(inputs={name: values}, map_over=name, output_name=last)

    @staticmethod
    def _cached(functions: Sequence[Function], directory: str) -> Any:
        engine = ancestor.SeqEngine(cache=ancestor.DiskCache(path=directory))
        nodes = [ancestor.node(function) for function in functions]
        return ancestor.Pipeline(nodes=nodes, engine=engine)

    def mapper(self, functions: Sequence[Function], name: str, values: Sequence[Any]) -> Call:
        """Return `Pipeline.map`."""
        pipeline = self.build(functions)
        return lambda: pipeline.map(inputs={name: values}, map_over=name)

    def async_runner(self, functions: Sequence[Function], inputs: Mapping[str, Any]) -> Call:
        """Return `Pipeline.run`, which awaits one coroutine after the other."""
        return self.runner(functions, inputs)

    def async_mapper(self, function: Function, values: Sequence[Any]) -> Call:
        """Return `Pipeline.map`, which awaits one coroutine after the other."""
        return self.mapper([function], *parameters(function), values)
