"""The graphs that every contender runs: real, distinct functions, made from source.

A `Graph` is a description; `load` turns it into functions of a module of their own, with source
that `inspect` finds, as if a user had written the file. The same source serves every contender.
"""

from __future__ import annotations

import functools
import importlib
import itertools
import linecache
import random
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

Function = Callable[..., Any]

_serial = itertools.count(1)


@dataclass(frozen=True)
class NodeSource:
    """One function as text: its name, its parameters, the lines of its body and its keyword."""

    name: str
    parameters: tuple[str, ...]
    body: str
    keyword: str = "def"

    def text(self) -> str:
        """Return the source of the function; annotated, because some peers demand it."""
        arguments = ", ".join(f"{parameter}: int" for parameter in self.parameters)
        return f"{self.keyword} {self.name}({arguments}) -> int:\n    {self.body}\n\n\n"


@dataclass(frozen=True)
class Graph:
    """A DAG of functions with the inputs to run it on, in the order it is handed to contenders."""

    nodes: tuple[NodeSource, ...]
    inputs: Mapping[str, Any] = field(default_factory=lambda: {"x": 1})
    header: str = ""

    def __len__(self) -> int:
        """Return the number of nodes."""
        return len(self.nodes)

    def load(self) -> list[Function]:
        """Execute the source as a fresh module and return its functions.

        Each call shifts the line numbers, so that no two loads share code objects, and nothing that
        a library remembers about one set of functions helps it with the next.
        """
        serial = next(_serial)
        module = ModuleType(f"benchmark_functions_{serial}")
        source = self.header + "\n" * serial + "".join(node.text() for node in self.nodes)
        filename = f"<{module.__name__}>"
        linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
        sys.modules[module.__name__] = module
        exec(compile(source, filename, "exec"), module.__dict__)  # noqa: S102 - our own source
        return [getattr(module, node.name) for node in self.nodes]

    def load_from_file(self) -> list[Function]:
        """Write the source as a fresh module, and import it: other processes can do so, too."""
        name = f"benchmark_module_{next(_serial)}"
        source = self.header + "\n\n" + "".join(node.text() for node in self.nodes)
        Path(_folder().name, f"{name}.py").write_text(source, encoding="utf-8")
        importlib.invalidate_caches()
        module = importlib.import_module(name)
        return [getattr(module, node.name) for node in self.nodes]


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    """Return the folder for modules of this process; worker processes take over the path."""
    folder = tempfile.TemporaryDirectory(prefix="benchmarks-")
    sys.path.append(folder.name)
    return folder


def unload(functions: Sequence[Function]) -> None:
    """Remove the module of `functions` and its source from the interpreter's tables."""
    name = functions[0].__globals__["__name__"]
    sys.modules.pop(name, None)
    linecache.cache.pop(f"<{name}>", None)


def chain(length: int) -> Graph:
    """Return `length` nodes, each of which adds 1 to the one before; the first takes `x`."""
    names = ["x", *(f"step_{number}" for number in range(1, length + 1))]
    return Graph(
        tuple(
            NodeSource(name, (previous,), f"return {previous} + 1")
            for previous, name in itertools.pairwise(names)
        )
    )


def fan(width: int) -> Graph:
    """Return one source, `width` nodes beside one another, and a reducer that takes them all."""
    branches = tuple(f"branch_{number}" for number in range(width))
    return Graph(
        (
            NodeSource("source", ("x",), "return x + 1"),
            *(NodeSource(branch, ("source",), "return source + 1") for branch in branches),
            NodeSource("reducer", branches, f"return {branches[-1]}"),
        )
    )


def random_dag(size: int, *, seed: int = 7, body: str = "return {mix}", header: str = "") -> Graph:
    """Return a DAG whose nodes take one to three earlier ones each, in shuffled order.

    Args:
        size: The number of nodes.
        seed: The same seed gives the same DAG.
        body: Lines of the body; `{mix}` stands for an expression over all parameters.
        header: Source above the functions, on one line; imports for instance.
    """
    draw = random.Random(seed)
    names = ["x"]
    nodes = []
    for number in range(size):
        parents = tuple(draw.sample(names, min(len(names), draw.randint(1, 3))))
        name = f"node_{number}"
        nodes.append(NodeSource(name, parents, body.format(mix=" ^ ".join((*parents, "1")))))
        names.append(name)
    draw.shuffle(nodes)
    return Graph(tuple(nodes), header=header)


def parameters(function: Function) -> tuple[str, ...]:
    """Return the names of the parameters of a function that `load` made."""
    return function.__code__.co_varnames[: function.__code__.co_argcount]


def in_order(functions: Sequence[Function]) -> list[Function]:
    """Return `functions` so that each comes after those whose results it takes."""
    waiting = {function.__name__: function for function in functions}
    ordered: list[Function] = []
    for root in list(waiting):
        stack = [root]
        while stack:
            function = waiting.get(stack[-1])
            needed = [name for name in parameters(function) if name in waiting] if function else []
            if needed:
                stack.extend(needed)
            elif waiting.pop(stack.pop(), None):
                ordered.append(function)  # type: ignore[arg-type]
    return ordered


def leaves(functions: Sequence[Function]) -> list[str]:
    """Return the names of the functions whose results no other takes."""
    used = {name for function in functions for name in parameters(function)}
    return [function.__name__ for function in functions if function.__name__ not in used]
