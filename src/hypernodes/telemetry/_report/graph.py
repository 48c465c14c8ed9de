"""The graph on the page: its boxes and lines, and what stands in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from hypernodes._nested import PipelineNode
from hypernodes.telemetry._report.record import NodeStats
from hypernodes.telemetry._report.words import counted, duration, share

if TYPE_CHECKING:
    from hypernodes.telemetry._report.drawing import Box
    from hypernodes.telemetry._report.names import Names
    from hypernodes.telemetry._report.record import Record

_HEAT: Final = (0.02, 0.1, 0.3)
"""Shares of the work, in which the colours change."""
_MOST_CHIPS: Final = 2
_NOTHING: Final = NodeStats()


def graph_section(record: Record, names: Names) -> dict[str, Any]:
    """Return the graph."""
    picture = names.picture
    if picture is None:
        note = f"The graph has {counted(len(names.keys), 'node')}: too many to draw."
        return {"boxes": [], "lines": [], "notes": [note], "width": 0, "height": 0}
    work = record.total.seconds
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
        "boxes": [
            {"number": numbers[box.key], **_box(box, record, names, work)} for box in picture.boxes
        ],
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
        parts.append(f"\N{MULTIPLICATION SIGN}{stats.calls:,}")
    return " · ".join(parts)


def _chips(stats: NodeStats) -> list[dict[str, str]]:
    chips = []
    if stats.failed:
        chips.append({"tone": "failed", "text": f"✕ {_several(stats.failed)}failed"})
    if stats.cached:
        chips.append({"tone": "cached", "text": f"✓ {_several(stats.cached)}cached"})
    if stats.retries and len(chips) < _MOST_CHIPS:
        again = counted(stats.retries, "retry", "retries")
        chips.append({"tone": "retried", "text": f"↻ {again}"})
    return chips


def _several(number: int) -> str:
    return f"{number:,} " if number > 1 else ""
