"""Plain Python: what somebody would write without a library."""

from __future__ import annotations

import asyncio
import inspect
import pickle
import platform
from concurrent import futures
from functools import partial
from graphlib import TopologicalSorter
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

from benchmarks.graphs import Function, in_order, parameters
from benchmarks.peers.base import Peer, Store

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.measure import Call
    from benchmarks.peers.base import CachedCall

Step = tuple[str, Function, tuple[str, ...]]

CHUNK = 500  # items that travel together, by hand


class Plain(Peer):
    """Straight-line calls, a `for` loop, `graphlib`, and bare `concurrent.futures`."""

    def version(self) -> str:
        """Return the version of Python."""
        return platform.python_version()

    def build(self, functions: Sequence[Function]) -> list[Step]:
        """Read the signatures and sort: the least that anybody who builds a graph does."""
        known = {function.__name__: function for function in functions}
        wanted = {name: tuple(inspect.signature(known[name]).parameters) for name in known}
        order = TopologicalSorter(wanted).static_order()
        return [(name, known[name], wanted[name]) for name in order if name in known]

    def runner(self, functions: Sequence[Function], inputs: Mapping[str, Any]) -> Call:
        """Return straight-line code: one assignment a node, into locals."""
        calls = straight_line(functions)
        last = in_order(functions)[-1].__name__
        return _compiled(functions, inputs, [*calls, f"return {last}"])

    def mapper(self, functions: Sequence[Function], name: str, values: Sequence[Any]) -> Call:
        """Return a loop with the calls written out, that appends one dict an item."""
        body = [*straight_line(functions), f"results.append({as_dict(functions)})"]
        lines = ["results = []", f"for {name} in values:", *(f"    {line}" for line in body)]
        return _compiled(functions, {"values": values}, [*lines, "return results"])

    def disk_store(self, directory: str) -> Store:
        """Return `pickle.dump` and `pickle.load`, one file an entry."""

        def put(signature: str, value: Any) -> None:
            with open(f"{directory}/{signature}", "wb") as file:  # noqa: PTH123 - the fastest way
                pickle.dump(value, file)

        def get(signature: str) -> Any:
            with open(f"{directory}/{signature}", "rb") as file:  # noqa: PTH123 - as above
                return pickle.load(file)  # noqa: S301 - made by the benchmark itself

        return Store(put, get)

    def memory_store(self) -> Store:
        """Return a dict of pickles."""
        kept: dict[str, bytes] = {}
        return Store(
            lambda signature, value: kept.__setitem__(signature, pickle.dumps(value)),
            lambda signature: pickle.loads(kept[signature]),  # noqa: S301 - as above
        )

    def thread_runner(
        self, functions: Sequence[Function], inputs: Mapping[str, Any], workers: int
    ) -> Call:
        """Return a scheduler by hand: a node is submitted as soon as its last input is there."""
        steps = self.build(functions)
        pool = futures.ThreadPoolExecutor(workers)
        return lambda: _schedule(steps, inputs, pool)

    def thread_mapper(
        self, functions: Sequence[Function], name: str, values: Sequence[Any], workers: int
    ) -> Call:
        """Return `Executor.map` over a pool that stays open."""
        pool = futures.ThreadPoolExecutor(workers)
        one_item = item_function(functions, name)
        return lambda: list(pool.map(one_item, values))

    def process_runner(
        self, functions: Sequence[Function], inputs: Mapping[str, Any], workers: int
    ) -> Call:
        """Return the same scheduler by hand, on a pool of processes."""
        steps, pool = self.build(functions), process_pool(workers)
        return lambda: _schedule(steps, inputs, pool)

    def process_mapper(self, function: Function, values: Sequence[Any], workers: int) -> Call:
        """Return `Executor.map` over chunks, on a pool of processes that stays open."""
        pool, name = process_pool(workers), function.__name__
        chunks = [values[start : start + CHUNK] for start in range(0, len(values), CHUNK)]
        do_chunk = partial(_each, function)
        return lambda: [{name: y} for chunk in pool.map(do_chunk, chunks) for y in chunk]

    def async_runner(self, functions: Sequence[Function], inputs: Mapping[str, Any]) -> Call:
        """Return one task a node, which awaits those that it takes, in an event loop of its own."""
        steps = self.build(functions)
        return lambda: asyncio.run(_gathered(steps, inputs))

    def async_mapper(self, function: Function, values: Sequence[Any]) -> Call:
        """Return bare `asyncio.gather`, in an event loop of its own."""

        async def gather() -> list[dict[str, Any]]:
            found = await asyncio.gather(*map(function, values))
            return [{function.__name__: value} for value in found]

        return lambda: asyncio.run(gather())


class PlainDict(Plain):
    """The same with all outputs in a dict, as an engine returns them."""

    def runner(self, functions: Sequence[Function], inputs: Mapping[str, Any]) -> Call:
        """Return straight-line code that ends in one dict of all outputs."""
        lines = [*straight_line(functions), f"return {as_dict(functions)}"]
        return _compiled(functions, inputs, lines)


def process_pool(workers: int) -> futures.ProcessPoolExecutor:
    """Return a bare pool; its processes end when it is garbage, or with this one."""
    return futures.ProcessPoolExecutor(workers, get_context("forkserver"))


def walk(steps: Sequence[Step], inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Run what `Plain.build` returned: the smallest engine there is."""
    values = dict(inputs)
    for name, function, names in steps:
        values[name] = function(*[values[parameter] for parameter in names])
    return values


def item_function(functions: Sequence[Function], name: str) -> Function:
    """Return one function that does the work of an item: `name` in, a dict of all outputs out."""
    lines = [*straight_line(functions), f"return {as_dict(functions)}"]
    return _function(functions, (name,), lines)


def collector(functions: Sequence[Function]) -> Function:
    """Return a function with a parameter for each of `functions`, that returns them as a dict."""
    names = [function.__name__ for function in functions]
    return _function((), names, [f"return {as_dict(functions)}"])


def straight_line(functions: Sequence[Function]) -> list[str]:
    """Return one line of source per call, such as `step_2 = call_step_2(step_1)`."""
    return [
        f"{function.__name__} = call_{function.__name__}({', '.join(parameters(function))})"
        for function in in_order(functions)
    ]


def as_dict(functions: Sequence[Function]) -> str:
    """Return the source of a dict of all outputs."""
    pairs = (f"'{function.__name__}': {function.__name__}" for function in in_order(functions))
    return "{" + ", ".join(pairs) + "}"


def _compiled(
    functions: Sequence[Function], inputs: Mapping[str, Any], lines: Sequence[str]
) -> Call:
    function = _function(functions, tuple(inputs), lines)
    given = tuple(inputs.values())
    return lambda: function(*given)


def _function(
    functions: Sequence[Function], arguments: Sequence[str], lines: Sequence[str]
) -> Function:
    source = f"def plain({', '.join(arguments)}):\n" + "".join(f"    {line}\n" for line in lines)
    namespace: dict[str, Any] = {f"call_{each.__name__}": each for each in functions}
    exec(compile(source, "<plain>", "exec"), namespace)  # noqa: S102 - our own source
    made: Function = namespace["plain"]
    return made


def _each(function: Function, values: Sequence[Any]) -> list[Any]:
    return [function(value) for value in values]


async def _gathered(steps: Sequence[Step], inputs: Mapping[str, Any]) -> dict[str, Any]:
    tasks: dict[str, asyncio.Task[Any]] = {}

    async def call(function: Function, names: tuple[str, ...]) -> Any:
        return await function(
            *[inputs[name] if name in inputs else await tasks[name] for name in names]
        )

    for name, function, names in steps:
        tasks[name] = asyncio.create_task(call(function, names))
    return dict(zip(tasks, await asyncio.gather(*tasks.values()), strict=True))


def _schedule(
    steps: Sequence[Step], inputs: Mapping[str, Any], pool: futures.Executor
) -> dict[str, Any]:
    values = dict(inputs)
    missing = {name: {each for each in names if each not in values} for name, _, names in steps}
    known = {name: (function, names) for name, function, names in steps}
    users: dict[str, list[str]] = {}
    for name, names in missing.items():
        for each in names:
            users.setdefault(each, []).append(name)

    def submit(name: str) -> futures.Future[Any]:
        function, names = known[name]
        return pool.submit(function, *[values[parameter] for parameter in names])

    running = {submit(name): name for name, names in missing.items() if not names}
    while running:
        done, _ = futures.wait(running, return_when=futures.FIRST_COMPLETED)
        for future in done:
            finished = running.pop(future)
            values[finished] = future.result()
            for user in users.get(finished, ()):
                missing[user].discard(finished)
                if not missing[user]:
                    running[submit(user)] = user
    return values


def in_turn(chain: Sequence[Function]) -> CachedCall:
    """Return a call of functions that each take what the one before gave; takes the one input."""

    def run(inputs: Mapping[str, Any]) -> Any:
        (value,) = inputs.values()
        for function in chain:
            value = function(value)
        return value

    return run
