"""Columns as a whole: whether all rows hold one kind of value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any

from tunewright.data.formats import KINDS, shown
from tunewright.data.readers import Bad, read_rows
from tunewright.data.reading import Opened


def mixed_kinds(opened: Opened, column: str, kinds: Mapping[str, Sequence[int]]) -> list[Bad]:
    """Rows whose value in a column is of a rarer kind than most (numbers among texts); the file is read again for them.

    Args:
        opened: The file.
        column: The column that must be uniform, by its name there.
        kinds: The lines of each kind of value.
    """
    usual = max(kinds, key=lambda kind: len(kinds[kind]), default="")
    rarer = {line: kind for kind, lines in kinds.items() if kind != usual for line in lines}
    expected = f"{usual}, as in {len(kinds.get(usual, ()))} other rows"
    found = [
        (rarer[line], Bad(str(opened.path), line, column, shown(row.get(column)), expected, f"write it as {usual}"))
        for line, row in (read_rows(opened.path) if rarer else ())
        if line in rarer and not isinstance(row, Bad)
    ]
    return [bad for _, bad in sorted(found, key=itemgetter(0))]


def kind_of(value: Any) -> str:
    """The kind of a value, as sentences name it."""
    return KINDS.get(type(value), type(value).__name__)
