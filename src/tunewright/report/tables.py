"""Charts as tables, for readers who cannot see them and for Markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tunewright.core.blocks import Bars, Cell, Lines, Reliability
from tunewright.core.words import figure, interval
from tunewright.report.charts import bar_value

ROWS = 13
"""At most so many points of a curve are listed."""
_FIGURE = r"[+−-]?[\d,]+(\.\d+)?(×10⁻?[⁰¹²³⁴⁵⁶⁷⁸⁹]+)?"
_NUMBER = re.compile(rf"{_FIGURE}( (to {_FIGURE}|\({_FIGURE} to {_FIGURE}\)|%|[a-zA-Z]{{1,8}}))?|–|not measured")

Rows = list[list[str]]


def _whole(value: float) -> int | float:
    return int(value) if value.is_integer() else value


def cell(value: Cell) -> str:
    """A table cell as text."""
    return value if isinstance(value, str) else figure(value)


def numeric(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> list[bool]:
    """Which columns hold nothing but figures, and are right-aligned."""
    sides = []
    for index in range(len(columns)):
        cells = [row[index] for row in rows if index < len(row)]
        names = index == 0 < len(columns) - 1  # what a row is of stands left, also where labels are numbers
        sides.append(
            not names
            and any(one != "" for one in cells)
            and all(not isinstance(one, str) or not one or bool(_NUMBER.fullmatch(one)) for one in cells)
        )
    return sides


def bars_rows(block: Bars) -> tuple[list[str], Rows]:
    """Columns and rows of a bar chart."""
    return ["", block.unit or "Value"], [[bar.label, bar_value(bar)] for bar in block.bars]


def lines_rows(block: Lines) -> tuple[list[str], Rows]:
    """A curve in at most ROWS points each, first and last included."""
    rows: Rows = []
    for line in block.lines:
        points = list(zip(line.x, line.y, strict=False))
        last = len(points) - 1
        picked = sorted({round(i * last / (ROWS - 1)) for i in range(ROWS)}) if last >= ROWS else range(last + 1)
        rows += [[line.name, figure(_whole(points[i][0])), figure(points[i][1])] for i in picked]
    return ["Series", block.x_label or "x", block.y_label or "y"], rows


def reliability_rows(block: Reliability) -> tuple[list[str], Rows]:
    """Bins of a reliability diagram."""
    rows = [
        [name, figure(one.confidence), figure(one.accuracy), interval(one.low, one.high), figure(one.count)]
        for name, bins in block.series.items() for one in bins
    ]  # fmt: skip
    return ["Model", block.x_label, block.y_label, "95 % interval", "Rows"], rows
