"""The page of a run: what is said, and the template that says it."""

from __future__ import annotations

import base64
import hashlib
import os
import platform
from datetime import datetime
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

from hypernodes._extras import import_extra
from hypernodes.telemetry._report.graph import graph_section
from hypernodes.telemetry._report.names import INSIDE, Names
from hypernodes.telemetry._report.sections import (
    calls_section,
    faults_section,
    items_section,
    nodes_section,
    tiles,
)
from hypernodes.telemetry._report.timeline import timeline_section
from hypernodes.telemetry._report.words import LONGEST_NAME, message_of, shortened

if TYPE_CHECKING:
    from hypernodes.telemetry._report.record import Record

_LEAD: Final = 400
_STATUS: Final = {
    "completed": ("✓", "Completed"),
    "partly": ("!", "Completed with failures"),
    "failed": ("✕", "Failed"),
    "interrupted": ("■", "Interrupted"),
    "stopped": ("■", "Stopped early"),
}


def render(record: Record) -> str:
    """Return the page of a run that is over.

    Args:
        record: What was noted of it.
    """
    names = Names(record)
    status = record.status
    if status == "completed" and record.fault_counts:
        status = "partly"
    symbol, text = _STATUS[status]
    facts: dict[str, Any] = {
        "name": shortened(record.path[-1], LONGEST_NAME),
        "around": shortened(INSIDE.join(record.path[:-1]), LONGEST_NAME),
        "is_map": record.is_map,
        "status": {"key": status, "symbol": symbol, "text": text},
        "facts": _facts(record),
        "error": _error(record, names),
        "tiles": tiles(record, names),
        "graph": graph_section(record, names),
        "timeline": timeline_section(record, names),
        "nodes": nodes_section(record, names),
        "calls": calls_section(record, names),
        "items": items_section(record, names),
        "faults": faults_section(record, names),
        "writer": f"hypernodes {version('hypernodes')}, Python {platform.python_version()}",
    }
    return str(_template().render(facts))


def _facts(record: Record) -> list[tuple[str, str]]:
    started = datetime.fromtimestamp(record.epoch).astimezone()
    return [
        ("Started", f"{started:%d %b %Y, %H:%M:%S} {started.tzname() or ''}".strip()),
        *record.config,
        ("Driver", f"process {os.getpid()} on {platform.node()}"),
        ("Run", record.run_id),
    ]


def _error(record: Record, names: Names) -> dict[str, Any] | None:
    error = record.error
    if error is None or record.status == "stopped":
        return None
    first = next((f for f in record.faults if f.kind == type(error).__qualname__), None)
    known = first is not None and record.status == "failed"
    where = names.place(first.path, first.items) if first is not None and known else ""
    message = shortened(message_of(error), _LEAD)
    return {"kind": type(error).__qualname__, "message": message, "where": where}


@cache
def _template() -> Any:
    jinja2 = import_extra("jinja2", extra="telemetry", user="RunReport")
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    style, script = _asset("page.css"), _asset("page.js")
    environment.globals.update(
        style=_markup(style),
        script=_markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )
    return environment.from_string(_asset("page.html"))


def _markup(text: str) -> Any:
    markup = import_extra("markupsafe", extra="telemetry", user="RunReport").Markup
    return markup(text)


def _asset(name: str) -> str:
    return files(__package__ or "").joinpath(name).read_text(encoding="utf-8")
