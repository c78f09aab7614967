"""The report as Markdown: the same blocks, charts as tables."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import assert_never

from tunewright.core.blocks import Bars, Block, Cell, Code, Lines, Mask, Media, Pairs, Reliability, Table, Text
from tunewright.core.words import titled
from tunewright.report import tables
from tunewright.report.contracts import Report

WIDEST = 160
"""Tables that would be wider than so many columns are not padded."""
_SPECIAL = re.compile(r"([\\`*\[\]~|$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))")
_MARK = re.compile(r"(#{1,6}|[-+])(\s|$)|=+$|-+$|>")  # starts a heading, list, rule or quote
_ITEM = re.compile(r"^(\d+)(?=[.)](\s|$))")  # starts a numbered list


def render_markdown(report: Report) -> str:
    """The whole report; equal reports give equal text."""
    parts = [f"# {escape(report.headline.title)}", f"Tunewright report of run {escape(report.name)}"]
    parts += [escape(paragraph) for paragraph in report.headline.paragraphs]
    if report.glance:
        parts.append("\n".join(f"- {escape(what)}: {escape(value)}" for what, value in report.glance))
    for section in report.sections:
        parts.append(f"## {escape(section.title)}")
        parts += [render_block(block) for block in section.blocks]
    return "\n\n".join(parts) + "\n"


def render_block(block: Block) -> str:
    """One block with its title and note."""
    parts = [f"### {escape(titled(block.title))}", _body(block), escape(block.note)]
    return "\n\n".join(part for part in parts if part)


def escape(text: str) -> str:
    """User text as plain Markdown text on one line: no markup of Markdown or HTML survives."""
    line = " ".join(text.split())
    line = _SPECIAL.sub(r"\\\1", line.replace("&", "&amp;").replace("<", "&lt;"))
    return f"\\{line}" if _MARK.match(line) else _ITEM.sub(r"\1\\", line)


def _body(block: Block) -> str:
    match block:
        case Text():
            return "\n\n".join(escape(paragraph) for paragraph in block.paragraphs)
        case Table():
            return _table(block.columns, block.rows)
        case Bars():
            return _table(*tables.bars_rows(block))
        case Lines():
            return _table(*tables.lines_rows(block))
        case Reliability():
            return _table(*tables.reliability_rows(block))
        case Pairs():
            rows = [[one.id, one.context, one.expected, one.base, one.tuned, one.note] for one in block.pairs]
            return _table(["Row", "Input", "Expected", "Base", "Tuned", "Note"], rows)
        case Mask():
            text = "".join(f"⟦{span.text}⟧" if span.trained else span.text for span in block.spans)
            return "What stands in ⟦ ⟧ is trained on.\n\n" + _fence(text)
        case Code():
            return _fence(block.code)
        case Media():
            return "\n".join(f"- {escape(item.get('caption', ''))} (see report.html)" for item in block.items)
        case _:
            assert_never(block)


def _table(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    if not rows:
        return "Nothing to show."
    right = tables.numeric(columns, rows)
    cells = [
        [escape(titled(column)) for column in columns],
        *([escape(tables.cell(one)) for one in row] for row in rows),
    ]
    widths = [max(3, *(len(line[k]) for line in cells if k < len(line))) for k in range(len(columns))]
    if sum(widths) + 3 * len(widths) + 1 > WIDEST:
        widths = [3] * len(widths)
    lines = [_line(line, widths, right) for line in cells]
    rule = [f"{'-' * (width - 1)}:" if side else "-" * width for width, side in zip(widths, right, strict=True)]
    return "\n".join([lines[0], _line(rule, widths, right), *lines[1:]])


def _line(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    """A row of a table, its cells one under another where a terminal shows the text as it is."""
    padded = [
        cell.rjust(width) if side else cell.ljust(width)
        for cell, width, side in zip(cells, widths, right, strict=False)
    ]
    return f"| {' | '.join([*padded, *cells[len(padded) :]])} |"


def _fence(text: str) -> str:
    """A code block whose fence is longer than any run of backticks inside."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{text.rstrip()}\n{fence}"
