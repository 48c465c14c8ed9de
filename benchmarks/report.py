"""Tables: what was measured, against plain Python and against the limits."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from benchmarks.peers import OURS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from benchmarks.arena import Result

COLUMNS = ("size", "contender", "median", "min", "plain", "over plain", "(min)", "ratio", "limit")


@dataclass(frozen=True)
class Limit:
    """An upper bound for one figure.

    Args:
        value: In the unit of the table.
        of: Which figure it bounds: the `total`, what is `over` plain Python, or the `ratio` to it.
    """

    value: float
    of: Literal["total", "over", "ratio"] = "over"

    def text(self) -> str:
        """Return the limit as the table shows it."""
        return f"{self.value:g} {'' if self.of == 'total' else self.of}".strip()


@dataclass
class Row:
    """One contender at one size, in the unit of its table; None where there is no figure."""

    size: str
    contender: str
    median: float | None = None
    least: float | None = None
    plain: float | None = None
    over: float | None = None
    least_over: float | None = None
    ratio: float | None = None
    limit: str = ""
    verdict: str = ""
    note: str = ""
    samples: int = 0

    def cells(self) -> list[str]:
        """Return the row as text, without its verdict."""
        figures = (self.median, self.least, self.plain, self.over, self.least_over, self.ratio)
        return [self.size, self.contender, *map(figure, figures), self.limit]


@dataclass
class Table:
    """Rows that share a unit, and remarks to read them by."""

    name: str
    title: str
    unit: str
    rows: list[Row] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def add(
        self,
        size: str,
        results: Iterable[Result],
        *,
        factor: float = 1.0,
        limit: Limit | dict[str, Limit] | None = None,
    ) -> None:
        """Add a row for each result.

        Args:
            size: The first column.
            results: Of one race.
            factor: From seconds per call to the unit of the table.
            limit: For all of hypernodes' rows, or for those of the contenders named.
        """
        for result in results:
            bound = limit.get(result.key) if isinstance(limit, dict) else limit
            self.rows.append(row_of(size, result, factor, bound if result.key in OURS else None))

    def as_dict(self) -> dict[str, Any]:
        """Return the table as data for JSON."""
        return asdict(self)

    def text(self) -> str:
        """Return the table as lines to print."""
        lines = [[*row.cells(), f"{row.verdict} {row.note}".strip()] for row in self.rows]
        shown = [*COLUMNS, ""]
        widths = [max(map(len, column)) for column in zip(shown, *lines, strict=True)]
        body = [aligned(line, widths) for line in (shown, *lines)]
        rule = "-" * max(map(len, body))
        parts = [f"{self.name}: {self.title} [{self.unit}]", rule, body[0], rule]
        return "\n".join([*parts, *blocks(body[1:], self.rows), *self.remarks, ""])


def row_of(size: str, result: Result, factor: float, limit: Limit | None) -> Row:
    """Turn the samples of `result` into a row, judged by `limit`."""
    row = Row(size, result.title, note=result.note, samples=len(result.samples))
    if limit:
        row.limit = limit.text()
    if not result.samples:
        if limit:
            row.verdict = "over"
        return row
    row.median, row.least = result.median() * factor, result.least() * factor
    if "plain" in result.samples[0]:
        row.plain = result.median("plain") * factor
        row.over, row.least_over = result.over() * factor, result.least_over() * factor
        row.ratio = row.median / row.plain
    if limit:
        judge(row, limit)
    return row


def judge(row: Row, limit: Limit) -> None:
    """Write into `row` whether its median is within `limit`."""
    value = {"total": row.median, "over": row.over, "ratio": row.ratio}[limit.of]
    least = {"total": row.least, "over": row.least_over, "ratio": None}[limit.of]
    row.verdict = "pass" if value is not None and value <= limit.value else "over"
    if row.verdict == "over" and least is not None and least <= limit.value:
        row.note = "(the min passes: noise?)"


def figure(value: float | None) -> str:
    """Return a number with as many digits as are worth reading."""
    if value is None:
        return "-"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Return one line: two columns of text, numbers to the right, and the verdict."""
    texts = [cell.ljust(width) for cell, width in zip(cells[:2], widths[:2], strict=True)]
    numbers = [cell.rjust(width) for cell, width in zip(cells[2:-1], widths[2:-1], strict=True)]
    return "  ".join([*texts, *numbers, cells[-1]]).rstrip()


def blocks(lines: Sequence[str], rows: Sequence[Row]) -> list[str]:
    """Put an empty line where the size changes."""
    shown: list[str] = []
    for number, line in enumerate(lines):
        if number and rows[number].size != rows[number - 1].size:
            shown.append("")
        shown.append(line)
    return shown


def sentence(row: Row, unit: str) -> str:
    """Return the figures of a row in words."""
    if row.median is None and row.ratio is None:
        return row.note
    over = f", {figure(row.over)} over plain" if row.over is not None else ""
    ratio = f", ratio {figure(row.ratio)}" if row.over is None else ""
    return f"{figure(row.median)} {unit}{over}{ratio}, limit {row.limit} {row.note}".strip()


def failed(tables: Iterable[Table]) -> list[str]:
    """Return the rows over their limits, one line each."""
    return [
        f"{table.name} {row.size}, {row.contender}: {sentence(row, table.unit)}"
        for table in tables
        for row in table.rows
        if row.verdict == "over"
    ]
