"""Apache Hamilton: a driver over the module of the functions, all outputs asked for."""

from __future__ import annotations

import asyncio
import sys
from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from benchmarks.graphs import Function, in_order, parameters
from benchmarks.peers.base import Peer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.measure import Call
    from benchmarks.peers.base import CachedCall

driver: Any = import_module("hamilton.driver")
async_driver: Any = import_module("hamilton.async_driver")
threadpool: Any = import_module("hamilton.plugins.h_threadpool")


class Hamilton(Peer):
    """`Driver.execute`; a map is a loop over it."""

    def version(self) -> str:
        """Return the version of Hamilton."""
        return version("sf-hamilton")

    def build(self, functions: Sequence[Function]) -> Any:
        """Return a driver for the module in which `functions` lie."""
        return _builder(functions).build()

    def runner(self, functions: Sequence[Function], inputs: Mapping[str, Any]) -> Call:
        """Return `Driver.execute` for all nodes, named in order, which spares it deep recursion."""
        built, names = self.build(functions), _names(functions)
        return lambda: built.execute(names, inputs=inputs)

    def mapper(self, functions: Sequence[Function], name: str, values: Sequence[Any]) -> Call:
        """Return a loop over `Driver.execute`."""
        built, names = self.build(functions), _names(functions)
        return lambda: [built.execute(names, inputs={name: value}) for value in values]

    def cached_runner(self, functions: Sequence[Function], directory: str) -> CachedCall:
        """Return `Driver.execute` with its cache."""
        built, names = _builder(functions).with_cache(path=directory).build(), _names(functions)
        return lambda inputs: built.execute(names, inputs=inputs)

    def cached_mapper(self, functions: Sequence[Function], name: str, directory: str) -> CachedCall:
        """Return a loop over `Driver.execute` for the last output."""
        built, last = _builder(functions).with_cache(path=directory).build(), _names(functions)[-1:]
        return lambda values: [built.execute(last, inputs={name: value}) for value in values]

    def thread_runner(
        self, functions: Sequence[Function], inputs: Mapping[str, Any], workers: int
    ) -> Call:
        """Return `Driver.execute` with its `FutureAdapter`."""
        adapter = threadpool.FutureAdapter(max_workers=workers)
        built, names = _builder(functions).with_adapters(adapter).build(), _names(functions)
        return lambda: built.execute(names, inputs=inputs)

    def async_runner(self, functions: Sequence[Function], inputs: Mapping[str, Any]) -> Call:
        """Return `AsyncDriver.execute` for all nodes."""
        built, names = _async_driver(functions), _names(functions)
        return lambda: asyncio.run(built.execute(names, inputs=inputs))

    def async_mapper(self, function: Function, values: Sequence[Any]) -> Call:
        """Return `asyncio.gather` over `AsyncDriver.execute`."""
        built, names, (parameter,) = (
            _async_driver([function]),
            [function.__name__],
            parameters(function),
        )

        async def gather() -> list[Any]:
            runs = (built.execute(names, inputs={parameter: value}) for value in values)
            return await asyncio.gather(*runs)

        return lambda: asyncio.run(gather())


def _builder(functions: Sequence[Function]) -> Any:
    return driver.Builder().with_modules(_module(functions))


def _async_driver(functions: Sequence[Function]) -> Any:
    return asyncio.run(async_driver.Builder().with_modules(_module(functions)).build())


def _module(functions: Sequence[Function]) -> Any:
    return sys.modules[functions[0].__globals__["__name__"]]


def _names(functions: Sequence[Function]) -> list[str]:
    return [function.__name__ for function in in_order(functions)]
