"""A small cache as a callback: `wrap_node` looks up a result, and runs the node only if it must.

python examples/callbacks_cache.py
"""

import hashlib
import pickle
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hypernodes import Callback, Node, Pipeline, RuntimeConfig, node


class FileCache(Callback):
    """Keeps results in files, by the code of the node and the pickle of its inputs.

    It is made of a path alone, so it travels to worker processes, where `wrap_node` runs.
    """

    def __init__(self, folder: Path) -> None:
        """Take the folder."""
        self.folder = folder

    def wrap_node(self, node: Node, inputs: Mapping[str, Any], call: Callable[[], Any]) -> Any:
        """Return the kept result, or compute and keep it."""
        key = hashlib.sha256(pickle.dumps((node.code_hash, sorted(inputs.items()))))
        path = self.folder / key.hexdigest()
        if path.exists():
            return pickle.loads(path.read_bytes())  # noqa: S301 - our own files
        value = call()
        path.write_bytes(pickle.dumps(value))
        return value


class Calls(Callback):
    """Counts the nodes that really run; it lies inside the cache, since its order is higher."""

    order = 60

    def __init__(self, folder: Path) -> None:
        """Take the folder in which each call leaves a mark."""
        self.folder = folder

    def wrap_node(self, call: Callable[[], Any]) -> Any:
        """Leave a mark."""
        with tempfile.NamedTemporaryFile(dir=self.folder, delete=False):
            return call()


@node
def square(x: int) -> int:
    """Pretend to take long."""
    return x * x


def main() -> None:
    """Map twice; the second time only the new item runs."""
    with tempfile.TemporaryDirectory() as kept, tempfile.TemporaryDirectory() as marks:
        callbacks = [FileCache(Path(kept)), Calls(Path(marks))]
        config = RuntimeConfig(executor="process", callbacks=callbacks)
        pipeline = Pipeline([square])
        for items in ([1, 2, 3], [1, 2, 4]):
            results = pipeline.map({"x": items}, map_over="x", config=config)
            print([result["square"] for result in results])
            print(f"{len(list(Path(marks).iterdir()))} calls so far")


if __name__ == "__main__":
    main()
