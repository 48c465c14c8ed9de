"""Keyed checksums (BLAKE3): of small content at once, of large content by all cores.

Large content is cut into chunks of 1 MiB; its checksum is that of the chunks' checksums, each kind
under a key of its own. Threads take chunks from a common queue, the caller's among them: one that
is woken late delays nobody.
"""

from __future__ import annotations

import os
import struct
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from blake3 import blake3

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["Checksum"]

_CHUNK: Final = 1 << 20

# Bytes that are worth a thread more.
_SHARE: Final = 1 << 22


class Checksum:
    """Checksums that nobody can make without the key.

    Args:
        key: 32 bytes.
    """

    def __init__(self, key: bytes) -> None:
        self._all = blake3(key=key)
        self._chunk = blake3(key=blake3(b"chunk", key=key).digest())
        self._chunks = blake3(key=blake3(b"chunks", key=key).digest())

    def small(self, content: bytes) -> bytes:
        """Return the 32 bytes that stand for `content`."""
        hasher = self._all.copy()
        hasher.update(content)
        return hasher.digest()

    def large(self, name: bytes, pieces: Sequence[bytes | memoryview]) -> bytes:
        """Return the 32 bytes that stand for `name` and the pieces, however they are cut."""
        size = sum(map(len, pieces))
        chunks = _numbered(pieces)
        digests: dict[int, bytes] = {}
        lock = threading.Lock()

        def work() -> None:
            while True:
                with lock:
                    number, chunk = next(chunks, (0, None))
                if chunk is None:
                    return
                digests[number] = _of_parts(self._chunk, chunk)

        _with_help(work, helpers=min(_cores() - 1, size // _SHARE))
        ordered = b"".join(digests[number] for number in range(len(digests)))
        return _of_parts(self._chunks, [name, struct.pack("<Q", size), ordered])


def _of_parts(hasher: blake3, parts: Sequence[bytes | memoryview]) -> bytes:
    hasher = hasher.copy()
    for part in parts:
        hasher.update(part)
    return hasher.digest()


def _numbered(pieces: Sequence[bytes | memoryview]) -> Iterator[tuple[int, list[memoryview]]]:
    """Cut the pieces, one after the other, into chunks: each a list of parts of pieces."""
    chunk: list[memoryview] = []
    number, space = 0, _CHUNK
    for piece in pieces:
        rest = memoryview(piece)
        while rest:
            chunk.append(rest[:space])
            space -= len(chunk[-1])
            rest = rest[len(chunk[-1]) :]
            if not space:
                yield number, chunk
                chunk, number, space = [], number + 1, _CHUNK
    if chunk:
        yield number, chunk


def _with_help(work: Callable[[], None], *, helpers: int) -> None:
    """Do `work` in this thread and beside it; an end of the interpreter leaves it to this one."""
    threads = [threading.Thread(target=work, name="hypernodes-checksum") for _ in range(helpers)]
    started = []
    with suppress(RuntimeError):
        for thread in threads:
            thread.start()
            started.append(thread)
    work()
    for thread in started:
        thread.join()


def _cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1
