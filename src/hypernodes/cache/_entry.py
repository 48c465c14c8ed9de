r"""Entries as bytes: values under a keyed checksum, verified before anything is unpickled.

An entry is, in this order:

- `hn2\n`, and the entry's name (32 bytes)
- a keyed checksum (32 bytes) of the name and of all that follows: the small kind for entries below
  64 KiB, else the large one
- when it was made (seconds since the epoch), the length of the pickle, the number of buffers
- the lengths of the buffers, then the pickle (protocol 5)
- the buffers (large arrays), each from a multiple of 64 bytes on, counted from the start

Numbers are little-endian, of 8 bytes; the number of buffers has 4. Where small entries without
buffers share a file, one follows the other, and of two with one name the later one counts; at last
come 8 bytes that say that there will be no more.
"""

from __future__ import annotations

import hashlib
import pickle
import re
import struct
from hmac import compare_digest
from importlib import import_module
from typing import Any, Final, NamedTuple

from hypernodes._handles import may_be_in
from hypernodes.abc import MISS
from hypernodes.cache._checksum import Checksum
from hypernodes.exceptions import SerializationError

__all__ = [
    "APART",
    "NO_MORE",
    "SHARDS",
    "BrokenEntryError",
    "EntryFacts",
    "Sealer",
    "address",
    "created",
    "entries_in",
    "holds",
    "is_entry",
    "names_in",
]

Bytes = bytes | memoryview

SHARDS: Final = {digit: number for number, digit in enumerate("0123456789abcdef")}
"""The directories of entries: the first letter of their names, and a number for each."""

_LENGTH: Final = 64
NO_MORE: Final = b"hn2 end\n"
"""The end of a file that entries share, once there will be no more of them."""

_MAGIC: Final = b"hn2\n"
_NEXT: Final = (_MAGIC, NO_MORE)
_FACTS: Final = struct.Struct("<dQI")
_MAGIC_END: Final = len(_MAGIC)
_NAME_END: Final = _MAGIC_END + 32
_DIGEST_END: Final = _NAME_END + 32
_FACTS_END: Final = _DIGEST_END + _FACTS.size
_ALIGNMENT: Final = 64

APART: Final = 1 << 16
"""Smaller buffers, in bytes, travel inside the pickle; smaller entries have the small checksum."""

is_entry: Final = re.compile(r"[0-9a-f]{63}").fullmatch
"""Tells the names of files that entries have in their directories."""

_from_hex: Final = bytes.fromhex
_facts: Final = _FACTS.unpack_from
# Whatever is unpickled here was sealed with our key.
_loads: Final = pickle.loads


class EntryFacts(NamedTuple):
    """What a store knows of an entry without reading it.

    Attributes:
        name: As `address` makes it.
        size: In bytes.
        made: When, in seconds since the epoch; None if the store does not know.
    """

    name: str
    size: int
    made: float | None


class BrokenEntryError(Exception):
    """Bytes that are no entry of that name, or a value that cannot be brought back."""


def address(signature: str) -> str:
    """Return the name of an entry, 64 hexadecimal digits: such a signature is its own name."""
    try:
        plain = len(signature) == _LENGTH and len(_from_hex(signature)) == _LENGTH // 2
        if plain and signature[0] in SHARDS:
            return signature
    except ValueError:
        pass
    return hashlib.blake2b(signature.encode("utf-8", "surrogatepass"), digest_size=32).hexdigest()


def created(name: str, content: Bytes) -> float:
    """Return when an entry says it was made, in seconds since the epoch; 0 if it is none.

    Args:
        name: Of the entry.
        content: Of its file.
    """
    try:
        entry, _ = _found(_from_hex(name), content)
    except BrokenEntryError:
        return 0.0
    seconds: float = _facts(entry, _DIGEST_END)[0]
    return seconds


def names_in(content: bytes) -> list[str]:
    """Return the names of the entries that share a file; nothing is verified."""
    names = []
    start = 0
    while content.startswith(_MAGIC, start) and len(content) >= start + _FACTS_END:
        names.append(content[start + _MAGIC_END : start + _NAME_END].hex())
        start = _end(content, start)
    return names


def holds(content: bytes, name: str) -> bool:
    """Say whether a small file seems to hold the entry of that name."""
    return _MAGIC + _from_hex(name) in content


def entries_in(content: bytes) -> int:
    """Return how many entries a file holds; too many where one looks as if it held others."""
    return content.count(_MAGIC)


def _end(content: bytes, start: int) -> int:
    """Return where an entry without buffers ends, as it says itself."""
    length: int = _facts(content, start + _DIGEST_END)[1]
    return start + _FACTS_END + length


def _found(name: bytes, content: Bytes) -> tuple[Bytes, Bytes]:
    """Return the entry of that name in a file, as far as can be told without its checksum.

    Returns:
        All through the pickle, in memory that nobody else can change, and the rest.

    Raises:
        BrokenEntryError: There is none.
    """
    head = _MAGIC + name
    if not isinstance(content, bytes):  # too large to be shared
        if len(content) < _FACTS_END or content[:_NAME_END] != head:
            raise BrokenEntryError("it is no entry of that name, or of another version")
        return _copied(head, content)
    start = content.rfind(head)
    if start < 0 or len(content) < start + _FACTS_END:
        raise BrokenEntryError("it is no entry of that name, or of another version")
    end = _end(content, start)
    if start == 0 and end >= len(content):
        return content, b""
    if end != len(content) and not content.startswith(_NEXT, end):
        raise BrokenEntryError("it is cut off, or followed by something else")
    return content[start:end], b""


def _copied(head: bytes, content: memoryview) -> tuple[memoryview, memoryview]:
    """Copy an entry through its pickle, under the name that it has to have; leave the rest."""
    facts = bytes(content[_NAME_END:_FACTS_END])
    _, length, count = _facts(facts, _DIGEST_END - _NAME_END)
    end = _FACTS_END + 8 * count + length
    return memoryview(b"".join((head, facts, content[_FACTS_END:end]))), content[end:]


class Sealer:
    """Turns values into entries and back, under one key.

    Args:
        key: 32 bytes.
    """

    def __init__(self, key: bytes) -> None:
        self._checksum = Checksum(key)

    def seal(self, name: str, value: Any, now: float) -> list[Bytes]:
        """Return the pieces that make the entry, in order.

        Args:
            name: Of the entry, as `address` makes it.
            value: What to store.
            now: Seconds since the epoch.

        Raises:
            SerializationError: The value cannot be pickled.
        """
        buffers: list[memoryview] = []
        stream = _pickled(value, buffers)
        if not buffers and len(stream) + _FACTS_END < APART:
            content = _FACTS.pack(now, len(stream), 0) + stream
            raw = _from_hex(name)
            return [_MAGIC + raw + self._checksum.small(raw + content) + content]
        raw, pieces = _from_hex(name), _laid_out(now, stream, buffers)
        return [_MAGIC + raw + self._checksum.large(raw, pieces), *pieces]

    def unseal(self, name: str, content: Bytes, *, since: float = 0.0) -> Any:
        """Return the value of an entry, or `MISS` if it was made before `since`.

        Args:
            name: What was asked for.
            content: All of its file; arrays share its memory, and are writable if it is. It may
                be mapped if nobody else can write to the file.
            since: Seconds since the epoch.

        Raises:
            BrokenEntryError: It is no entry of that name, made with this key; nothing was
                unpickled. Or it is one, and unpickling fails.
        """
        head, buffers = self.verify(name, content)
        made, length, count = _facts(head, _DIGEST_END)
        if made < since:
            return MISS
        try:
            if not count:
                return _loads(head[_FACTS_END:])
            return _loaded(head, buffers, length, count)
        except (Exception, SystemExit) as error:
            raise BrokenEntryError(f"its value cannot be loaded: {error!r}") from error

    def verify(self, name: str, content: Bytes) -> tuple[Bytes, Bytes]:
        """Return the entry of that name in a file: all through the pickle, and the buffers.

        What is unpickled is in memory of this process's own before it is looked at: `content` may
        be mapped, and change with the file.

        Raises:
            BrokenEntryError: There is none that is whole and made with this key.
        """
        raw = _from_hex(name)
        entry, buffers = _found(raw, content)
        if len(entry) + len(buffers) < APART:
            digest = self._checksum.small(raw + entry[_DIGEST_END:])
        else:
            digest = self._checksum.large(raw, [entry[_DIGEST_END:], buffers])
        if not compare_digest(digest, entry[_NAME_END:_DIGEST_END]):
            raise BrokenEntryError("its checksum is wrong")
        return entry, buffers


def _pickled(value: Any, buffers: list[memoryview]) -> bytes:
    def keep_inside(buffer: pickle.PickleBuffer) -> bool:
        content = buffer.raw()
        if content.nbytes < APART:
            return True
        buffers.append(content)
        return False

    try:
        stream = pickle.dumps(value, protocol=5, buffer_callback=keep_inside)
        if may_be_in(stream):
            import_module("hypernodes._apart").check(value)  # which few programs need
    except Exception as error:
        kind = type(value).__qualname__
        raise SerializationError(f"this {kind} cannot be pickled: {error}") from error
    return stream


def _laid_out(now: float, stream: bytes, buffers: list[memoryview]) -> list[Bytes]:
    """Return what follows the checksum: the facts, the pickle, and aligned buffers."""
    lengths = struct.pack(f"<{len(buffers)}Q", *(buffer.nbytes for buffer in buffers))
    head = _FACTS.pack(now, len(stream), len(buffers)) + lengths + stream
    pieces: list[Bytes] = [head]
    end = _DIGEST_END + len(head)
    for buffer in buffers:
        padding = -end % _ALIGNMENT
        pieces += (bytes(padding), buffer)
        end += padding + buffer.nbytes
    return pieces


def _loaded(head: Bytes, content: Bytes, length: int, count: int) -> Any:
    """Unpickle a verified entry whose arrays lie beside the pickle."""
    start = _FACTS_END + 8 * count
    first = end = start + length
    buffers = []
    for size in struct.unpack_from(f"<{count}Q", head, _FACTS_END):
        end += -end % _ALIGNMENT
        buffers.append(content[end - first : end - first + size])
        end += size
    return _loads(head[start:], buffers=buffers)
