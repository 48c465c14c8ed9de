"""How objects are taken apart: by their attributes, or as for pickling."""

from __future__ import annotations

import copyreg
import enum
import functools
import sys
import types
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final, cast

from hypernodes.cache._origin import is_own_class, is_plain, module_name, package_name
from hypernodes.cache._parts import (
    DESCRIBED,
    Definition,
    Instead,
    Manner,
    NoStableIdentityError,
    Parts,
    Rule,
    attribute_labels,
    refused,
    with_attributes,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["described", "keyed", "object_rule", "stand_in"]


def object_rule(cls: type, manner: Manner) -> Rule:
    """Return the rule for a class that no rule names.

    Args:
        cls: The class.
        manner: Which attributes count.
    """
    if issubclass(cls, type):
        return Definition
    if issubclass(cls, enum.Enum):
        return _enum_member
    if issubclass(cls, types.ModuleType):
        return Definition
    if cls is object:
        return refused
    if is_plain(cls):
        return functools.partial(_plain, _Layout(cls, manner))
    layout = _Layout(cls, manner) if is_own_class(cls) else None
    rule = _set_subclass if issubclass(cls, set | frozenset) else _reduced
    return functools.partial(rule, layout)


def described(value: Any) -> Parts:
    """Take apart what is described by its class and what makes it: it is not built for that."""
    found = getattr(type(value), DESCRIBED)(value)
    if found is None:  # it was made without `__init__`
        known = hasattr(type(value), "__cache_key__")
        return keyed(value) if known else _reduced(None, value)
    cls, arguments, seen = found
    if seen is not None:
        return keyed(seen, cls)
    return with_attributes(b"described", cls, arguments)


def keyed(value: Any, cls: type | None = None) -> Parts:
    """Take apart what says itself what tells it from others."""
    label = attribute_labels("", "__cache_key__()")
    cls = cls or type(value)
    try:
        key = value.__cache_key__()
    except Exception as error:
        reason = f"fails ({type(error).__name__}: {error})"
        raise NoStableIdentityError(cls, reason=reason) from error
    if key is None:
        raise NoStableIdentityError(cls, reason="returns None, as for all others")
    return Parts(b"key", (cls, key), label=label)


def stand_in(value: Any) -> Instead:
    """Put the function for an object that only wraps one, and names the attribute."""
    return Instead(getattr(value, type(value).__hypernodes_function__))


class _Layout:
    """Where instances of the user's own classes keep what counts.

    Args:
        cls: The class.
        manner: Which attributes count.
    """

    def __init__(self, cls: type, manner: Manner) -> None:
        own = [vars(base) for base in cls.__mro__ if is_own_class(base)]
        members = [(name, member) for each in own for name, member in each.items()]
        caches = [name for name, member in members if isinstance(member, functools.cached_property)]
        slots = [name for name, member in members if isinstance(member, types.MemberDescriptorType)]
        # The name of the module differs between a script and an import.
        self._skipped = {*caches, "__module__"}
        self._slots = tuple(slots)
        self._manner = manner

    def attributes(self, value: Any) -> dict[str, Any]:
        """Return the attributes of `value` that count."""
        found = {name: getattr(value, name) for name in self._slots if hasattr(value, name)}
        found.update(getattr(value, "__dict__", {}))
        if self._manner is Manner.EXACT:
            found.update({name: _MADE_LATER for name, part in found.items() if part is None})
        return {name: part for name, part in found.items() if self._counts(name)}

    def _counts(self, name: str) -> bool:
        is_shown = self._manner is not Manner.VALUE or name[:1] != "_"
        return is_shown and name not in self._skipped


_MADE_LATER: Final = object()


def _plain(layout: _Layout, value: Any) -> Parts:
    return with_attributes(b"object", type(value), layout.attributes(value))


def _enum_member(value: enum.Enum) -> Parts:
    own = {name: part for name, part in vars(value).items() if name[:1] + name[-1:] != "__"}
    children = (type(value), value._name_, value._value_, own)
    return Parts(b"enum", children, label=attribute_labels("", "", "value", "__dict__"))


def _set_subclass(layout: _Layout | None, value: Any) -> Parts:
    added = layout and layout.attributes(value)
    state = getattr(value, "__dict__", None)
    return Parts(b"set subclass", (type(value), frozenset(value), state, added))


def _reduced(layout: _Layout | None, value: Any) -> Parts:
    """Take apart what knows how to be pickled; the parts are hashed, not the pickle.

    What a user's class adds to somebody else's may not be among them.
    """
    try:
        reducer = copyreg.dispatch_table.get(type(value))
        found = reducer(value) if reducer else value.__reduce_ex__(4)
    except Exception as error:
        raise NoStableIdentityError(type(value)) from error
    if isinstance(found, str):
        return _named(value, found)
    make, args, state, items, pairs = [*cast("tuple[Any, ...]", found), None, None, None][:5]
    content = None if pairs is None else _items(value, pairs)
    listed = None if items is None else list(items)
    added = layout and layout.attributes(value)
    children = (type(value), make, args, state, listed, content, added)
    return Parts(
        b"reduced", children, label=lambda *_: "", is_opaque=True, is_client=_is_client(type(value))
    )


def _is_client(cls: type) -> bool:
    package = package_name(module_name(cls))
    ours = package == __name__.partition(".")[0] or package in sys.stdlib_module_names
    return not (ours or is_own_class(cls))


def _items(value: Any, pairs: Iterable[tuple[Any, Any]]) -> Any:
    return list(pairs) if isinstance(value, OrderedDict) else dict(pairs)


def _named(value: Any, name: str) -> Parts:
    """Take apart what its own module knows by name, such as a sentinel."""
    cls = type(value)
    module = getattr(value, "__module__", None)
    # The module of the user's own things differs between a script and an import.
    same = isinstance(module, str) and package_name(module) == package_name(module_name(cls))
    is_theirs = same and not is_plain(cls)
    return Parts(b"named", (cls, name, module if is_theirs else None))
