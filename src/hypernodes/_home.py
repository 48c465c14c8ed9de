"""Reading pickles in the process whose classes they hold."""

from __future__ import annotations

import abc
import enum
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from hypernodes._handles import Unpickler, loads

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["loads_at_home"]

_IN_NEW_CLASSES: Final = frozenset(vars(abc.ABCMeta("New", (), {"__slots__": ()}))) | {
    "__dict__",
    "__weakref__",
    "__slotnames__",
    "__orig_bases__",
}


def loads_at_home(data: Any, *, buffers: Any = (), handles: tuple[Any, ...] = ()) -> Any:
    """Read a pickle from a worker; classes that this process has already stay as they are here.

    A class of `__main__` or of a notebook travels by value, and where it comes home cloudpickle
    would set its attributes anew.
    """
    if data.find(b"_class_setstate") < 0:
        return loads(data, buffers=buffers, handles=handles)
    return _HomeUnpickler(data, buffers, handles).load()


class _HomeUnpickler(Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        found = super().find_class(module, name)
        return partial(_set_up_once, found) if name == "_class_setstate" else found


def _set_up_once(
    set_up: Callable[[type, Any], type], kind: type, state: tuple[dict[str, Any], Any]
) -> type:
    names = state[0].keys() - _IN_NEW_CLASSES
    there = names & vars(kind).keys()
    # A new class has nothing of its own yet; a new enumeration has all but what users wrote.
    is_known = names == there if issubclass(kind, enum.Enum) else there
    return kind if is_known else set_up(kind, state)
