"""What a verb says, made to fit a terminal."""

from __future__ import annotations

import textwrap


def folded(line: str, width: int) -> str:
    """A sentence broken between words, its later lines indented; commands, paths and tables stay as they are.

    Args:
        line: What is said.
        width: Columns of the terminal.
    """
    sentence = line.endswith((".", ".)")) and "  " not in line and not line.startswith((" ", "|"))
    if not sentence or len(line) <= width:
        return line
    # A command within a sentence may be longer than a line; it stays in one piece.
    return textwrap.fill(line, max(width, 20), subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
