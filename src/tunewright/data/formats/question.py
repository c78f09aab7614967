"""A question and its answer."""

from __future__ import annotations

from typing import ClassVar

from tunewright.core.records import Example
from tunewright.data.formats import How, Row
from tunewright.data.formats._common import (
    ByColumns,
    answered,
    said,
    system_of,
    text,
    user,
    value,
    with_more,
    without_choices,
)


class Question(ByColumns):
    """Questions: `question` and `answer`, or query and response, or problem and solution; `context`, `system`."""

    columns: ClassVar[dict[str, tuple[str, ...]]] = {
        "question": ("query", "problem"),
        "answer": ("response", "solution"),
    }
    optional: ClassVar[tuple[str, ...]] = ("context", "system", "system_prompt")
    answers: ClassVar[tuple[str, ...]] = ("answer",)
    sure: ClassVar[float] = 0.8

    def parse(self, row: Row, how: How) -> Example:
        """The question is one user turn, with the context that it is about after it."""
        without_choices(row)
        asked = with_more(text(value(row, self.columns, "question"), "question"), row, "context")
        answer = value(row, self.columns, "answer")
        return Example((*system_of(row), user(asked)), answered(answer, how, lambda found: said(text(found, "answer"))))
