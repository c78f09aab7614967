"""What stands in the table: of each row the newest figures, whatever machine they were measured on.

`benchmarks/results.json` is kept in the repository beside the page, so that measuring one row, or measuring on another
machine, loses none of the others.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.table.row import Round, Row


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure over the rounds that gave it."""

    median: float
    least: float
    most: float
    rounds: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of at least one value."""
        return cls(statistics.median(values), min(values), max(values), len(values))


@dataclass(frozen=True, slots=True)
class Measured:
    """The figures of a row by name, those that the rounds could give; and when, on what and with what."""

    at: str
    commit: str
    machine: str
    versions: tuple[str, ...]
    figures: Mapping[str, Spread]
    options: Mapping[str, str] = field(default_factory=dict)
    """Those of the row, as they were; empty in entries from before they were kept."""
    notes: Mapping[str, str] = field(default_factory=dict)
    """Side -> what a reader must know of its figures."""

    @classmethod
    def of(cls, row: Row, rounds: Sequence[Round], last: Mapping[str, Any], machine: str) -> Measured:
        """Of whole rounds, with the last kept line of them."""
        versions = {f"{k} {v}" for one in rounds for r in one.values() for k, v in r.get("versions", {}).items()}
        values = {figure.name: figure.values(rounds) for figure in row.figures}
        spreads = {name: Spread.of(found) for name, found in values.items() if found}
        options = {name: last["options"][name] for name in row.options if name in last.get("options", {})}
        notes = {side.name: side.note for side in row.sides if side.note}
        return cls(last["at"], last["commit"], machine, tuple(sorted(versions)), spreads, options, notes)


def read(path: Path) -> dict[str, Measured]:
    """Row name -> what stands; empty where nothing was measured yet."""
    if not path.is_file():
        return {}
    found = json.loads(path.read_text(encoding="utf-8"))
    return {name: _measured(one) for name, one in found.items()}


def write(path: Path, measured: Mapping[str, Measured]) -> None:
    """One file for all rows."""
    text = json.dumps({name: asdict(one) for name, one in measured.items()}, indent=1)
    path.write_text(text + "\n", encoding="utf-8")


def _measured(one: Mapping[str, Any]) -> Measured:
    spreads = {name: Spread(**spread) for name, spread in one["figures"].items()}
    return Measured(**{**one, "versions": tuple(one["versions"]), "figures": spreads})
