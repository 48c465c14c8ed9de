"""What went wrong, and with which inputs."""

from __future__ import annotations

from concurrent.futures import CancelledError
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hypernodes.telemetry._shared import Gathering, spelled

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hypernodes.callbacks import CallbackContext

__all__ = ["CollectedError", "ErrorCollector"]


@dataclass(frozen=True, slots=True)
class CollectedError:
    """What went wrong once.

    Attributes:
        path: The names from the outermost pipeline to the node.
        item_index: The item, in a map.
        inputs: The inputs of the node, by name.
        exception: What was raised.
    """

    path: tuple[str, ...]
    item_index: int | None
    inputs: Mapping[str, Any] | None
    exception: BaseException

    def __str__(self) -> str:
        item = "" if self.item_index is None else f", item {self.item_index}"
        return f"{' > '.join(self.path)}{item}: {spelled(self.exception)}"


class ErrorCollector(Gathering):
    """Collects the errors of nodes for good, after their retries, over all runs.

    Of a run that ends by an error of none of these nodes, as by Ctrl-C, that one is collected. What
    was only given up, because something else had failed or a `map_iter` was left early, is left
    out.

    Attributes:
        errors: A `CollectedError` for each, in the order in which they became known.

    Example:
        >>> from hypernodes import Pipeline, RuntimeConfig, node
        >>> collector = ErrorCollector()
        >>> inverse = Pipeline([node("inverse")(lambda x: 1 / x)], name="inverses")
        >>> config = RuntimeConfig(callbacks=[collector])
        >>> results = inverse.map({"x": [1, 0]}, map_over="x", config=config, on_error="return")
        >>> print(collector.errors[0])
        inverses > inverse, item 1: ZeroDivisionError('division by zero')
        >>> collector.errors[0].inputs
        {'x': 0}
    """

    errors: list[CollectedError]  # type: ignore[assignment] # not what its own failures do
    _collects = True

    def __init__(self) -> None:
        super().__init__()
        self.errors = []

    def reset(self) -> None:
        """Start again from nothing."""
        with self._lock:
            self.errors.clear()

    def on_node_error(self, ctx: CallbackContext, error: BaseException) -> None:
        self._add(ctx, error)

    def on_pipeline_error(self, ctx: CallbackContext, error: BaseException) -> None:
        if ctx.depth == 0 and not self._has(error):
            self._add(ctx, error)

    def _has(self, error: BaseException) -> bool:
        with self._lock:
            return any(found.exception is error for found in self.errors)

    def _add(self, ctx: CallbackContext, error: BaseException) -> None:
        if isinstance(error, CancelledError):
            return
        with self._lock:
            self.errors.append(CollectedError(ctx.path, ctx.item_index, ctx.inputs, error))
