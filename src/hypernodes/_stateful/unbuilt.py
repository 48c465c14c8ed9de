"""`@stateful`: instances that are described by what makes them, and made where they are used.

A new instance belongs to a hidden subclass without a layout of its own, which builds it at first
use and then gives it back to its class: from then on it costs what any other does. What made it is
kept beside it, so it travels as that, built or not; what arrives twice in a process is built once.
"""

from __future__ import annotations

import functools
import inspect
import weakref
from contextlib import suppress
from types import FunctionType, MemberDescriptorType
from typing import TYPE_CHECKING, Any, Final, cast

from hypernodes._stateful.descriptions import (
    Description,
    describe,
    described,
    description_of,
    known,
)
from hypernodes._stateful.keys import Seen, sure_attributes
from hypernodes._stateful.making import OWN_NEW, bound, by_name, check_layout
from hypernodes._stateful.sharing import HOME, LOCK, SHARED, keep

if TYPE_CHECKING:
    from collections.abc import Callable


def unbuilt(cls: type) -> Any:
    """Return an instance of `cls` that is not built, and not described yet.

    Raises:
        TypeError: The class is abstract, or came to have slots later.
    """
    instance: Any = object.__new__(cls)
    object.__setattr__(instance, "__class__", _hidden(cls))
    return instance


def build(instance: Any) -> bool:
    """Build an instance unless it is; tell whether it belongs to its class now.

    One that was made without `__init__` is what it is.
    """
    description = description_of(instance)
    if description is None:
        kind = type(instance)
        if isinstance(kind, _HiddenKind):
            object.__setattr__(instance, "__class__", kind.__base__)
        return True
    with description.lock:
        if not description.is_built:
            _fill(instance, description)
    keep(instance, description)
    return type(instance) is description.cls


def _fill(instance: Any, description: Description) -> None:
    """Build another instance as any is built, and let this one have its state.

    So nobody sees one that is half built, a failure leaves nothing behind, and threads that
    `__init__` starts may use it.
    """
    made = description.made()
    hidden = type(instance)
    _move(made, instance)
    description.is_built = True
    describe(made, description)
    if hasattr(description.cls, "__del__"):
        object.__setattr__(made, "__class__", hidden)
    object.__setattr__(instance, "__class__", description.cls)


def _move(made: Any, instance: Any) -> None:
    for base in type(made).__mro__[:-1]:
        for slot in vars(base).values():
            if type(slot) is MemberDescriptorType:
                with suppress(AttributeError):  # it was not set
                    slot.__set__(instance, slot.__get__(made))
    state = object.__getattribute__(made, "__dict__")
    for name, value in object.__getattribute__(instance, "__dict__").items():
        state.setdefault(name, value)
    if weakref.getweakrefcount(made):
        state.setdefault(_TWIN, made)  # who looks after it may do so as long as this one lives
    object.__setattr__(instance, "__dict__", state)


_TWIN: Final = "__hypernodes_twin__"


def _is_asked_of_all(name: str) -> bool:
    """Whether anything is asked for an attribute to see what it is; its class can answer that."""
    is_special = name[:2] == name[-2:] == "__" and name != "__dict__"
    return is_special or name.startswith(("_repr_", "_ipython_", "_is_coroutine", "_partialmethod"))


class Unbuilt:
    """What comes before the class in the hidden one."""

    __slots__ = ()

    def __init_subclass__(cls) -> None:
        """Keep it from the class, which may count its subclasses."""

    def __init__(self, /, *args: Any, **kwargs: Any) -> None:
        cls = self.__class__
        describe(self, Description(cls, bound(cls, args, kwargs)))

    def __getattribute__(self, name: str) -> Any:
        if name == "__class__":
            return type(self).__base__
        try:
            if _is_asked_of_all(name) or not build(self):
                return object.__getattribute__(self, name)
        except AttributeError as error:
            description = description_of(self)
            if description is not None:
                description.error = error
            raise
        return getattr(self, name)

    def __getattr__(self, name: str) -> Any:
        if not isinstance(type(self), _HiddenKind):
            return getattr(self, name)  # it is built by now: the class says what is wrong
        description = description_of(self)
        if description is not None and description.error is not None:
            error, description.error = description.error, None
            raise error
        message = f"{self.__class__.__name__!r} object has no attribute {name!r}"
        raise AttributeError(message, name=name, obj=self)

    def __setattr__(self, name: str, value: Any) -> None:
        if description_of(self) is None:  # a `__new__` may do so before `__init__` is called
            self.__class__.__setattr__(self, name, value)
        elif _is_asked_of_all(name) or not build(self):
            object.__setattr__(self, name, value)
        else:
            setattr(self, name, value)

    def __delattr__(self, name: str) -> None:
        if build(self):
            delattr(self, name)
        else:
            object.__delattr__(self, name)

    def __repr__(self) -> str:
        return str(description_of(self) or object.__repr__(self))

    def __del__(self) -> None:
        """There is nothing to clean up yet."""

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        description = description_of(self)
        if description is None:
            build(self)
            return cast("tuple[Any, ...]", object.__reduce_ex__(self, protocol))
        key = description.key
        with LOCK:
            is_first = SHARED.setdefault(key, self) is self
        return _arrived, (*key, HOME, None if is_first else id(self))

    def __hypernodes_described__(self) -> tuple[type, dict[str, Any], Any] | None:
        """Return the class, the arguments, and who is asked for the `__cache_key__`, if any."""
        description = description_of(self)
        if description is None:
            build(self)
            return None
        cls = description.cls
        named = by_name(cls, *description.arguments)
        is_keyed = hasattr(cls, "__cache_key__")
        return cls, named, Seen(self, sure_attributes(cls, named)) if is_keyed else None


ALSO_WHEN_BUILT: Final = {
    name: vars(Unbuilt)[name] for name in ("__reduce_ex__", "__hypernodes_described__")
}


class _HiddenKind(type):
    """Puts `Unbuilt` before a class that is the only base: so the layout stays as it is."""

    def mro(cls) -> list[type]:
        own, *others = super().mro()
        return [own, Unbuilt, *others]


_hidden_classes: Final[weakref.WeakKeyDictionary[type, weakref.ref[type]]] = (
    weakref.WeakKeyDictionary()
)


def _hidden(cls: type) -> type:
    """Return the hidden subclass of `cls`; there is one as long as somebody needs it."""
    with LOCK:
        reference = _hidden_classes.get(cls)
        found = reference() if reference is not None else None
        if found is None:
            found = _new_hidden(cls)
            _hidden_classes[cls] = weakref.ref(found)
    return found


def _new_hidden(cls: type) -> type:
    check_layout(cls)
    kind = type(cls)
    meta = _HiddenKind if kind is type else type(kind.__name__, (_HiddenKind, kind), {})
    names = ("__module__", "__qualname__", "__doc__")
    members = {"__slots__": (), **{name: getattr(cls, name) for name in names}}
    # Not by calling `meta`: what it does to classes is for those that users write.
    return type.__new__(meta, cls.__name__, (cls,), members | _operators(cls))


def _operators(cls: type) -> dict[str, Any]:
    """Return the special methods of `cls`, each of which builds first."""
    names = {name for base in cls.__mro__[:-1] for name in vars(base) if name[:2] == "__"}
    found: dict[str, Any] = {"__hash__": cls.__hash__}
    for name in names - vars(Unbuilt).keys() - {OWN_NEW, "__cache_key__"}:
        member = inspect.getattr_static(cls, name)
        if isinstance(member, FunctionType) and name[-2:] == "__":
            found[name] = _building_first(name, member)
    return found


def _building_first(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    def now(instance: Any) -> Any:
        return getattr(type(instance), name) if build(instance) else method

    if inspect.iscoroutinefunction(method):

        @functools.wraps(method)
        async def awaited(self: Any, /, *args: Any, **kwargs: Any) -> Any:
            return await now(self)(self, *args, **kwargs)

        return awaited

    @functools.wraps(method)
    def called(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        return now(self)(self, *args, **kwargs)

    return called


def _arrived(cls: type, arguments: bytes, home: str, identity: int | None) -> Any:
    """Return the instance of this description: at home that very one, else one for all that arrive.

    Args:
        cls: Its class.
        arguments: The pickle of its arguments.
        home: The process that it comes from.
        identity: Its identity there, unless it is the one that all share.
    """
    key = cls, arguments
    with LOCK:
        itself = known(identity, key) if home == HOME and identity is not None else None
        instance = SHARED.get(key) if itself is None else itself
        if instance is None:
            instance = SHARED[key] = unbuilt(cls)
            describe(instance, Description(cls, arguments, is_native=home == HOME))
    description = described(instance)
    if description.is_built:
        keep(instance, description)
    return instance
