"""What a value hashes to: by content and by type, the same in every process, on every machine.

Its parts are encoded by the walk in `_walk`; the classes, functions and modules that it meets count
by their code, which `_code` reads.
"""

from __future__ import annotations

from typing import Any, Final

from hypernodes.cache._code import CodeSnapshot
from hypernodes.cache._encoding import LEAVES, digest
from hypernodes.cache._parts import DESCRIBED, NoStableIdentityError
from hypernodes.cache._walk import Identify, encode

__all__ = ["SOLID", "NoStableIdentityError", "has_changed", "hash_value", "mark_of", "value_key"]

SOLID: Final = frozenset(LEAVES.keys() - {bytearray})
"""Types of values that cannot change."""

# Longer content, in bytes, goes into a key as a hash.
_SHORT: Final = 40


def hash_value(value: Any, *, identify: Identify | None = None) -> str:
    """Return what `value` hashes to: the same for the same content and types, everywhere.

    `__cache_key__()` comes first, beside the class. Of plain objects the class and the attributes
    count, without those that begin with an underscore.

    Args:
        value: Anything.
        identify: What classes, functions and modules hash to; `CodeSnapshot.identify` reads each of
            them once for many values. By default they are read anew.

    Returns:
        A lowercase hex string of 64 characters.

    Raises:
        NoStableIdentityError: The value, or something in it, cannot be told apart elsewhere.

    Example:
        >>> hash_value({"a": 1, "b": (2, 3)}) == hash_value({"b": (2, 3), "a": 1})
        True
        >>> hash_value(1) == hash_value(True)
        False
    """
    return digest(b"value", encode(value, identify=identify or CodeSnapshot().identify)).hex()


def value_key(value: Any, identify: Identify | None = None) -> str:
    """Return the key of a value: its content where that is short, else what it hashes to.

    Args:
        value: Anything.
        identify: What classes and functions in it hash to.

    Raises:
        NoStableIdentityError: It cannot be told apart elsewhere.
    """
    leaf = LEAVES.get(type(value))
    if leaf is not None:
        content = leaf(value)
        if len(content) <= _SHORT:
            return "=" + content.hex()
    return hash_value(value, identify=identify)


def mark_of(value: Any) -> str | None:
    """Return a value's key, or None for what cannot change, or cannot be told apart.

    Args:
        value: Anything.
    """
    if type(value) in SOLID or _is_described(value):
        return None
    try:
        return value_key(value)
    except Exception:  # noqa: BLE001 - the value's own code ran, it may raise anything
        return None


def has_changed(value: Any, mark: str | None) -> bool:
    """Tell whether a value is not any more what it was.

    Args:
        value: Anything.
        mark: What `mark_of` has returned for it, or its key.
    """
    now = mark_of(value) if mark else None
    return now is not None and now != mark


def _is_described(value: Any) -> bool:
    """Whether a value counts by what made it: that has been taken down."""
    return hasattr(type(value), DESCRIBED)
