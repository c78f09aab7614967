"""One name or number under two spellings."""

from __future__ import annotations

import re
from typing import Any


def written(found: Any) -> str:
    """A cell as a text has it; a whole number has no decimals, as a column with gaps holds its codes as 1.0."""
    return str(int(found)) if isinstance(found, float) and found.is_integer() else str(found)


def whole(text: str) -> str:
    """`7.0`, as a table writes 7 in a column with gaps, as `7`; any other text as it is."""
    found = _WHOLE.fullmatch(text.strip())
    return found[1] if found else text


_WHOLE = re.compile(r"(-?\d+)\.0+")


def cell(found: Any) -> str:
    """A cell as a text has it, a whole number without decimals whether it came as a number or as a text."""
    return whole(written(found))
