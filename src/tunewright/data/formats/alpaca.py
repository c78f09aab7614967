"""Instructions in Alpaca's shape."""

from __future__ import annotations

from typing import ClassVar

from tunewright.core.records import Example, Turn, text_part
from tunewright.data.formats import Flaw, How, Row, shown
from tunewright.data.formats._common import (
    ByColumns,
    answered,
    from_json,
    said,
    system_of,
    text,
    user,
    value,
    with_more,
    without_choices,
)


class Alpaca(ByColumns):
    """Instructions: `instruction`, `input` (or `context`), `output`, with `system` and `history` when filled."""

    columns: ClassVar[dict[str, tuple[str, ...]]] = {"instruction": (), "output": ("response",)}
    optional: ClassVar[tuple[str, ...]] = ("input", "context", "system", "system_prompt", "history")
    answers: ClassVar[tuple[str, ...]] = ("output",)
    sure: ClassVar[float] = 0.9

    def parse(self, row: Row, how: How) -> Example:
        """Instruction and input, a blank line between, are the user's turn."""
        without_choices(row)
        context = [*system_of(row)]
        for question, answer in _history(row.get("history")):
            context += [user(question), Turn("assistant", (text_part(answer),))]
        asked = with_more(text(row.get("instruction"), "instruction"), row, "input", "context")
        output = value(row, self.columns, "output")
        answers = answered(output, how, lambda found: said(text(found, "output")))
        return Example((*context, user(asked)), answers)


def _history(found: object) -> list[tuple[str, str]]:
    """Earlier turns as pairs of question and answer; they are context and not trained."""
    pairs = from_json(found, "history") if found else []
    if not isinstance(pairs, list) or not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs):
        raise Flaw("history", shown(pairs), "a list of [question, answer]", 'write \'[["...", "..."], ...]\'')
    return [(text(asked, "history"), text(answer, "history")) for asked, answer in pairs]
