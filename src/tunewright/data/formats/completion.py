"""A prompt and what follows."""

from __future__ import annotations

from typing import ClassVar

from tunewright.core.records import Example
from tunewright.data.formats import Flaw, How, Row
from tunewright.data.formats._common import ByColumns, answered, objects, value, without_choices
from tunewright.data.formats._turns import prompt, reply, with_system


class Completion(ByColumns):
    """Prompts: `prompt` and `completion`, each text or messages; a `system` column."""

    columns: ClassVar[dict[str, tuple[str, ...]]] = {"prompt": (), "completion": ("response",)}
    optional: ClassVar[tuple[str, ...]] = ("tools", "system", "system_prompt")
    answers: ClassVar[tuple[str, ...]] = ("completion",)
    sure: ClassVar[float] = 0.85

    def parse(self, row: Row, how: How) -> Example:
        """The prompt is one user turn, or its own messages."""
        without_choices(row)
        if how.answers_needed and str(row.get("label")).casefold() in ("true", "false"):
            raise Flaw(
                "label", f"{row['label']} beside a completion", "answers that are all wanted",
                "keep the rows of label true and leave the column out, or make pairs (chosen, rejected) of them",
            )  # fmt: skip
        context = with_system(prompt(row.get("prompt"), "prompt", how), row)
        completion = value(row, self.columns, "completion")
        answers = answered(completion, how, lambda found: reply(found, "completion", how))
        return Example(context, answers, tools=tuple(objects(row.get("tools"), "tools")))
