"""How objects are taken apart: by their attributes, or as for pickling."""

from __future__ import annotations

import copyreg
import enum
import functools
import types
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, cast

from hypernodes.cache._origin import is_plain, module_name, package_name
from hypernodes.cache._parts import (
    Definition,
    Instead,
    NoStableIdentityError,
    Parts,
    Rule,
    attribute_labels,
    refused,
    with_attributes,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["keyed", "object_rule", "stand_in"]


def object_rule(cls: type) -> Rule:
    """Return the rule for a class that no rule names."""
    if issubclass(cls, type):
        return Definition
    if issubclass(cls, enum.Enum):
        return _enum_member
    if issubclass(cls, set | frozenset):
        return _set_subclass
    if issubclass(cls, types.ModuleType):
        return Definition
    if cls is object:
        return refused
    return functools.partial(_plain, *_layout(cls)) if is_plain(cls) else _reduced


def keyed(value: Any) -> Parts:
    """Take apart what says itself what tells it from others."""
    label = attribute_labels("", "__cache_key__()")
    return Parts(b"key", (type(value), value.__cache_key__()), label=label)


def stand_in(value: Any) -> Instead:
    """Put the function for an object that only wraps one, and names the attribute."""
    return Instead(getattr(value, type(value).__hypernodes_function__))


def _plain(skipped: frozenset[str], slots: tuple[str, ...], value: Any) -> Parts:
    found = {name: getattr(value, name) for name in slots if hasattr(value, name)}
    found.update(getattr(value, "__dict__", {}))
    public = {name: part for name, part in found.items() if name[:1] != "_" and name not in skipped}
    return with_attributes(b"object", type(value), public)


def _layout(cls: type) -> tuple[frozenset[str], tuple[str, ...]]:
    """Return the attributes of instances that are only caches, and the slots."""
    members = [(name, member) for base in cls.__mro__ for name, member in vars(base).items()]
    caches = [name for name, member in members if isinstance(member, functools.cached_property)]
    slots = [name for name, member in members if isinstance(member, types.MemberDescriptorType)]
    return frozenset(caches), tuple(slots)


def _enum_member(value: enum.Enum) -> Parts:
    children = (type(value), value._name_, value._value_)
    return Parts(b"enum", children, label=attribute_labels("", "", "value"))


def _set_subclass(value: Any) -> Parts:
    return Parts(b"set subclass", (type(value), frozenset(value), vars(value)))


def _reduced(value: Any) -> Parts:
    """Take apart what knows how to be pickled; the parts are hashed, not the pickle."""
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
    children = (type(value), make, args, state, listed, content)
    return Parts(b"reduced", children, label=lambda *_: "", is_opaque=True)


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
