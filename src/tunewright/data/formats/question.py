"""A question and its answer."""

from __future__ import annotations

from typing import ClassVar

from tunewright.core.plugins import Plugin
from tunewright.core.records import Example
from tunewright.data.formats import How, Row
from tunewright.data.formats._common import has_all, said, text, user, value


class Question(Plugin):
    """Questions: `question` and `answer`, or query and response, or problem and solution."""

    columns: ClassVar[dict[str, tuple[str, ...]]] = {
        "question": ("query", "problem"),
        "answer": ("response", "solution"),
    }
    optional: ClassVar[tuple[str, ...]] = ()
    answers: ClassVar[tuple[str, ...]] = ("answer",)
    uniform: ClassVar[tuple[str, ...]] = ()

    def detect(self, columns: set[str], row: Row) -> float:
        """Sure when a question and an answer are there, under either of their names."""
        return 0.8 if has_all(columns, self.columns) else 0.0

    def parse(self, row: Row, how: How) -> Example:
        """The question is one user turn."""
        asked = text(value(row, self.columns, "question"), "question")
        answer = value(row, self.columns, "answer")
        answers = () if answer is None and not how.answers_needed else (said(text(answer, "answer")),)
        return Example((user(asked),), answers)
