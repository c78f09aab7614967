"""A prompt and what follows."""

from __future__ import annotations

from typing import ClassVar

from tunewright.core.records import Example
from tunewright.data.formats import How, Row
from tunewright.data.formats._common import ByColumns, answered, objects, value
from tunewright.data.formats._turns import prompt, reply


class Completion(ByColumns):
    """Prompts: `prompt` and `completion`, each text or messages."""

    columns: ClassVar[dict[str, tuple[str, ...]]] = {"prompt": (), "completion": ("response",)}
    optional: ClassVar[tuple[str, ...]] = ("tools",)
    answers: ClassVar[tuple[str, ...]] = ("completion",)
    sure: ClassVar[float] = 0.85

    def parse(self, row: Row, how: How) -> Example:
        """The prompt is one user turn, or its own messages."""
        context = prompt(row.get("prompt"), "prompt", how)
        completion = value(row, self.columns, "completion")
        answers = answered(completion, how, lambda found: reply(found, "completion", how))
        return Example(context, answers, tools=tuple(objects(row.get("tools"), "tools")))
