"""A text and its label."""

from __future__ import annotations

from typing import ClassVar

from tunewright.core.plugins import Plugin
from tunewright.core.records import Example
from tunewright.data.formats import How, Row
from tunewright.data.formats._common import has_all, label_of, user
from tunewright.data.formats._common import text as words


class Label(Plugin):
    """Labels: `text` and `label`, one of a closed set."""

    columns: ClassVar[dict[str, tuple[str, ...]]] = {"text": (), "label": ()}
    optional: ClassVar[tuple[str, ...]] = ()
    answers: ClassVar[tuple[str, ...]] = ("label",)
    uniform: ClassVar[tuple[str, ...]] = ("label",)

    def detect(self, columns: set[str], row: Row) -> float:
        """Sure when both columns are there."""
        return 0.7 if has_all(columns, self.columns) else 0.0

    def parse(self, row: Row, how: How) -> Example:
        """The instruction, if any, and the text are the user's turn; the label is kept as it is."""
        found = words(row.get("text"), "text")
        asked = f"{how.instruction}\n\n{found}" if how.instruction else found
        label = row.get("label")
        answers = () if label is None and not how.answers_needed else (label_of(label),)
        return Example((user(asked),), answers, label=True)
