"""Pickles without the handles that are in a value: these travel beside them, or are refused."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import cloudpickle

from hypernodes._handles import ALL, FUTURE, TAKES_APART

if TYPE_CHECKING:
    import pickle
    from collections.abc import Callable

    from hypernodes._handles import Handle

__all__ = ["check", "dumps_apart"]


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
    token = TAKES_APART.set(True)
    try:
        pickler.dump(value)
    finally:
        TAKES_APART.reset(token)
    return file.getvalue(), tuple(pickler.apart)


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
        for handle in ALL:
            if handle.type is not None and issubclass(kind, handle.type):
                if handle is not self._carried:
                    raise TypeError(handle.refusal)
                return True
        return FUTURE.type is not None and hasattr(kind, "__dask_graph__")
