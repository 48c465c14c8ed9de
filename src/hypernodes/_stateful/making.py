"""Calling stateful classes: the `__new__` that makes nothing yet, and what it takes."""

from __future__ import annotations

import inspect
import threading
from types import MemberDescriptorType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

OWN_NEW: Final = "__hypernodes_new__"


class New:
    """The `__new__` of a stateful class; one of the class's own is for when it is built.

    Args:
        unbuilt: Gives an instance of a class that is not built.
    """

    def __init__(self, unbuilt: Callable[[type], Any]) -> None:
        self._unbuilt = unbuilt

    def __call__(self, cls: type, /, *args: Any, **kwargs: Any) -> Any:
        if getattr(_making, "cls", None) is not cls:
            return self._unbuilt(cls)
        new = plain_new(cls, self)
        made = new(cls) if new is object.__new__ else new(cls, *args, **kwargs)
        _making.cls = None  # what `__init__` makes of the same class is built later, too
        return made


_making: Final = threading.local()


def plainly(cls: type, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call a class as if it were not stateful."""
    before = getattr(_making, "cls", None)
    _making.cls = cls
    try:
        return cls(*args, **kwargs)
    finally:
        _making.cls = before


def plain_new(cls: type, after: New | None = None) -> Callable[..., Any]:
    """Return the first `__new__` that is not ours, from the class on that has `after`."""
    for base in cls.__mro__:
        members = vars(base)
        new = members.get("__new__")
        if after is None or new is after:
            after = None
            found = members.get(OWN_NEW) or new
            if found is not None and not isinstance(found, New):
                return getattr(found, "__func__", found)  # type: ignore[no-any-return]
    return object.__new__


def check_layout(cls: type) -> None:
    """Raise `TypeError` unless instances have all of their state in `__dict__`.

    Only that can be shared by an instance and the one as which it is built. Models of pydantic hold
    in their slots what is only changed in place.
    """
    members = [each for base in cls.__mro__[:-1] for each in vars(base).values()]
    slots = [each.__name__ for each in members if type(each) is MemberDescriptorType]
    own = [name for name in slots if not name.startswith("__pydantic_")]
    if own or not (cls.__dictoffset__ and cls.__weakrefoffset__):
        message = (
            f"@stateful cannot be used on {cls.__qualname__}: state has to be in __dict__; "
            "take __slots__ (slots=True of a dataclass) out of it and its bases"
        )
        raise TypeError(message)


class Signature:
    """The signature of a stateful class is that of its `__init__`."""

    def __get__(self, instance: object, owner: type) -> inspect.Signature:
        found = signature_of(owner) if instance is None else None
        if found is None:
            raise AttributeError("__signature__")
        return found


def signature_of(cls: type) -> inspect.Signature | None:
    """Return what a class takes, or None where Python cannot tell."""
    if _takes_fields(cls):
        return inspect.signature(cls)
    init = inspect.getattr_static(cls, "__init__")
    function = plain_new(cls) if init is object.__init__ else init
    if function is object.__new__:
        return inspect.Signature()
    try:
        found = inspect.signature(function)
    except (TypeError, ValueError):
        return None
    return found.replace(parameters=[*found.parameters.values()][1:])


def _takes_fields(cls: Any) -> bool:
    """Whether a class is a model of pydantic that takes its fields, each by one name."""
    decorators = getattr(cls, "__pydantic_decorators__", None)
    if decorators is None or cls.__init__.__module__ != "pydantic.main":
        return False
    if decorators.model_validators or decorators.root_validators:
        return False  # they may add and take away
    fields = cls.model_fields.values()
    return not any(field.alias or field.validation_alias for field in fields)


def bound(cls: type, args: Any, kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return arguments in the form that all that mean the same have.

    Raises:
        TypeError: They do not fit.
    """
    signature = signature_of(cls)
    if signature is None:
        return args, kwargs
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError as error:
        raise TypeError(f"{cls.__qualname__}(): {error}") from None
    if not _takes_fields(cls) and plain_new(cls) is object.__new__:
        _leave_out_defaults(bound)
    return bound.args, bound.kwargs


def _leave_out_defaults(bound: inspect.BoundArguments) -> None:
    """Take out what is given as it is by default, where nobody can see the difference."""
    parameters = bound.signature.parameters.values()
    if any(each.kind in (each.VAR_POSITIONAL, each.POSITIONAL_ONLY) for each in parameters):
        return  # others would move to their places
    for each in parameters:
        value = bound.arguments.get(each.name)
        is_plain = type(value) is type(each.default) and type(value) in _WRITTEN_OUT
        if is_plain and repr(value) == repr(each.default):
            bound.arguments.pop(each.name, None)


_WRITTEN_OUT: Final = (str, bytes, int, float, bool, type(None))
"""What is equal if it is written alike."""


def by_name(cls: type, args: Iterable[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments that fit by the names of the parameters."""
    signature = signature_of(cls)
    if signature is None:
        return {"args": args, "kwargs": kwargs}
    return signature.bind(*args, **kwargs).arguments


def with_defaults(cls: type, named: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments by the names of the parameters, with what is left out.

    Args:
        cls: Who takes them.
        named: Those that are given.
    """
    signature = signature_of(cls) or inspect.Signature()
    defaults = {name: each.default for name, each in signature.parameters.items()}
    # What dataclasses put in the place of a default that they make later is none.
    known = {
        name: default
        for name, default in defaults.items()
        if default is not inspect.Parameter.empty and type(default).__module__ != "dataclasses"
    }
    return known | dict(named)
