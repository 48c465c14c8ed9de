"""Bytes that only equal values share: leaves, tags and lengths, and digests of them."""

from __future__ import annotations

import functools
import importlib
import struct
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["LEAVES", "SCHEME", "buffer_leaf", "digest"]

# Another number, and nothing that was stored before is found again.
SCHEME: Final = b"hypernodes 1"

# What is longer, in bytes, goes in as a digest.
_LONG: Final = 512


def digest(tag: bytes, *parts: bytes) -> bytes:
    """Return 32 bytes that stand for `tag` and `parts`, in this order and with these borders."""
    lengths = struct.pack(f"<{len(parts) + 2}Q", len(parts), len(tag), *map(len, parts))
    return bytes(_blake3()(b"".join((SCHEME, lengths, tag, *parts))).digest())


def buffer_leaf(tag: bytes, content: Any) -> bytes:
    """Return the encoding of raw bytes; what is long is hashed where it lies.

    Args:
        tag: What the bytes are.
        content: Anything contiguous with the buffer protocol.
    """
    view = memoryview(content).cast("B")
    if view.nbytes < _LONG:
        return struct.pack("<Q", len(tag)) + tag + view
    hasher = _blake3()(SCHEME + tag)
    hasher.update(view)
    return b"%" + struct.pack("<QQ", len(tag), view.nbytes) + tag + bytes(hasher.digest())


@functools.cache
def _blake3() -> Callable[..., Any]:
    return importlib.import_module("blake3").blake3  # type: ignore[no-any-return]


def _integer(value: int) -> bytes:
    return b"i" + value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)


def _string(value: str) -> bytes:
    content = value.encode("utf-8", "surrogatepass")
    return b"s" + content if len(content) < _LONG else b"S" + buffer_leaf(b"", content)


LEAVES: Final[dict[type, Callable[[Any], bytes]]] = {
    type(None): lambda _: b"None",
    type(...): lambda _: b"...",
    type(NotImplemented): lambda _: b"NotImplemented",
    bool: lambda value: b"T" if value else b"F",
    int: _integer,
    float: lambda value: b"f" + struct.pack("<d", value),
    complex: lambda value: b"c" + struct.pack("<dd", value.real, value.imag),
    str: _string,
    bytes: lambda value: b"b" + buffer_leaf(b"", value),
    bytearray: lambda value: b"B" + buffer_leaf(b"", value),
}
