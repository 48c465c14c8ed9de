"""Apache Hamilton: a driver over the module of the functions, all outputs asked for."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from benchmarks.graphs import Function, in_order
from benchmarks.peers.base import Peer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.measure import Call

driver: Any = import_module("hamilton.driver")
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

    def thread_runner(
        self, functions: Sequence[Function], inputs: Mapping[str, Any], workers: int
    ) -> Call:
        """Return `Driver.execute` with its `FutureAdapter`."""
        adapter = threadpool.FutureAdapter(max_workers=workers)
        built, names = _builder(functions).with_adapters(adapter).build(), _names(functions)
        return lambda: built.execute(names, inputs=inputs)


def _builder(functions: Sequence[Function]) -> Any:
    module = sys.modules[functions[0].__globals__["__name__"]]
    return driver.Builder().with_modules(module)


def _names(functions: Sequence[Function]) -> list[str]:
    return [function.__name__ for function in in_order(functions)]
