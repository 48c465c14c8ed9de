"""What entries were made from: the last records of each node, one file for each node.

A file is only ever added to, and set aside when it is large; the one that was set aside before then
goes. So looking for the nearest earlier entry costs the same however many there are.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hypernodes.abc import EntryRecord
from hypernodes.cache._files import append

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from hypernodes.cache._files import Writer

__all__ = ["History", "by_node", "file_name", "from_lines", "is_note", "to_line"]

# A file that is larger, in bytes, is set aside.
_LARGEST: Final = 1 << 19

is_note: Final = re.compile(r"[0-9a-f]{32}(\.1)?").fullmatch
"""Tells the names of files that records are in."""

_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=True).encode


class History:
    """The records of one cache.

    Args:
        room: The directory of their files.
        writer: Makes them.
    """

    def __init__(self, room: str, writer: Writer) -> None:
        self._room = room
        self._writer = writer
        self._lock = threading.Lock()

    def note(self, records: Iterable[EntryRecord]) -> None:
        """Add records.

        Raises:
            OSError: They cannot be written.
        """
        for node, of_node in by_node(records).items():
            path = self._path(node)
            content = b"".join(map(to_line, of_node))
            with self._lock:
                self._add(path, content)

    def _add(self, path: str, content: bytes) -> None:
        try:
            size = append(path, content, self._writer.file_mode)
        except FileNotFoundError:
            size = self._writer.write(path, [content], time.time_ns(), grows=True)
        # Another process may just have set it aside.
        if size > _LARGEST and os.stat(path).st_size > _LARGEST:
            os.replace(path, f"{path}.1")

    def records(self, node: str) -> list[EntryRecord]:
        """Return the last records of `node`, newest first."""
        path = self._path(node)
        found = [*_read(Path(f"{path}.1")), *_read(Path(path))]
        return [record for record in reversed(found) if record.node == node]

    def clear(self) -> None:
        """Remove all records.

        Raises:
            OSError: They cannot be removed.
        """
        for path in Path(self._room).glob("*"):
            if is_note(path.name):
                path.unlink(missing_ok=True)

    def every(self) -> Iterator[EntryRecord]:
        """Yield the last records of all nodes."""
        for path in filter(lambda path: is_note(path.name), Path(self._room).glob("*")):
            yield from _read(path)

    def _path(self, node: str) -> str:
        return f"{self._room}/{file_name(node)}"


def file_name(node: str) -> str:
    """Return a name for the file of a node."""
    return hashlib.blake2b(node.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def by_node(records: Iterable[EntryRecord]) -> dict[str, list[EntryRecord]]:
    """Sort records by their nodes, otherwise in their order."""
    sorted_in: dict[str, list[EntryRecord]] = {}
    for record in records:
        sorted_in.setdefault(record.node, []).append(record)
    return sorted_in


def to_line(record: EntryRecord) -> bytes:
    """Return a record as a line."""
    return (
        _encode((record.node, record.signature, dict(record.parts), record.time)).encode() + b"\n"
    )


def from_lines(content: bytes) -> list[EntryRecord]:
    """Return the records in `content`, in their order, without what is damaged."""
    records = []
    for line in content.splitlines():
        with suppress(ValueError, TypeError):
            records.append(_from_facts(*json.loads(line)))
    return records


def _from_facts(node: Any, signature: Any, parts: Any, made: Any) -> EntryRecord:
    texts = [node, signature, *parts.keys(), *parts.values()] if isinstance(parts, dict) else [None]
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("these are no facts of an entry")
    return EntryRecord(node, signature, parts, float(made))


def _read(path: Path) -> list[EntryRecord]:
    try:
        return from_lines(path.read_bytes())
    except OSError:
        return []
