"""The command line: `python -m benchmarks [--only NAME ...] [--quick] [--json FILE] [--check]`."""

from __future__ import annotations

import argparse
import json
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from benchmarks import (
    build,
    caches,
    caching,
    chains,
    coroutines,
    fan,
    filled,
    imports,
    latency,
    maps,
    memory,
    processes,
    threads,
)
from benchmarks.arena import FULL, QUICK, Arena
from benchmarks.peers import TITLES
from benchmarks.report import Table, failed

if TYPE_CHECKING:
    from collections.abc import Sequence

CASES = {
    "chains": chains.tables,
    "fan": fan.tables,
    "maps": maps.tables,
    "memory": memory.tables,
    "build": build.tables,
    "imports": imports.tables,
    "threads": threads.tables,
    "processes": processes.tables,
    "coroutines": coroutines.tables,
    "latency": latency.tables,
    "caches": caches.tables,
    "caching": caching.tables,
    "filled": filled.tables,
    "million": filled.million,
}
# Takes minutes: only where it is asked for by name.
LONG = ("million",)
SHOWN = (
    "hypernodes",
    "ancestor",
    "pipefunc",
    "hamilton",
    "joblib",
    "daglite",
    "diskcache",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks, print their tables, and return the exit status."""
    options = parsed(arguments)
    start = perf_counter()
    with Arena.opened(QUICK if options.quick else FULL) as arena:
        facts = versions(arena)
        print("   ".join(f"{name} {text}" for name, text in facts.items()), end="\n\n", flush=True)
        tables = []
        for name in options.only or [each for each in CASES if each not in LONG]:
            for table in CASES[name](arena, quick=options.quick):
                print(table.text(), flush=True)
                tables.append(table)
    return conclude(facts, tables, perf_counter() - start, options)


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=main.__doc__)
    parser.add_argument("--only", action="append", choices=CASES, help="one table; may be repeated")
    parser.add_argument("--quick", action="store_true", help="fewer samples and items")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to FILE")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a limit is exceeded")
    return parser.parse_args(arguments)


def versions(arena: Arena) -> dict[str, str]:
    """Return what is compared, and on what."""
    facts = {"Python": f"{platform.python_version()} ({platform.machine()})"}
    facts |= {TITLES[key].partition(",")[0]: arena.version(key) for key in SHOWN}
    return facts | {"pydantic": version("pydantic")}


def conclude(
    facts: dict[str, str], tables: Sequence[Table], seconds: float, options: argparse.Namespace
) -> int:
    """Say what is over its limit, write the JSON, and return the exit status."""
    over = failed(tables)
    print(f"{seconds:.0f} s. Over the limit: {len(over) or 'none'}", *over, sep="\n  ")
    if options.json:
        content: dict[str, Any] = {"versions": facts, "over": over}
        content["tables"] = [table.as_dict() for table in tables]
        options.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return int(bool(over) and options.check)


if __name__ == "__main__":
    sys.exit(main())
