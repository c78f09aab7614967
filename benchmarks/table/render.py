"""The table: `benchmarks/results.md` from the figures that stand, with the reasons of `benchmarks/reasons.yaml`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from benchmarks.table.figures import Measured, Spread
from benchmarks.table.row import Figure, Row

ROUNDS = 5
"""That a figure should have, unless its row says otherwise."""
_HEAD = """# Results

Written by `make bench`; do not edit. Each figure is the median over rounds, and in brackets the smallest and largest:
in a round all programs of a row run one after the other on the same rows, and a ratio is made within its round.
Tokens are those of the rows, padding excluded. What the rows of this table compare: [README.md](README.md).

| row | figure | reach | measured | rounds | |
|---|---|---|---|---|---|
"""


def table(rows: Sequence[Row], measured: Mapping[str, Measured], reasons: Mapping[str, str]) -> str:
    """The whole page."""
    lines = [line for row in rows for line in _lines(row, measured.get(row.name))]
    machines = list(dict.fromkeys(measured[row.name].machine for row in rows if row.name in measured))
    parts = [
        _HEAD + "\n".join(lines),
        _notes(rows, measured),
        _why(rows, measured, reasons),
        _made(rows, measured, machines),
        "\n".join(["## The machines", "", *(f"{n}. {machine}" for n, machine in enumerate(machines, 1))]),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def spreads(row: Row, measured: Measured | None) -> Iterator[tuple[Figure, Spread | None]]:
    """Each figure of a row with what was measured of it, None if nothing was."""
    for figure in row.figures:
        yield figure, measured.figures.get(figure.name) if measured else None


def falls_short(figure: Figure, spread: Spread | None) -> bool:
    """Whether the median misses the reach; what was not measured falls short too."""
    return figure.reach is not None and not (spread and figure.reached(spread.median))


def _lines(row: Row, measured: Measured | None) -> Iterator[str]:
    for figure, spread in spreads(row, measured):
        sign = "<=" if figure.at_most else ">="
        reach = "" if figure.reach is None else f"{sign} {number(figure.reach)}"
        if spread is None:
            yield f"| {row.name} | {figure.name} | {reach} | not measured | 0 | {row.impossible} |"
            continue
        told = f"{number(spread.median)} ({number(spread.least)} to {number(spread.most)})"
        verdict = "" if figure.reach is None else _verdict(row, figure, spread)
        yield f"| {row.name} | {figure.name} | {reach} | {told} | {spread.rounds} | {verdict} |"


def _verdict(row: Row, figure: Figure, spread: Spread) -> str:
    """By the median; a few rounds, or some on the other side of the reach, are told with it."""
    said = ["short" if falls_short(figure, spread) else "reached"]
    if spread.rounds < (row.rounds or ROUNDS):
        said.append("few rounds")
    if figure.reached(spread.least) != figure.reached(spread.most):
        said.append("not in every round")
    return ", ".join(said)


def _notes(rows: Sequence[Row], measured: Mapping[str, Measured]) -> str:
    """What sides say of their figures, right under the table."""
    return "\n".join(
        f"- {row.name}, {side}: {note}."
        for row in rows
        if row.name in measured
        for side, note in measured[row.name].notes.items()
    )


def _why(rows: Sequence[Row], measured: Mapping[str, Measured], reasons: Mapping[str, str]) -> str:
    """Why rows fall short; a figure without a reason says so."""
    lines = []
    for row in rows:
        for figure, spread in spreads(row, measured.get(row.name)):
            if falls_short(figure, spread) and (spread or not row.impossible):
                written = reasons.get(f"{row.name}/{figure.name}", "no reason is written yet")
                why = written if spread else "not measured yet"
                lines.append(f"- **{row.name}, {figure.name}**: {' '.join(why.split())}")
    return "## What falls short, and why\n\n" + "\n".join(lines) if lines else ""


def _made(rows: Sequence[Row], measured: Mapping[str, Measured], machines: Sequence[str]) -> str:
    """With what each row was measured."""
    lines = []
    for row in rows:
        made = ""
        if found := measured.get(row.name):
            on = machines.index(found.machine) + 1
            under = [*(f"{name} {value}" for name, value in found.options.items()), *found.versions]
            with_ = f"; {', '.join(under)}" if under else ""
            made = f" Measured {found.at} at {found.commit} on machine {on}{with_}."
        lines.append(f"- **{row.name}**: {row.what}{made}")
    return "## The rows\n\n" + "\n".join(lines)


def number(value: float) -> str:
    """Three figures, or all that stand before the point."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
