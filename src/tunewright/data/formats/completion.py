"""A prompt and what follows."""

from __future__ import annotations

from typing import ClassVar

from tunewright.core.plugins import Plugin
from tunewright.core.records import Example
from tunewright.data.formats import How, Row
from tunewright.data.formats._common import has_all, objects, value
from tunewright.data.formats._turns import prompt, reply


class Completion(Plugin):
    """Prompts: `prompt` and `completion`, each text or messages."""

    columns: ClassVar[dict[str, tuple[str, ...]]] = {"prompt": (), "completion": ("response",)}
    optional: ClassVar[tuple[str, ...]] = ("tools",)
    answers: ClassVar[tuple[str, ...]] = ("completion",)
    uniform: ClassVar[tuple[str, ...]] = ()

    def detect(self, columns: set[str], row: Row) -> float:
        """Sure when both columns are there."""
        return 0.85 if has_all(columns, self.columns) else 0.0

    def parse(self, row: Row, how: How) -> Example:
        """The prompt is one user turn, or its own messages."""
        context = prompt(row.get("prompt"), "prompt", how)
        completion = value(row, self.columns, "completion")
        answers = () if completion is None and not how.answers_needed else (reply(completion, "completion", how),)
        return Example(context, answers, tools=tuple(objects(row.get("tools"), "tools")))
