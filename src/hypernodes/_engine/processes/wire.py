"""Messages on a socket: a length, then a pickle of plain values."""

from __future__ import annotations

import pickle
import struct
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

HEAD: Final = struct.Struct("<Q")
BLOCK: Final = 1 << 18


def frame(message: Any) -> bytes:
    """Return `message`, made of plain values, as bytes for the wire."""
    body = pickle.dumps(message, 5)
    return HEAD.pack(len(body)) + body


class Reader:
    """Puts messages together from what arrives."""

    def __init__(self) -> None:
        self._arrived = bytearray()

    def feed(self, block: bytes) -> Iterator[Any]:
        """Take what has arrived; yield the messages that are complete."""
        arrived = self._arrived
        arrived += block
        start = 0
        while len(arrived) - start >= HEAD.size:
            (size,) = HEAD.unpack_from(arrived, start)
            end = start + HEAD.size + size
            if len(arrived) < end:
                break
            message = pickle.loads(memoryview(arrived)[start + HEAD.size : end])  # noqa: S301 - own
            start = end
            yield message
        del arrived[:start]
