"""What a value is taken apart into, and the words that the rules for it are written in."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from hypernodes.cache._origin import module_name

__all__ = [
    "DESCRIBED",
    "Definition",
    "Instead",
    "Manner",
    "NoStableIdentityError",
    "Parts",
    "Rule",
    "attribute_labels",
    "made_of",
    "refused",
    "told_by",
    "with_attributes",
]


class NoStableIdentityError(TypeError):
    """A value that cannot be told from others in another process: a lock, a file, a connection.

    Args:
        kind: The type of what has no identity.
        path: Where in the value it is, such as `['model'].lock`; empty for the value itself.
        reason: What is wrong with the identity that its class gives it, if it does.
    """

    def __init__(self, kind: type, path: str = "", reason: str = "") -> None:
        super().__init__(kind, path, reason)
        self.kind = kind
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        name = f"{module_name(self.kind)}.{self.kind.__qualname__}"
        where = f" (at {self.path})" if self.path else ""
        if self.reason:
            return f"a {name}{where} has no identity: its __cache_key__() {self.reason}"
        return (
            f"a {name}{where} has no identity that lasts beyond this process: give the class a "
            f"__cache_key__() method that returns what tells one from another"
        )


class Manner(enum.Enum):
    """Which attributes count of objects of the user's classes.

    Attributes:
        VALUE: Of values that come in: those that do not begin with an underscore.
        CODE: Of what code uses: all.
        EXACT: All, but None is like anything without a stable identity: it may be made later.
    """

    VALUE = enum.auto()
    CODE = enum.auto()
    EXACT = enum.auto()


class Parts(NamedTuple):
    """A value taken apart.

    Attributes:
        tag: What it is.
        children: What it is made of.
        arrange: Puts the encoded children into an order that does not depend on chance.
        label: Says how one gets at a child, given the children and its place among them.
        is_opaque: Whether users have no names for the children.
        is_client: Whether it counts as a whole by its type where one of the children has to: an
            object of an installed package, whose state is its own affair.
    """

    tag: bytes
    children: Sequence[Any]
    arrange: Callable[[list[bytes]], list[bytes]] | None = None
    label: Callable[[Sequence[Any], int], str] = lambda _, index: f"[{index}]"
    is_opaque: bool = False
    is_client: bool = False


class Definition(NamedTuple):
    """A class, function or module: counts by its code."""

    value: Any


class Instead(NamedTuple):
    """A value that counts as another one."""

    value: Any


DESCRIBED: Final = "__hypernodes_described__"
"""What classes have whose instances count by what makes them, and says what that is."""

Rule = Callable[[Any], "Parts | bytes | Definition | Instead"]


def attribute_labels(*names: str) -> Callable[[Sequence[Any], int], str]:
    """Return labels for children that are attributes; an empty name for what is only a tag."""
    return lambda _, index: f".{names[index]}" if names[index] else ""


def made_of(tag: str, *names: str) -> Rule:
    """Return the rule for a type whose content is in the attributes `names`."""
    head, label = tag.encode(), attribute_labels(*names)
    return lambda value: Parts(head, [getattr(value, name) for name in names], label=label)


def told_by(tag: str, tell: Callable[[Any], Sequence[Any]]) -> Rule:
    """Return the rule for a type whose content `tell` puts into a few values."""
    head = tag.encode()
    return lambda value: Parts(head, tell(value))


def with_attributes(tag: bytes, kind: Any, attributes: Mapping[str, Any]) -> Parts:
    """Take apart an object into its kind and its attributes, in the order of their names."""
    names = sorted(attributes)
    children = [kind, tuple(names), *[attributes[name] for name in names]]
    return Parts(tag, children, label=attribute_labels("", "", *names))


def refused(value: Any) -> Parts:
    """Refuse what cannot be told apart in another process."""
    raise NoStableIdentityError(type(value))
