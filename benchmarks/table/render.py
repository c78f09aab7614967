"""The table: `benchmarks/results.md` from what was kept, with the reasons of `benchmarks/reasons.yaml`."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.table.row import Figure, Round, Row

Measured = Mapping[str, tuple[Sequence[Round], Mapping[str, Any]]]
"""Row name -> its rounds, and the last kept line of them."""

_HEAD = """# Results

Written by `make bench`; do not edit. Each figure is the median over rounds, and in brackets the smallest and largest:
in a round all programs of a row run one after the other on the same rows, and a ratio is made within its round.
Tokens are those of the rows, padding excluded. What the rows of this table compare: [README.md](README.md).

Machine: {machine}.

| row | figure | reach | measured | rounds | |
|---|---|---|---|---|---|
"""


def table(rows: Sequence[Row], measured: Measured, reasons: Mapping[str, str], machine: str) -> str:
    """The whole page."""
    lines = [line for row in rows for line in _lines(row, *measured[row.name])]
    parts = [_HEAD.format(machine=machine) + "\n".join(lines), _why(rows, measured, reasons), _made(rows, measured)]
    return "\n\n".join(part for part in parts if part) + "\n"


def figures(row: Row, rounds: Sequence[Round]) -> Iterator[tuple[Figure, list[float]]]:
    """Each figure of a row with its values; none for one that the rounds cannot give."""
    for figure in row.figures:
        yield figure, figure.values(rounds) if rounds else []


def falls_short(figure: Figure, values: Sequence[float]) -> bool:
    """Whether the median misses the reach; what was not measured falls short too."""
    return figure.reach is not None and not (values and figure.reached(statistics.median(values)))


def _lines(row: Row, rounds: Sequence[Round], last: Mapping[str, Any]) -> Iterator[str]:
    for figure, values in figures(row, rounds):
        sign = "<=" if figure.at_most else ">="
        reach = "" if figure.reach is None else f"{sign} {number(figure.reach)}"
        if not values:
            yield f"| {row.name} | {figure.name} | {reach} | not measured | 0 | {row.impossible} |"
            continue
        spread = f"{number(statistics.median(values))} ({number(min(values))} to {number(max(values))})"
        verdict = "" if figure.reach is None else "short" if falls_short(figure, values) else "reached"
        yield f"| {row.name} | {figure.name} | {reach} | {spread} | {len(values)} | {verdict} |"


def _why(rows: Sequence[Row], measured: Measured, reasons: Mapping[str, str]) -> str:
    """Why rows fall short; a figure without a reason says so."""
    lines = []
    for row in rows:
        for figure, values in figures(row, measured[row.name][0]):
            if falls_short(figure, values) and not row.impossible:
                unknown = "no reason is written yet" if values else "not measured yet"
                why = reasons.get(f"{row.name}/{figure.name}", unknown)
                lines.append(f"- **{row.name}, {figure.name}**: {' '.join(why.split())}")
    return "## What falls short, and why\n\n" + "\n".join(lines) if lines else ""


def _made(rows: Sequence[Row], measured: Measured) -> str:
    """With what each row was measured."""
    lines = []
    for row in rows:
        rounds, last = measured[row.name]
        if rounds:
            versions = {f"{k} {v}" for one in rounds for r in one.values() for k, v in r.get("versions", {}).items()}
            made = f"{row.what} Measured {last['at']} at {last['commit']}; {', '.join(sorted(versions))}."
            lines.append(f"- **{row.name}**: {made}")
        else:
            lines.append(f"- **{row.name}**: {row.what}")
    return "## The rows\n\n" + "\n".join(lines)


def number(value: float) -> str:
    """Three figures, or all that stand before the point."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
