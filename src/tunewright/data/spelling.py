"""One name under two spellings."""

from __future__ import annotations

import re


def whole(text: str) -> str:
    """`7.0`, as a table writes 7 in a column with gaps, as `7`; any other text as it is."""
    found = _WHOLE.fullmatch(text.strip())
    return found[1] if found else text


_WHOLE = re.compile(r"(-?\d+)\.0+")
