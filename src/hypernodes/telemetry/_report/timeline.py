"""The timeline on the page: lanes of workers, in per cent of the run."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Final

from hypernodes.telemetry._report.names import INSIDE
from hypernodes.telemetry._report.words import counted, duration, share

if TYPE_CHECKING:
    from hypernodes.telemetry._report.lanes import Block, Lane
    from hypernodes.telemetry._report.names import Names
    from hypernodes.telemetry._report.record import Record

COLOURS: Final = 6
"""So many nodes have a colour of their own: those that took longest."""
_TICKS: Final = 8
_LAST_TICK: Final = 0.9
"""What comes later has no room for its text."""
_NAMED: Final = 6.0
"""From this width on, in per cent of the run, a block has room for a name."""


def timeline_section(record: Record, names: Names) -> dict[str, Any]:
    """Return the timeline."""
    lanes = sorted(record.timeline.lanes.values(), key=lambda lane: _order(lane, names))
    whole = max([record.seconds, *(row[-1].end for lane in lanes for row in lane.rows if row)])
    whole = whole or 1e-9
    shown = [_lane(lane, whole, names) for lane in lanes]
    called = [key for key in names.keys if key in record.nodes and record.nodes[key].calls]
    coloured = called[:COLOURS]
    legend = [
        {"node": names.number(key), "name": names.of(key), "colour": number}
        for number, key in enumerate(coloured, 1)
    ]
    return {
        "lanes": shown,
        "ticks": _ticks(whole),
        "legend": legend,
        "others": " or ".join(_others(shown, has_more=len(called) > COLOURS)),
        "has_failed": any(stats.failed for stats in record.nodes.values()),
        "notes": _notes(record),
    }


def _others(lanes: list[dict[str, Any]], *, has_more: bool) -> list[str]:
    """Return what blocks without a colour of their own may be."""
    blocks = (block for lane in lanes for row in lane["rows"] for block in row)
    is_mixed = any(block["node"] is None for block in blocks)
    return ["other nodes"] * has_more + ["several nodes"] * is_mixed


def _order(lane: Lane, names: Names) -> tuple[bool, float]:
    process, _ = names.worker(lane.worker)
    return process != "driver", min((row[0].start for row in lane.rows if row), default=0.0)


def _lane(lane: Lane, whole: float, names: Names) -> dict[str, Any]:
    process, thread = names.worker(lane.worker)
    busy = f"{share(lane.busy, whole)} busy" if len(lane.rows) == 1 else duration(lane.busy)
    return {
        "process": process,
        "thread": thread,
        "text": f"{counted(lane.calls, 'call')}, {busy}",
        "rows": [[_block(block, whole, names) for block in row] for row in _packed(lane)],
    }


def _packed(lane: Lane) -> list[list[Block]]:
    """Return the blocks of a lane in as few rows as can be: each in the first that is free."""
    blocks = sorted((block for row in lane.rows for block in row), key=lambda block: block.start)
    rows: list[list[Block]] = []
    for block in blocks:
        row = next((row for row in rows if row[-1].end <= block.start), None)
        if row is None:
            rows.append([block])
        else:
            row.append(block)
    return rows


def _block(block: Block, whole: float, names: Names) -> dict[str, Any]:
    key: Any = block.key
    number = None if key is None else names.number(key)
    name = "several nodes" if key is None else names.of(key)
    width = 100 * (block.end - block.start) / whole
    calls = "" if block.calls == 1 else f"{counted(block.calls, 'call')}, "
    failed = f", {block.failed:,} failed" if block.failed else ""
    return {
        "left": f"{100 * max(block.start, 0.0) / whole:.3f}",
        "width": f"{width:.3f}",
        "node": number,
        "colour": 0 if number is None or number >= COLOURS else number + 1,
        "failed": bool(block.failed),
        "title": f"{name}: {calls}{duration(block.busy)} from {duration(block.start)}{failed}",
        "text": name.rpartition(INSIDE)[2] if width >= _NAMED and key is not None else "",
    }


def _ticks(whole: float) -> list[dict[str, str]]:
    step = _nice(whole / _TICKS)
    count = math.floor(whole * _LAST_TICK / step)
    return [
        {"left": f"{100 * n * step / whole:.3f}", "text": _tick(n * step)} for n in range(count + 1)
    ]


def _tick(seconds: float) -> str:
    return re.sub(r"\.0+ |(\.\d*?)0+ ", r"\1 ", duration(seconds))


def _nice(seconds: float) -> float:
    """Return the next round duration."""
    if seconds > 45:  # noqa: PLR2004 - from here on in minutes and hours
        rounds = (60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 43200, 86400)
        return float(next((r for r in rounds if r >= seconds), math.ceil(seconds / 86400) * 86400))
    power = 10.0 ** math.floor(math.log10(seconds))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= seconds * 0.999)


def _notes(record: Record) -> list[str]:
    timeline = record.timeline
    notes = []
    if timeline.grain:
        notes.append(
            f"There were too many calls to draw each: those of a worker that lie within "
            f"{duration(timeline.grain)} are drawn as one."
        )
    if timeline.others is not None:
        workers = counted(len(timeline.other_workers), "further worker")
        notes.append(
            f"{workers} without a lane: {counted(timeline.others.calls, 'call')}, "
            f"{duration(timeline.others.busy)}."
        )
    unseen = sum(lane.unseen for lane in timeline.lanes.values())
    if unseen:
        notes.append(f"{counted(unseen, 'call')} left out where too many overlapped.")
    if any(stats.cached for stats in record.nodes.values()):
        notes.append("What was found in the cache took no worker's time and is not drawn.")
    return notes
