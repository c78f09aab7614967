"""A text and its label."""

from __future__ import annotations

from typing import ClassVar

from tunewright.core.records import Example
from tunewright.data.formats import How, Row
from tunewright.data.formats._common import ByColumns, answered, label_of, user
from tunewright.data.formats._common import text as words


class Label(ByColumns):
    """Labels: `text` and `label`, one of a closed set."""

    columns: ClassVar[dict[str, tuple[str, ...]]] = {"text": (), "label": ()}
    answers: ClassVar[tuple[str, ...]] = ("label",)
    uniform: ClassVar[tuple[str, ...]] = ("label",)
    sure: ClassVar[float] = 0.7

    def parse(self, row: Row, how: How) -> Example:
        """The instruction, if any, and the text are the user's turn; the label is kept as it is."""
        found = words(row.get("text"), "text")
        asked = f"{how.instruction}\n\n{found}" if how.instruction else found
        answers = answered(row.get("label"), how, label_of)
        return Example((user(asked),), answers, label=True)
