"""daglite: one task a function; what is evaluated is one future."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from benchmarks.graphs import in_order, parameters
from benchmarks.peers.base import Peer
from benchmarks.peers.plain import collector

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.graphs import Function
    from benchmarks.measure import Call

daglite: Any = import_module("daglite")


class Daglite(Peer):
    """`evaluate` with its default backend, in which coroutines share the event loop."""

    def version(self) -> str:
        """Return the version of daglite."""
        return str(daglite.__version__)

    def async_runner(self, functions: Sequence[Function], inputs: Mapping[str, Any]) -> Call:
        """Return `evaluate` of a task that takes the results of all others."""
        given: dict[str, Any] = dict(inputs)
        for function in in_order(functions):
            taken = {name: given[name] for name in parameters(function)}
            given[function.__name__] = daglite.task(function)(**taken)
        results = {function.__name__: given[function.__name__] for function in functions}
        future = daglite.task(collector(functions))(**results)
        return lambda: daglite.evaluate(future)

    def async_mapper(self, function: Function, values: Sequence[Any]) -> Call:
        """Return `evaluate` of a mapped task."""
        (parameter,), name = parameters(function), function.__name__
        future = daglite.task(function).product(**{parameter: list(values)})
        return lambda: [{name: value} for value in daglite.evaluate(future)]
