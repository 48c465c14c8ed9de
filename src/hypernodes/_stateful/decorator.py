"""The decorator, and which classes it can be used on."""

from __future__ import annotations

import enum
from types import FunctionType
from typing import Any, Final, TypeVar

from hypernodes._stateful.making import OWN_NEW, New, Signature, check_layout, plain_new
from hypernodes._stateful.unbuilt import ALSO_WHEN_BUILT, unbuilt

__all__ = ["stateful"]

Kind = TypeVar("Kind", bound=type[Any])
_HEAP_TYPE: Final = 1 << 9


def stateful(cls: Kind) -> Kind:
    """Make a class whose instances are built where they are used, once per worker: models, clients.

    `Model("path")` runs no `__init__`. It takes down the arguments, and the instance is built when
    it is first used: when an attribute is read or set, when it is called, or by any other operator.
    It travels to workers as class and arguments, built or not, and equal ones share one instance in
    each worker process. For a cache it counts by the code of the class and the arguments, or by
    `__cache_key__()`, for which it is built if that asks for more than `__init__` plainly keeps of
    them. A copy of it is the instance itself.

    Args:
        cls: A class without `__slots__`.

    Returns:
        The same class.

    Raises:
        TypeError: It is no class, or one whose instances cannot be built later, such as an
            exception, an enumeration, a class with slots, or a subclass of `dict` or `int`.

    Example:
        >>> @stateful
        ... class Model:
        ...     def __init__(self, size):
        ...         print("loading")
        ...         self.size = size
        >>> model = Model(3)
        >>> model
        Model(3)
        >>> model.size + model.size
        loading
        6
    """
    _check(cls)
    own = vars(cls).get("__new__")
    members: dict[str, Any] = {"__daft_stateful__": True, **ALSO_WHEN_BUILT}
    if not isinstance(own, New):
        members |= {"__new__": New(unbuilt)} | ({OWN_NEW: own} if own else {})
    if not hasattr(cls, "__signature__"):
        members["__signature__"] = Signature()
    for name, member in members.items():
        setattr(cls, name, member)
    return cls


def _check(cls: object) -> None:
    """Raise `TypeError` for what cannot be built later."""
    if not isinstance(cls, type):
        raise TypeError(f"@stateful is for classes, and {cls!r} is none")
    problem = _problem(cls)
    if problem:
        raise TypeError(f"@stateful cannot be used on {cls.__qualname__}: {problem}")
    check_layout(cls)


def _problem(cls: type) -> str | None:
    if issubclass(cls, enum.Enum):
        return "the members of an enumeration are made with it"
    foreign = [base for base in cls.__mro__[:-1] if not base.__flags__ & _HEAP_TYPE]
    new = plain_new(cls)
    if foreign or (new is not object.__new__ and not isinstance(new, FunctionType)):
        what = foreign[0].__name__ if foreign else "a class of native code"
        return f"it is a kind of {what}, which has to be made at once; hold one in an attribute"
    return None
