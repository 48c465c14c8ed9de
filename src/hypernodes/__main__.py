"""The command line: `hypernodes cache stats|list|clear|verify PATH`."""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING

from hypernodes.cache.disk import DiskCache
from hypernodes.cache.fsspec import FsspecCache
from hypernodes.exceptions import HyperNodesError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from hypernodes.cache._counts import SavedCounts
    from hypernodes.cache._entry import EntryFacts

__all__ = ["main"]

Store = DiskCache | FsspecCache


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says.

    Args:
        arguments: Without the name of the program; None for those that it was started with.

    Returns:
        The exit status: 0, 1 if entries are damaged, 2 if there is no cache.
    """
    options = _parsed(arguments)
    try:
        store = _store(options.path)
        if not store.exists():
            return _failed(f"there is no cache at {store.path}")
        status: int = options.run(store, options)
    except HyperNodesError as error:
        return _failed(str(error))
    except BrokenPipeError:  # whoever read along has seen enough
        sys.stderr.close()
        return 0
    return status


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="hypernodes", description="Look after caches.")
    cache = parser.add_subparsers(required=True, metavar="cache").add_parser(
        "cache", help="look at a cache, check it, empty it"
    )
    commands = cache.add_subparsers(required=True, metavar="stats|list|clear|verify")
    for name, run in _COMMANDS.items():
        command = commands.add_parser(name, help=run.__doc__)
        command.add_argument("path", help="a directory, or a URL for fsspec")
        command.set_defaults(run=run)
        if name == "list":
            command.add_argument("--limit", type=_number, metavar="N", help="only the newest N")
        if name == "verify":
            command.add_argument("--delete", action="store_true", help="remove what is damaged")
    return parser.parse_args(arguments)


def _number(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError(f"there are no {number} entries")
    return number


def _store(path: str) -> Store:
    return FsspecCache(path) if "://" in path else DiskCache(path)


def _stats(store: Store, _: argparse.Namespace) -> int:
    """Say how much a cache holds and how often it was hit."""
    entries = list(store.entries())
    sizes = [entry.size for entry in entries]
    times = [entry.made for entry in entries if entry.made is not None]
    facts = {"path": store.path, "entries": f"{len(entries):,}", "size": _size(sum(sizes))}
    if sizes:
        facts["largest"] = _size(max(sizes))
    if times:
        facts |= {"oldest": _age(min(times)), "newest": _age(max(times))}
    return _printed(_pairs(facts | _use(store.saved_counts())))


def _use(counts: SavedCounts | None) -> dict[str, str]:
    if counts is None:
        return {}
    asked = counts.hits + counts.misses
    share = f" ({counts.hits / asked:.0%})" if asked else ""
    return {"hits": f"{counts.hits:,}{share}", "misses": f"{counts.misses:,}"}


def _list(store: Store, options: argparse.Namespace) -> int:
    """List the entries, newest first: name, node, size, age, hits."""
    entries = sorted(store.entries(), key=lambda entry: entry.made or 0.0, reverse=True)
    nodes, counts = store.nodes(), store.saved_counts()
    return _printed(_rows(entries[: options.limit], nodes, counts))


def _rows(
    entries: Iterable[EntryFacts], nodes: dict[str, str], counts: SavedCounts | None
) -> Iterator[str]:
    yield f"{'entry':64}  {'size':>8}  {'age':>6}  {'hits':>6}  node"
    for entry in entries:
        hits = "-" if counts is None else f"{counts.of(entry.name):,}"
        age, size = _age(entry.made), _size(entry.size)
        yield f"{entry.name}  {size:>8}  {age:>6}  {hits:>6}  {nodes.get(entry.name, '-')}"


def _clear(store: Store, _: argparse.Namespace) -> int:
    """Remove all entries; the key stays."""
    count = sum(1 for _ in store.entries())
    store.clear()
    return _printed([f"{count:,} entries removed"])


def _verify(store: Store, options: argparse.Namespace) -> int:
    """Check the checksum of every entry; nothing is unpickled."""
    broken = 0
    for name, reason in store.broken():
        broken += 1
        _printed([f"{name}  {reason}"])
        if options.delete:
            store.remove(name)
    _printed([f"{broken:,} damaged {'entries removed' if options.delete else 'entries'}"])
    return int(bool(broken) and not options.delete)


_COMMANDS = {"stats": _stats, "list": _list, "clear": _clear, "verify": _verify}


def _pairs(facts: dict[str, str]) -> Iterator[str]:
    return (f"{name:8} {text}" for name, text in facts.items())


def _printed(lines: Iterable[str]) -> int:
    sys.stdout.writelines(f"{_printable(line)}\n" for line in lines)
    return 0


def _printable(text: str) -> str:
    """Return a text as the terminal can show it: names of nodes may hold anything."""
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return shown.encode(encoding, "backslashreplace").decode(encoding)


def _failed(message: str) -> int:
    sys.stderr.write(f"hypernodes: {_printable(message)}\n")
    return 2


def _size(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:  # noqa: PLR2004 - units are a thousand apart
            return f"{size:.4g} {unit}"
        size /= 1000
    return f"{size:.4g} TB"


def _age(made: float | None) -> str:
    if made is None:
        return "-"
    age = max(0.0, time.time() - made)
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if age >= length:
            return f"{age / length:.0f} {unit}"
    return f"{age:.0f} s"


if __name__ == "__main__":
    sys.exit(main())
