"""What a private run may show of its rows: counts that are public by agreement, and nothing of a single row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tunewright.core.blocks import Block
from tunewright.evaluate.contracts import Outcome

_FACTS = (
    "path", "format", "instruction", "files", "rows", "counts", "unit", "labels", "splits_made", "splits_given",
    "source", "licence", "consent", "use", "fingerprint",
)  # fmt: skip
_ENCODING = ("rows", "max_length")
_PER_ROW = ("pairs", "mask")
"""Kinds of blocks that show single rows."""
WITHHELD = (
    "Under privacy the run shows no row, no statistic of training rows beyond how many there are and were left out, "
    "and no training loss; figures on test rows are exact and stand outside the guarantee."
)


def public(data: Mapping[str, Any]) -> dict[str, Any]:
    """What of data.json may be kept."""
    return {
        "facts": {name: data["facts"][name] for name in _FACTS if name in data["facts"]},
        "encoding": {name: data["encoding"][name] for name in _ENCODING if name in data["encoding"]},
        "blocks": [],
        "withheld": WITHHELD,
    }


def without_rows(blocks: Sequence[Block]) -> list[Block]:
    """Blocks less those that show single rows."""
    return [block for block in blocks if block.kind not in _PER_ROW]


def nameless(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """The same outcomes with units that are numbers, given in order: a unit's name may be a person's."""
    number: dict[str, str] = {}
    found = []
    for outcome in outcomes:
        unit = outcome.example.unit
        if unit is not None:
            unit = number.setdefault(unit, str(len(number) + 1))
        found.append(replace(outcome, example=replace(outcome.example, unit=unit)))
    return found


def lines(data: Mapping[str, Any]) -> list[str]:
    """What is told before the first step."""
    counts = data["facts"].get("counts") or {}
    splits = ", ".join(f"{count} {name}" for name, count in counts.items() if isinstance(count, int))
    return [f"Rows: {splits or data['facts']['rows']} (format {data['facts']['format']}).", WITHHELD]
