"""What a value hashes to: by content and by type, the same in every process, on every machine.

Its parts are encoded by the walk in `_walk`; the classes, functions and modules that it meets count
by their code, which `_code` reads.
"""

from __future__ import annotations

from typing import Any

from hypernodes.cache._code import CodeSnapshot
from hypernodes.cache._encoding import digest
from hypernodes.cache._parts import NoStableIdentityError
from hypernodes.cache._walk import Identify, encode

__all__ = ["NoStableIdentityError", "hash_value"]


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
