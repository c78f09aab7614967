"""A question and its answer."""

from __future__ import annotations

from typing import ClassVar

from tunewright.core.records import Example
from tunewright.data.formats import How, Row
from tunewright.data.formats._common import ByColumns, answered, said, text, user, value


class Question(ByColumns):
    """Questions: `question` and `answer`, or query and response, or problem and solution."""

    columns: ClassVar[dict[str, tuple[str, ...]]] = {
        "question": ("query", "problem"),
        "answer": ("response", "solution"),
    }
    answers: ClassVar[tuple[str, ...]] = ("answer",)
    sure: ClassVar[float] = 0.8

    def parse(self, row: Row, how: How) -> Example:
        """The question is one user turn."""
        asked = text(value(row, self.columns, "question"), "question")
        answer = value(row, self.columns, "answer")
        return Example((user(asked),), answered(answer, how, lambda found: said(text(found, "answer"))))
