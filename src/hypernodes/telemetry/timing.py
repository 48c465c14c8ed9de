"""Where the time goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypernodes.telemetry._shared import Gathering

if TYPE_CHECKING:
    from hypernodes._node import BaseNode
    from hypernodes.callbacks import CallbackContext

__all__ = ["TimingCallback"]


class TimingCallback(Gathering):
    """Adds up the time that nodes take, over all runs.

    What counts is the time in which a node ran, with its retries, where it ran: of nodes that run
    at the same time the sum may be more than the time of the run. What came from a cache took no
    time and is left out; what failed counts.

    Attributes:
        durations: The seconds of all calls together, by the node's name.
        counts: How many calls these are, by the node's name.

    Example:
        >>> from hypernodes import Pipeline, RuntimeConfig, node
        >>> timing = TimingCallback()
        >>> double = Pipeline([node("double")(lambda x: 2 * x)])
        >>> config = RuntimeConfig(callbacks=[timing])
        >>> results = double.map({"x": [1, 2, 3]}, map_over="x", config=config)
        >>> timing.counts
        {'double': 3}
        >>> 0 < timing.durations["double"] < 1
        True
    """

    reads: tuple[()] = ()

    def __init__(self) -> None:
        super().__init__()
        self.durations: dict[str, float] = {}
        self.counts: dict[str, int] = {}

    def reset(self) -> None:
        """Start again from nothing."""
        with self._lock:
            self.durations.clear()
            self.counts.clear()

    def on_node_end(self, ctx: CallbackContext, node: BaseNode, duration: float) -> None:
        if not ctx.cache_hit:
            self._add(node.name, duration)

    def on_node_error(self, node: BaseNode, duration: float) -> None:
        self._add(node.name, duration)

    def _add(self, name: str, duration: float) -> None:
        with self._lock:
            self.durations[name] = self.durations.get(name, 0.0) + duration
            self.counts[name] = self.counts.get(name, 0) + 1
