"""Callbacks: what observes runs, and what is called around nodes. Plugins do so in all runs."""

from __future__ import annotations

import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

from hypernodes._dispatch.place import current_worker
from hypernodes._dispatch.plugins import REGISTRY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hypernodes._dispatch.place import Worker
    from hypernodes._node import BaseNode
    from hypernodes.config import RuntimeConfig
    from hypernodes.pipeline import Pipeline

__all__ = ["Callback", "CallbackContext", "register_plugins", "report", "unregister_plugins"]


_ORIGIN: Final = time.time() - time.monotonic()


class Callback:
    """Observes runs: write the hooks you want, with those of their arguments that you want.

    A hook takes `ctx` (a `CallbackContext`) and the arguments listed for it, any subset, by name.
    What hooks return is ignored, except for `wrap_node`. A failing hook never changes a result.

    Attributes:
        order: Its place among the callbacks of a run; lower comes first, at ends too.
        async_mode: Whether its hooks are called in a background thread of its own, in order, which
            has done with them all before the run returns.
        errors: What its failures do: `"log"`, `"warn"` or `"raise"`; None for what
            `RuntimeConfig.callback_errors` says.
        reads: Which of `"inputs"` and `"outputs"` its hooks take from the context; None to have
            that found out from their code, where a context that is passed on counts as both. What
            nobody asks for does not travel from worker processes, and is let go early.

    Example:
        >>> from hypernodes import Pipeline, RuntimeConfig, node
        >>> class Names(Callback):
        ...     def on_node_end(self, node, output):
        ...         print(node.name, output)
        >>> double = Pipeline([node("double")(lambda x: 2 * x)])
        >>> double.run({"x": 4}, config=RuntimeConfig(callbacks=[Names()]))
        double 8
        {'double': 8}
    """

    order: int = 50
    async_mode: bool = False
    errors: Literal["log", "warn", "raise"] | None = None
    reads: tuple[Literal["inputs", "outputs"], ...] | None = None

    def on_pipeline_start(self, *args: Any, **kwargs: Any) -> object:
        """Note the start of a run, a map, or a nested pipeline's run: `pipeline, inputs`."""

    def on_pipeline_end(self, *args: Any, **kwargs: Any) -> object:
        """Note that it has ended well: `outputs, duration` (seconds)."""

    def on_pipeline_error(self, *args: Any, **kwargs: Any) -> object:
        """Note that it has failed, or was cancelled: `error, duration`."""

    def on_node_start(self, *args: Any, **kwargs: Any) -> object:
        """Note the start of a node: `node, inputs`."""

    def on_node_end(self, *args: Any, **kwargs: Any) -> object:
        """Note that a node has ended well: `node, output, duration`."""

    def on_node_error(self, *args: Any, **kwargs: Any) -> object:
        """Note that a node has failed for good: `node, error, duration`."""

    def on_node_retry(self, *args: Any, **kwargs: Any) -> object:
        """Note a failed attempt that is made again: `node, error, attempt, delay` (seconds)."""

    def on_cache_check(self, *args: Any, **kwargs: Any) -> object:
        """Note that a node is looked up: `node, signature`."""

    def on_cache_hit(self, *args: Any, **kwargs: Any) -> object:
        """Note that it was found: `node, signature`."""

    def on_cache_miss(self, *args: Any, **kwargs: Any) -> object:
        """Note that it was not found: `node, signature`."""

    def on_cache_store(self, *args: Any, **kwargs: Any) -> object:
        """Note that its result was stored: `node, signature`."""

    def on_map_start(self, *args: Any, **kwargs: Any) -> object:
        """Note the start of a map: `pipeline, count` (None where only the end will tell)."""

    def on_map_end(self, *args: Any, **kwargs: Any) -> object:
        """Note the end of a map, whatever its end: `duration`."""

    def on_item_start(self, *args: Any, **kwargs: Any) -> object:
        """Note the start of an item of a map: `index, inputs`."""

    def on_item_end(self, *args: Any, **kwargs: Any) -> object:
        """Note that an item has ended well: `index, outputs, duration`."""

    def on_item_error(self, *args: Any, **kwargs: Any) -> object:
        """Note that an item has failed: `index, error, duration`."""

    def on_executor_start(self, *args: Any, **kwargs: Any) -> object:
        """Change how workers are opened: `executor, options` (a dict for this hook to fill in)."""

    def on_executor_stop(self, *args: Any, **kwargs: Any) -> object:
        """Note that workers which this run had opened are closed: `executor, options`."""

    def on_report(self, *args: Any, **kwargs: Any) -> object:
        """Note what user code has sent by `report`: `kind, data`."""


class Scene(Protocol):
    """The run that a context tells of."""

    run_id: str
    parent_run_id: str | None
    mode: str
    pipeline: Pipeline

    @property
    def state(self) -> dict[str, Any]:
        """What the callbacks of one run share."""


class Place(Protocol):
    """Where in a pipeline an event happens."""

    @property
    def path(self) -> tuple[str, ...]:
        """The names from the outermost pipeline."""

    @property
    def node(self) -> BaseNode | None:
        """The node, if it is one."""

    @property
    def config(self) -> RuntimeConfig:
        """The config in force there."""


class CallbackContext:
    """Where and when an event happened.

    The attributes that name values (`inputs`, `outputs`) hold them where they exist by then.

    Attributes:
        started: When the node started, in seconds on the monotonic clock.
        when: When the event happened, on the same clock.
        item_index: The index of the item, in a map.
        inputs: The inputs by name, of the pipeline, item or node.
        outputs: The outputs by name, once they are there.
        signature: The node's signature, where a cache was asked.
        cache_hit: Whether the outputs came from a cache.
        attempt: Which attempt at the node it is, from 1.
        exception: What was raised.
        note: What hooks around a node have left for those at its end, if anything.
    """

    outputs: Mapping[str, Any] | None = None
    signature: str | None = None
    cache_hit: bool = False
    attempt: int = 1
    exception: BaseException | None = None
    note: str | None = None

    def __init__(
        self,
        scene: Scene,
        place: Place,
        when: float,
        item_index: int | None = None,
        inputs: Mapping[str, Any] | None = None,
        *,
        worker: Worker | None = None,
    ) -> None:
        self._scene = scene
        self._place = place
        self.started: float = when
        self.when: float = when
        self.item_index: int | None = item_index
        self.inputs: Mapping[str, Any] | None = inputs
        self._worker = worker

    def __repr__(self) -> str:
        return f"CallbackContext({' > '.join(self.path)!r}, run_id={self.run_id!r})"

    @property
    def path(self) -> tuple[str, ...]:
        """The names from the outermost pipeline to the node, or to the pipeline."""
        return self._place.path

    @property
    def node(self) -> BaseNode | None:
        """The node; None for events of pipelines, maps, items and executors."""
        return self._place.node

    @property
    def config(self) -> RuntimeConfig:
        """The config in force there."""
        return self._place.config

    @property
    def time(self) -> float:
        """When it happened, in seconds since the epoch."""
        return _ORIGIN + self.when

    @property
    def worker(self) -> str:
        """The name of the thread in which it happened, in whatever process that is."""
        return (self._worker or current_worker()).thread

    @property
    def process(self) -> int:
        """The id of the process in which it happened."""
        return (self._worker or current_worker()).process

    @property
    def host(self) -> str:
        """The name of the machine on which it happened."""
        return (self._worker or current_worker()).host

    @property
    def run_id(self) -> str:
        """What tells this run from all others; a nested pipeline's run has its own."""
        return self._scene.run_id

    @property
    def parent_run_id(self) -> str | None:
        """The `run_id` of the run around this one, or None."""
        return self._scene.parent_run_id

    @property
    def depth(self) -> int:
        """How many pipelines are around: 0 for the outermost one and its nodes."""
        return len(self.path) - (1 if self.node is None else 2)

    @property
    def mode(self) -> str:
        """`"run"`, or `"map"` for a map, its items and their nodes."""
        return self._scene.mode

    @property
    def pipeline(self) -> Pipeline:
        """The pipeline that runs."""
        return self._scene.pipeline

    @property
    def state(self) -> dict[str, Any]:
        """A dict that all callbacks share, from the start of the outermost run to its end."""
        return self._scene.state


class Reporter(Protocol):
    """Takes what user code reports."""

    def reported(self, kind: str, data: dict[str, Any]) -> None:
        """Take one report."""


REPORTER: Final[ContextVar[Reporter | None]] = ContextVar("hypernodes_reporter", default=None)
"""Who takes the reports of the code that runs now; None where nobody wants them."""


def report(kind: str, /, **data: Any) -> None:
    """Tell the callbacks of the run something, from inside a node, in any worker.

    They get it by `on_report`. Where nobody listens, and outside of runs, nothing happens. In a
    worker process the values have to be such that can be pickled.

    Args:
        kind: What it is about.
        data: Whatever there is to tell.

    Example:
        >>> from hypernodes import Pipeline, RuntimeConfig, node
        >>> @node
        ... def loss(steps):
        ...     for step in range(steps):
        ...         report("step", number=step)
        ...     return 0.5
        >>> class Steps(Callback):
        ...     def on_report(self, kind, data):
        ...         print(kind, data)
        >>> Pipeline([loss]).run({"steps": 2}, config=RuntimeConfig(callbacks=[Steps()]))
        step {'number': 0}
        step {'number': 1}
        {'loss': 0.5}
    """
    reporter = REPORTER.get()
    if reporter is not None:
        reporter.reported(kind, data)


def register_plugins(*plugins: object) -> None:
    """Have callbacks observe all runs of this process, besides those of the config in force.

    Args:
        plugins: In all forms that `RuntimeConfig.callbacks` takes; classes and factories are
            called. What is registered already stays as it is. All are registered, or none.

    Raises:
        CallbackError: One of them has a hook that is misspelt, or that asks for an argument that
            does not exist; or it has no hooks.
    """
    REGISTRY.register(*plugins)


def unregister_plugins(*plugins: object) -> None:
    """Undo `register_plugins`, for some plugins, or for all where none is named.

    Args:
        plugins: What was registered, or the instance that was made from it.

    Raises:
        CallbackError: One of them is not registered.
    """
    REGISTRY.unregister(*plugins)
