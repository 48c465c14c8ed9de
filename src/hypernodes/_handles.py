"""Handles of engines: they lead to a value, and mean something only where their engine moves them.

A pickle that the engine does not make itself holds no more than a name: who reads it may wait
for ever, or find another value of that name.
"""

from __future__ import annotations

import io
import pickle
import sys
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import cloudpickle

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["OBJECT_REF", "Handle", "Unpickler", "check", "dumps_apart", "loads", "may_be_in"]


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
_ALL: Final = OBJECT_REF, FUTURE


def may_be_in(data: bytes) -> bool:
    """Tell whether a pickle may hold a handle.

    Args:
        data: The pickle.

    Example:
        >>> may_be_in(pickle.dumps([1, 2, 3]))
        False
    """
    return any(each.package in sys.modules and each.mark in data for each in _ALL)


def check(value: Any, carried: Handle | None = None) -> None:
    """Pickle a value for nobody, to see whether it can be, and what it holds.

    Args:
        value: Anything.
        carried: Handles that may be in it.

    Raises:
        TypeError: It holds a handle.
        Exception: It cannot be pickled; whatever that raised.
    """
    dumps_apart(value, carried, lambda _: False)


def dumps_apart(
    value: Any, carried: Handle | None, keep: Callable[[pickle.PickleBuffer], bool]
) -> tuple[bytes, tuple[Any, ...]]:
    """Return a pickle of a value, and the handles in it, which have to travel beside it.

    A collection of Dask goes with them: it may hold futures, which Dask finds again by itself.

    Args:
        value: Anything.
        carried: The handles that can travel.
        keep: Takes buffers; returns whether they stay in the pickle.

    Raises:
        TypeError: It holds handles of another kind.
        Exception: It cannot be pickled; whatever that raised.
    """
    file = io.BytesIO()
    pickler = _Pickler(file, carried, keep)
    pickler.dump(value)
    return file.getvalue(), tuple(pickler.apart)


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


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc] # Any to mypy
    def __init__(self, file: Any, carried: Handle | None, keep: Any) -> None:
        super().__init__(file, protocol=5, buffer_callback=keep)
        self.apart: list[Any] = []
        self._places: dict[int, int] = {}
        self._carried = carried
        self._is_apart: dict[type, bool] = {}

    def persistent_id(self, value: Any) -> int | None:
        kind = type(value)
        is_apart = self._is_apart.get(kind)
        if is_apart is None:
            is_apart = self._is_apart[kind] = self._goes_apart(kind)
        if not is_apart:
            return None
        place = self._places.setdefault(id(value), len(self.apart))
        if place == len(self.apart):
            self.apart.append(value)
        return place

    def _goes_apart(self, kind: type) -> bool:
        for handle in _ALL:
            if handle.type is not None and issubclass(kind, handle.type):
                if handle is not self._carried:
                    raise TypeError(handle.refusal)
                return True
        return FUTURE.type is not None and hasattr(kind, "__dask_graph__")


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
