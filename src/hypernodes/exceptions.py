"""The errors of hypernodes: one tree, facts as attributes, every one of them pickles.

::

    HyperNodesError
    ├── PipelineDefinitionError        a pipeline or a node that cannot be built
    │   ├── CycleError                 cycle
    │   ├── DuplicateOutputError       outputs, nodes
    │   ├── NodeDefinitionError        node
    │   └── TypeConflictError          output, producer, consumer
    ├── InputError (ValueError)        what was given to a run or a map is wrong
    │   ├── MissingInputError          missing, node
    │   └── UnknownInputError          name, suggestion
    ├── NodeOutputError                node, path, expected, received
    ├── NodeTimeoutError (TimeoutError)  node, path, timeout
    ├── WorkerCrashedError             node, path, index
    ├── ResourceError                  node, resource, requested, available, suggestion
    ├── SerializationError             node, name
    ├── CacheError                     path
    ├── CallbackError                  callback, hook
    └── MissingDependencyError (ImportError)  extra

    CacheWarning (UserWarning)         a cache that could not be read or written
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

__all__ = [
    "CacheError",
    "CacheWarning",
    "CallbackError",
    "CycleError",
    "DuplicateOutputError",
    "HyperNodesError",
    "InputError",
    "MissingDependencyError",
    "MissingInputError",
    "NodeDefinitionError",
    "NodeOutputError",
    "NodeTimeoutError",
    "PipelineDefinitionError",
    "ResourceError",
    "SerializationError",
    "TypeConflictError",
    "UnknownInputError",
    "WorkerCrashedError",
    "hint",
    "nearest",
]


class HyperNodesError(Exception):
    """The base of every error that hypernodes raises of its own.

    Args:
        message: What happened, where, and what to do.
        **facts: The attributes that the class declares.
    """

    def __init__(self, message: str = "", **facts: Any) -> None:
        super().__init__(message)
        for name, value in facts.items():
            setattr(self, name, value)


class PipelineDefinitionError(HyperNodesError):
    """A pipeline that cannot be built."""

    node: str | None = None


class CycleError(PipelineDefinitionError):
    """Nodes that need one another's outputs; `cycle` holds their names, the first one twice."""

    cycle: tuple[str, ...] = ()


class DuplicateOutputError(PipelineDefinitionError):
    """Several nodes with one output; `outputs` and `nodes` hold the names."""

    outputs: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()


class NodeDefinitionError(PipelineDefinitionError):
    """A callable or an option that cannot make a node; `node` is the name as far as known."""


class TypeConflictError(PipelineDefinitionError):
    """Annotations of `producer` and `consumer` (node names) of `output` that cannot agree."""

    output: str | None = None
    producer: str | None = None
    consumer: str | None = None


class InputError(HyperNodesError, ValueError):
    """What was given to a run, a map or a method is wrong; `name` is the argument or input."""

    name: str | None = None
    node: str | None = None


class MissingInputError(InputError):
    """Inputs that are needed and were not given: `missing`, the first one needed by `node`."""

    missing: tuple[str, ...] = ()


class UnknownInputError(InputError):
    """A `name` that the pipeline does not know; `suggestion` is the nearest one, or None."""

    suggestion: str | None = None


class NodeOutputError(HyperNodesError):
    """A function that returned another number of values than its node has outputs.

    `received` is the number of values, or None where there was nothing to unpack.
    """

    node: str | None = None
    path: tuple[str, ...] = ()
    expected: int = 0
    received: int | None = None


class NodeTimeoutError(HyperNodesError, TimeoutError):
    """An attempt at a node that took longer than its `timeout` (seconds)."""

    node: str | None = None
    path: tuple[str, ...] = ()
    timeout: float = 0.0


class WorkerCrashedError(HyperNodesError):
    """A worker that died while it ran `node` or the item `index`."""

    node: str | None = None
    path: tuple[str, ...] = ()
    index: int | None = None


class ResourceError(HyperNodesError):
    """A `resource` that `node` asks for and no worker has.

    `requested` is how much of it is asked for, `available` the most that any worker has (memory in
    bytes), `suggestion` a known name that is near, or None where the name is known.
    """

    node: str | None = None
    resource: str | None = None
    requested: float | None = None
    available: float | None = None
    suggestion: str | None = None


class SerializationError(HyperNodesError):
    """A value (`name`) of `node` that cannot travel to a worker or back."""

    node: str | None = None
    name: str | None = None
    index: int | None = None


class CacheError(HyperNodesError):
    """A cache that cannot be made from what it was given."""

    path: str | None = None


class CallbackError(HyperNodesError):
    """A callback that failed, or one that cannot be registered."""

    callback: str | None = None
    hook: str | None = None


class MissingDependencyError(HyperNodesError, ImportError):
    """An optional dependency that is not installed; `extra` is the extra that brings it."""

    extra: str | None = None


class CacheWarning(UserWarning):
    """A cache that could not be read or written, or a value that could not be kept.

    Attributes:
        about: What it has in common with other warnings of which one is enough.
    """

    about: Hashable = None


def nearest(name: object, names: Iterable[str]) -> str | None:
    """Return the one of `names` that `name` was most likely meant to be, or None."""
    by_fold = {str(known).casefold(): known for known in names}
    matches = difflib.get_close_matches(str(name).casefold(), by_fold, n=1)
    return by_fold[matches[0]] if matches else None


def hint(name: object, names: Iterable[str]) -> str:
    """Return the end of a message about the unknown `name`: the nearest match, or all `names`."""
    names = list(names)
    match = nearest(name, names)
    if match is not None:
        return f"did you mean {match!r}?"
    return f"known are: {', '.join(map(repr, names)) or 'none'}"
