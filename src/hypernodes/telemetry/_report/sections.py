"""What the sections of the page say, in words and figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from hypernodes._nested import PipelineNode
from hypernodes.telemetry._report.record import NodeStats
from hypernodes.telemetry._report.words import counted, duration, share

if TYPE_CHECKING:
    from hypernodes.telemetry._report.drawing import Box
    from hypernodes.telemetry._report.names import Names
    from hypernodes.telemetry._report.record import Fault, Record

MOST_ROWS: Final = 500

_NOTHING: Final = NodeStats()
_HEAT: Final = (0.02, 0.1, 0.3)
"""Shares of the work, in which the colours of the graph change."""


def total(record: Record) -> NodeStats:
    """Return the figures of all nodes together."""
    whole = _NOTHING
    for stats in record.nodes.values():
        whole = whole.plus(stats)
    return whole


def tiles(record: Record) -> list[dict[str, str]]:
    """Return the headline figures."""
    whole, seconds = total(record), record.seconds
    at_once = whole.seconds / seconds if seconds else 0.0
    called = sum(1 for stats in record.nodes.values() if stats.calls or stats.cached)
    found = [
        _tile("Duration", duration(seconds), _work(whole.seconds, at_once)),
        _tile("Nodes", f"{called:,}", counted(whole.calls, "call")),
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


def _tile(label: str, value: str, note: str, tone: str = "") -> dict[str, str]:
    return {"label": label, "value": value, "note": note, "tone": tone}


def _work(seconds: float, at_once: float) -> str:
    return f"{duration(seconds)} of work, {at_once:.1f} at once" if seconds else "no work"


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


# ---------------------------------------------------------------- the graph


def graph_section(record: Record, names: Names) -> dict[str, Any]:
    """Return the graph."""
    picture = names.picture
    if picture is None:
        note = f"The graph has {counted(len(names.keys), 'node')}: too many to draw."
        return {"boxes": [], "lines": [], "notes": [note], "width": 0, "height": 0}
    work = total(record).seconds
    notes = []
    if picture.closed:
        what = counted(picture.closed, "pipeline")
        notes.append(f"{what} inside not opened, for there would be too many boxes.")
    if any(stats is None for stats in map(record.nodes.get, picture.leaves)):
        notes.append(
            "“no calls”: not needed for what was asked for, not reached, or run under a config "
            "that this report is no part of."
        )
    numbers = {box.key: number for number, box in enumerate(picture.boxes)}
    return {
        "boxes": [_box(box, record, names, work) for box in picture.boxes],
        "lines": [
            {"path": n.path, "source": numbers[n.source], "target": numbers[n.target]}
            for n in picture.lines
        ],
        "width": round(picture.width, 1),
        "height": round(picture.height, 1),
        "notes": notes,
    }


def _box(box: Box, record: Record, names: Names, work: float) -> dict[str, Any]:
    stats = _stats_of(box, record)
    part = stats.seconds / work if work else 0.0
    is_called = bool(stats.calls or stats.cached or stats.failed or stats.cancelled)
    level = sum(part >= limit for limit in _HEAT) + 1 if stats.calls else 0
    return {
        "x": round(box.x, 1),
        "y": round(box.y, 1),
        "width": box.width,
        "height": box.height,
        "name": box.name,
        "is_frame": box.is_frame,
        "is_nested": isinstance(box.node, PipelineNode),
        "node": names.number(box.key),
        "level": 0 if box.is_frame else level,
        "percent": round(100 * min(part, 1.0), 1),
        "text": _box_text(box, record, stats, work) if is_called else "no calls",
        "is_called": is_called,
        "chips": _chips(stats),
        "signature": f"{', '.join(box.node.root_args)} → {', '.join(box.node.output_names)}",
    }


def _stats_of(box: Box, record: Record) -> NodeStats:
    """Return the figures of a node; of a pipeline inside, those of all its nodes."""
    if not isinstance(box.node, PipelineNode):
        return record.nodes.get(box.key, _NOTHING)
    whole, path = _NOTHING, box.key[0]
    for (other, _), stats in record.nodes.items():
        if len(other) > len(path) and other[: len(path)] == path:
            whole = whole.plus(stats)
    return whole


def _box_text(box: Box, record: Record, stats: NodeStats, work: float) -> str:
    if not stats.calls:
        return "from the cache" if stats.cached else "given up"
    parts = [duration(stats.seconds), share(stats.seconds, work)]
    if isinstance(box.node, PipelineNode):
        runs = record.runs.get(box.key[0])
        maps = "mapped" if box.node.map_over else ""
        parts += [maps] if maps else []
        parts += [counted(runs.runs, "run")] if runs is not None and runs.runs > 1 else []
    elif stats.calls > 1:
        parts.append(counted(stats.calls, "call"))
    return " · ".join(parts)


def _chips(stats: NodeStats) -> list[dict[str, str]]:
    chips = []
    if stats.failed:
        chips.append({"tone": "failed", "text": f"✕ {stats.failed:,} failed"})
    if stats.cached:
        chips.append({"tone": "cached", "text": f"✓ {stats.cached:,} cached"})
    if stats.retries and len(chips) < 2:  # noqa: PLR2004 - as many as fit on a box
        again = counted(stats.retries, "retry", "retries")
        chips.append({"tone": "retried", "text": f"↻ {again}"})
    return chips


# ---------------------------------------------------------------- the tables


def nodes_section(record: Record, names: Names) -> dict[str, Any]:
    """Return the table of nodes, the slowest first."""
    work = total(record).seconds
    rows = []
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
    calls = total(record).calls
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
    return {"rows": rows, "notes": _left_out(calls, len(rows), "call")}


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
    return {"rows": rows, "notes": _left_out(count, len(rows), "item")}


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
        "item_inputs": fault.item_inputs,
    }
