"""pipefunc, with its defaults; maps stay in memory, without pools and progress bars."""

from __future__ import annotations

from concurrent import futures
from importlib import import_module
from typing import TYPE_CHECKING, Any

from benchmarks.graphs import Function, leaves, parameters
from benchmarks.peers.base import Peer
from benchmarks.peers.plain import process_pool

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.measure import Call
    from benchmarks.peers.base import CachedCall

pipefunc: Any = import_module("pipefunc")


class PipeFunc(Peer):
    """`Pipeline.run` with `full_output`, and `Pipeline.map` with a mapspec for each function."""

    def version(self) -> str:
        """Return the version of pipefunc."""
        return str(pipefunc.__version__)

    def build(self, functions: Sequence[Function]) -> Any:
        """Return a pipeline of one `PipeFunc` a function."""
        return pipefunc.Pipeline([pipefunc.PipeFunc(each, each.__name__) for each in functions])

    def runner(self, functions: Sequence[Function], inputs: Mapping[str, Any]) -> Call:
        """Return `Pipeline.run` for what nobody uses, with everything on the way."""
        pipeline, wanted = self.build(functions), leaves(functions)
        target = wanted[0] if len(wanted) == 1 else wanted
        return lambda: pipeline.run(target, full_output=True, kwargs=inputs)

    def mapper(self, functions: Sequence[Function], name: str, values: Sequence[Any]) -> Call:
        """Return `Pipeline.map` in this thread."""
        return _map(_mapped(functions), name, values, parallel=False)

    def cached_runner(self, functions: Sequence[Function], directory: str) -> CachedCall:
        """Return `Pipeline.run` with its cache on disk, without the one in memory above it."""
        nodes = [pipefunc.PipeFunc(each, each.__name__, cache=True) for each in functions]
        options = {"cache_dir": directory, "with_lru_cache": False}
        pipeline = pipefunc.Pipeline(nodes, cache_type="disk", cache_kwargs=options)
        (last,) = leaves(functions)
        return lambda inputs: pipeline.run(last, full_output=True, kwargs=inputs)

    def remembering_runner(self, functions: Sequence[Function]) -> CachedCall:
        """Return `Pipeline.run` with its cache in a dict."""
        nodes = [pipefunc.PipeFunc(each, each.__name__, cache=True) for each in functions]
        pipeline = pipefunc.Pipeline(nodes, cache_type="simple")
        (last,) = leaves(functions)
        return lambda inputs: pipeline.run(last, full_output=True, kwargs=inputs)

    def cached_mapper(self, functions: Sequence[Function], name: str, directory: str) -> CachedCall:
        """Return a loop over `Pipeline.run` for the last output."""
        nodes = [pipefunc.PipeFunc(each, each.__name__, cache=True) for each in functions]
        options = {"cache_dir": directory, "with_lru_cache": False}
        pipeline = pipefunc.Pipeline(nodes, cache_type="disk", cache_kwargs=options)
        (last,) = leaves(functions)
        run = pipeline.run
        return lambda values: [{last: run(last, kwargs={name: value})} for value in values]

    def thread_runner(
        self, functions: Sequence[Function], inputs: Mapping[str, Any], workers: int
    ) -> Call:
        """Return `Pipeline.map` without mapspecs, which is how pipefunc runs nodes in parallel."""
        return _run(self.build(functions), inputs, futures.ThreadPoolExecutor(workers))

    def thread_mapper(
        self, functions: Sequence[Function], name: str, values: Sequence[Any], workers: int
    ) -> Call:
        """Return `Pipeline.map` over a pool of threads that stays open."""
        pool = futures.ThreadPoolExecutor(workers)
        return _map(_mapped(functions), name, values, parallel=True, executor=pool)

    def process_runner(
        self, functions: Sequence[Function], inputs: Mapping[str, Any], workers: int
    ) -> Call:
        """Return `Pipeline.map` without mapspecs, over a pool of processes that stays open."""
        return _run(self.build(functions), inputs, process_pool(workers))

    def process_mapper(self, function: Function, values: Sequence[Any], workers: int) -> Call:
        """Return `Pipeline.map` over a pool of processes that stays open."""
        options = {"parallel": True, "executor": process_pool(workers)}
        return _map(_mapped([function]), *parameters(function), values, **options)

    def rows(self, result: Any, names: Sequence[str]) -> list[dict[str, Any]]:
        """Turn the columns that pipefunc returns into rows."""
        columns = [result[name].output for name in names]
        return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def _run(pipeline: Any, inputs: Mapping[str, Any], pool: futures.Executor) -> Call:
    return lambda: {
        name: result.output
        for name, result in pipeline.map(
            inputs,
            parallel=True,
            executor=pool,
            storage="dict",
            scheduling_strategy="eager",
            show_progress=False,
        ).items()
    }


def _mapped(functions: Sequence[Function]) -> Any:
    def wrap(function: Function) -> Any:
        taken = ", ".join(f"{name}[i]" for name in parameters(function))
        spec = f"{taken} -> {function.__name__}[i]"
        return pipefunc.PipeFunc(function, function.__name__, mapspec=spec)

    return pipefunc.Pipeline([wrap(function) for function in functions])


def _map(pipeline: Any, name: str, values: Sequence[Any], **options: Any) -> Call:
    # Never a folder, a bar or a copy on disk: the cheapest way pipefunc has.
    options |= {"storage": "dict", "show_progress": False}
    return lambda: pipeline.map({name: values}, **options)
