"""Handles of engines: they lead to a value, and mean something only where their engine moves them.

A pickle that the engine does not make itself holds no more than a name: who reads it may wait
for ever, or find another value of that name.
"""

from __future__ import annotations

import io
import pickle
import sys
from contextvars import ContextVar
from typing import Any, Final, NamedTuple

__all__ = [
    "ALL",
    "FUTURE",
    "OBJECT_REF",
    "TAKES_APART",
    "Handle",
    "Unpickler",
    "loads",
    "may_be_in",
]


class Handle(NamedTuple):
    """A kind of handles.

    Attributes:
        package: What has been imported wherever there is one.
        name: What its class is called there.
        mark: What every pickle has that holds one.
        refusal: What to say where it would go astray.
    """

    package: str
    name: str
    mark: bytes
    refusal: str

    @property
    def type(self) -> Any:
        """The class; None where there can be no such handle."""
        return getattr(sys.modules.get(self.package), self.name, None)


OBJECT_REF: Final = Handle(
    "ray",
    "ObjectRef",
    b"ObjectRef",
    "a ray.ObjectRef means nothing to others than Ray's own workers: give its value",
)
FUTURE: Final = Handle(
    "distributed",
    "Future",
    b"distributed.client",
    "a Future of Dask means nothing outside of its client: give its result",
)
ALL: Final = OBJECT_REF, FUTURE
TAKES_APART: Final[ContextVar[bool]] = ContextVar("hypernodes_takes_apart", default=False)
"""Whether who pickles now looks for handles, and so wants to see all, functions, too."""


def may_be_in(data: bytes) -> bool:
    """Tell whether a pickle may hold a handle.

    Args:
        data: The pickle.

    Example:
        >>> may_be_in(pickle.dumps([1, 2, 3]))
        False
    """
    return any(each.package in sys.modules and each.mark in data for each in ALL)


def loads(data: Any, *, buffers: Any = (), handles: tuple[Any, ...] = ()) -> Any:
    """Return the value of a pickle.

    Args:
        data: The pickle.
        buffers: What lies beside it.
        handles: The handles that it refers to.
    """
    if not handles:
        return pickle.loads(data, buffers=buffers)  # noqa: S301 - from our own processes
    return Unpickler(data, buffers, handles).load()


class Unpickler(pickle.Unpickler):
    """Reads a pickle that refers to handles.

    Args:
        data: The pickle.
        buffers: What lies beside it.
        handles: The handles.
    """

    def __init__(self, data: Any, buffers: Any, handles: tuple[Any, ...]) -> None:
        super().__init__(io.BytesIO(data), buffers=buffers)
        self._handles = handles

    def persistent_load(self, place: Any) -> Any:
        """Return the handle at a place."""
        return self._handles[place]
