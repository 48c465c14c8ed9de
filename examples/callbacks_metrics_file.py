"""A callback that writes metrics to a file, a line of JSON for each node, in the background.

python examples/callbacks_metrics_file.py
"""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from hypernodes import Callback, CallbackContext, Pipeline, RuntimeConfig, node, report


class Metrics(Callback):
    """Writes what nodes take, and what they report, to a file."""

    async_mode = True  # writing holds up no node
    reads = ()  # no inputs and outputs, which could stay in the workers

    def __init__(self, path: Path) -> None:
        """Take the path of the file, which is opened by the first run."""
        self.path = path
        self.file: TextIO | None = None

    def on_pipeline_start(self, ctx: CallbackContext) -> None:
        """Open the file for the outermost pipeline."""
        if ctx.depth == 0:
            self.file = self.path.open("a", encoding="utf-8")

    def on_node_end(self, ctx: CallbackContext, duration: float) -> None:
        """Write what a node took."""
        self._write(ctx, seconds=duration)

    def on_report(self, ctx: CallbackContext, kind: str, data: Mapping[str, Any]) -> None:
        """Write what a node reports."""
        self._write(ctx, kind=kind, **data)

    def on_pipeline_end(self, ctx: CallbackContext) -> None:
        """Close the file."""
        self._close(ctx)

    def on_pipeline_error(self, ctx: CallbackContext) -> None:
        """Close the file."""
        self._close(ctx)

    def _write(self, ctx: CallbackContext, **facts: Any) -> None:
        if self.file is not None:
            place = {"run": ctx.run_id, "node": " > ".join(ctx.path), "item": ctx.item_index}
            self.file.write(json.dumps(place | facts) + "\n")

    def _close(self, ctx: CallbackContext) -> None:
        if ctx.depth == 0 and self.file is not None:
            self.file.close()


@node
def root(square: float) -> float:
    """Take a square root by Newton's method, and report how it goes."""
    guess = square
    for step in range(4):
        guess = (guess + square / guess) / 2
        report("step", number=step, error=abs(guess * guess - square))
    return guess


def main() -> None:
    """Map over some squares on processes; the file is written here, in the driver."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "metrics.jsonl"
        config = RuntimeConfig(executor="process", callbacks=[Metrics(path)])
        Pipeline([root], name="roots").map({"square": [2.0, 9.0]}, map_over="square", config=config)
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    print(f"{len(lines)} lines")
    for line in lines:
        if line.get("number") == 3:
            print(f"item {line['item']}: error {line['error']:.4f} after 4 steps")


if __name__ == "__main__":
    main()
