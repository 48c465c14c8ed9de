"""Two callbacks: one logs what happens, one adds up the time that nodes take.

python examples/callbacks_log_and_time.py
"""

import logging
import sys
from collections import Counter

from hypernodes import Callback, CallbackContext, Node, Pipeline, RuntimeConfig, node

logger = logging.getLogger("example")


class Logging(Callback):
    """Logs pipelines and the errors of nodes."""

    def on_pipeline_start(self, ctx: CallbackContext) -> None:
        """Log a start, indented by how deep the pipeline lies."""
        logger.info("%s%s starts", "  " * ctx.depth, ctx.path[-1])

    def on_pipeline_end(self, ctx: CallbackContext) -> None:
        """Log an end."""
        logger.info("%s%s has ended", "  " * ctx.depth, ctx.path[-1])

    def on_node_error(self, ctx: CallbackContext, error: BaseException) -> None:
        """Log an error, with the item that it came up in."""
        logger.error("%s, item %s: %r", " > ".join(ctx.path), ctx.item_index, error)


class Timing(Callback):
    """Adds up seconds by the name of the node."""

    def __init__(self) -> None:
        """Start at zero."""
        self.seconds: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()

    def on_node_end(self, node: Node, duration: float) -> None:
        """Add the time of one call."""
        self.seconds[node.name] += duration
        self.calls[node.name] += 1


@node
def words(text: str) -> list[str]:
    """Cut a text into its words."""
    return text.split()


@node
def mean_length(words: list[str]) -> float:
    """Return how long a word is; there has to be one."""
    return sum(map(len, words)) / len(words)


pipeline = Pipeline([words, mean_length], name="words")


def main() -> None:
    """Map over some texts, one of which is empty."""
    logging.basicConfig(stream=sys.stdout, format="%(levelname)s %(message)s", level="INFO")
    timing = Timing()
    config = RuntimeConfig(executor="thread", callbacks=[Logging(), timing])
    texts = ["a graph of nodes", "", "where and how"]
    pipeline.map({"text": texts}, map_over="text", config=config, on_error="return")
    for name, calls in sorted(timing.calls.items()):
        print(f"{name}: {calls} calls, {timing.seconds[name]:.6f} s")


if __name__ == "__main__":
    main()
