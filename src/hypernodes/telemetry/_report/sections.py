"""What the sections of the page say, in words and figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from hypernodes.telemetry._report.record import NodeStats
from hypernodes.telemetry._report.words import counted, duration, share, shortened

if TYPE_CHECKING:
    from hypernodes.telemetry._report.names import Names
    from hypernodes.telemetry._report.record import Fault, Record

MOST_ROWS: Final = 500
_LINE: Final = 160

_BESIDE: Final = 1.05
"""From here on there was work side by side."""
_NOTHING: Final = NodeStats()


def tiles(record: Record, names: Names) -> list[dict[str, str]]:
    """Return the headline figures."""
    whole, seconds = record.total, record.seconds
    at_once = whole.seconds / seconds if seconds else 0.0
    called = sum(1 for stats in record.nodes.values() if stats.calls or stats.cached)
    found = [
        _tile("Duration", duration(seconds), _work(whole.seconds, at_once)),
        _tile("Nodes", _of(called, len(names.keys)), counted(whole.calls, "call")),
    ]
    if record.is_map or record.items.done or record.items.failed:
        found.append(_items_tile(record))
    looked = whole.cached + whole.missed
    hits = f"{share(whole.cached, looked)} of lookups" if looked else "no cache was asked"
    found.append(_tile("Cached", f"{whole.cached:,}", hits, "cached" if whole.cached else ""))
    failed = sum(record.fault_counts.values())
    again = counted(whole.retries, "retry", "retries") if whole.retries else "no retries"
    found.append(_tile("Failed", f"{failed:,}", again, "failed" if failed else ""))
    return found


def _of(part: int, whole: int) -> str:
    return f"{part:,}" if part == whole else f"{part:,} of {whole:,}"


def _tile(label: str, value: str, note: str, tone: str = "") -> dict[str, str]:
    return {"label": label, "value": value, "note": note, "tone": tone}


def _work(seconds: float, at_once: float) -> str:
    if not seconds:
        return "no work"
    beside = f", {at_once:.1f} at once" if at_once >= _BESIDE else ""
    return f"{duration(seconds)} of work{beside}"


def _items_tile(record: Record) -> dict[str, str]:
    items = record.own_items if record.is_map else record.items
    count = items.done + items.failed + items.cancelled
    value = f"{items.done:,}"
    if record.is_map and record.count is not None and record.count != items.done:
        note = f"done of {record.count:,}"
    elif not record.is_map and count != items.done:
        note = f"done of {count:,}"
    else:
        note = "all done"
    return _tile("Items", value, f"{note}, {items.failed:,} failed" if items.failed else note)


# ---------------------------------------------------------------- the tables


def nodes_section(record: Record, names: Names) -> dict[str, Any]:
    """Return the table of nodes, the slowest first."""
    work = record.total.seconds
    rows: list[dict[str, Any]] = []
    for key in names.keys[:MOST_ROWS]:
        stats = record.nodes.get(key, _NOTHING)
        rows.append(
            {
                "node": names.number(key),
                "name": names.of(key),
                "stats": stats,
                "seconds": duration(stats.seconds) if stats.calls else "",
                "share": share(stats.seconds, work) if stats.calls else "",
                "percent": round(100 * stats.seconds / work, 1) if work else 0,
                "mean": duration(stats.seconds / stats.calls) if stats.calls else "",
                "mean_value": stats.seconds / stats.calls if stats.calls else 0,
                "longest": duration(stats.longest) if stats.calls else "",
            }
        )
    left_out = len(names.keys) - len(rows)
    notes = []
    if left_out:
        notes.append(f"{counted(left_out, 'node')} that took less time left out.")
    return {"rows": rows, "notes": notes, "has_retries": any(r["stats"].retries for r in rows)}


def calls_section(record: Record, names: Names) -> dict[str, Any] | None:
    """Return the table of the slowest calls; None where that of nodes says it all."""
    calls = record.total.calls
    if calls <= len(record.nodes):
        return None
    rows = [
        {
            "node": names.number(call.key),
            "name": names.of(call.key),
            "item": names.item(call.items).removeprefix("item "),
            "order": call.items[-1] if call.items else -1,
            "start": duration(call.start),
            "start_value": call.start,
            "seconds": duration(call.seconds),
            "seconds_value": call.seconds,
            "worker": " · ".join(names.worker(call.worker)),
            "has_failed": call.has_failed,
        }
        for call in record.slowest_calls.entries()
    ]
    return {
        "rows": rows,
        "notes": _left_out(calls, len(rows), "call"),
        "has_items": any(call["item"] for call in rows),
        "has_failed": any(call["has_failed"] for call in rows),
    }


def items_section(record: Record, names: Names) -> dict[str, Any] | None:
    """Return the table of the slowest items; None where there are none."""
    count = record.items.done + record.items.failed
    if not count:
        return None
    rows = [
        {
            "pipeline": names.path(item.path),
            "item": names.item(item.items).removeprefix("item "),
            "order": item.items[-1],
            "seconds": duration(item.seconds),
            "seconds_value": item.seconds,
            "inputs": item.inputs,
            "has_failed": item.has_failed,
        }
        for item in record.slowest_items.entries()
    ]
    return {
        "rows": rows,
        "notes": _left_out(count, len(rows), "item"),
        "has_pipelines": len({row["pipeline"] for row in rows}) > 1,
        "has_failed": any(row["has_failed"] for row in rows),
    }


def _left_out(count: int, shown: int, noun: str) -> list[str]:
    if count <= shown:
        return []
    return [f"The slowest {shown:,} of {counted(count, noun)}."]


# ---------------------------------------------------------------- failures


def faults_section(record: Record, names: Names) -> dict[str, Any] | None:
    """Return the failures; None where there are none."""
    count = sum(record.fault_counts.values())
    if not count:
        return None
    shown = len(record.faults)
    notes, counts = [], []
    if count > shown:
        notes.append(f"The first {shown:,} of {counted(count, 'failure')}; all, by kind:")
        ranked = record.fault_counts.most_common(MOST_ROWS)
        counts = [
            {"name": names.path(path), "kind": kind, "count": n} for (path, kind), n in ranked
        ]
    return {
        "rows": [_fault(fault, names) for fault in record.faults],
        "notes": notes,
        "counts": counts,
    }


def _fault(fault: Fault, names: Names) -> dict[str, Any]:
    return {
        "kind": fault.kind,
        "message": fault.message,
        "trace": fault.trace,
        "name": names.path(fault.path),
        "node": None if fault.key is None else names.number(fault.key),
        "item": names.item(fault.items),
        "start": duration(fault.start),
        "seconds": duration(fault.seconds),
        "attempt": fault.attempt,
        "worker": " · ".join(names.worker(fault.worker)),
        "inputs": fault.inputs,
        "item_inputs": () if fault.item_inputs == fault.inputs else fault.item_inputs,
        "line": shortened(fault.message.partition("\n")[0], _LINE),
    }
