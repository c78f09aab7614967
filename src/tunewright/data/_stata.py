"""Stata files, read with pandas: rows as Stata shows them, with labels in place of codes."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tunewright.core.errors import MissingPart, UserError


def read_stata(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of a `.dta` file with their numbers, streaming.

    Raises:
        UserError: pandas is not installed, or the file is damaged.
    """
    try:
        import pandas
    except ImportError:
        raise MissingPart(f"{path}: reading Stata files needs pandas. Run: pip install 'tunewright[stata]'") from None
    number = 0
    try:
        with pandas.read_stata(path, chunksize=1000) as parts:
            for labels in parts.value_labels().values():
                _mark_repeats(labels)
            for part in parts:
                for row in part.astype(object).where(part.notna(), None).to_dict("records"):
                    number += 1
                    yield number, {str(name): _plain(cell) for name, cell in row.items()}
    except (ValueError, OSError, struct.error) as error:
        reason = next(filter(str.strip, str(error).splitlines()), type(error).__name__).strip()
        raise UserError(f"{path} is not a whole Stata file (row {number + 1}: {reason}). Write it again.") from None


def _mark_repeats(labels: dict[int, str]) -> None:
    """Tells codes that share a label apart, in place, by an end that no text in Stata has: pandas refuses them."""
    seen: set[str] = set()
    for code, label in labels.items():
        while label in seen:
            label += "\0"
        seen.add(label)
        labels[code] = label


def _plain(cell: Any) -> Any:
    """A cell as JSON has it: numpy's numbers as Python's, dates as text, an empty text as nothing.

    Whole numbers are whole whatever else is in the column, which pandas reads as decimals when a value is missing.
    """
    value = cell.item() if hasattr(cell, "item") else cell
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    return value if value is None or isinstance(value, bool | int | float) else str(value).rstrip("\0") or None
