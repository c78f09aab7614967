"""Chats in OpenAI's shape."""

from __future__ import annotations

from typing import ClassVar

from tunewright.core.plugins import Plugin
from tunewright.core.records import Example
from tunewright.data.formats import How, Row
from tunewright.data.formats._common import first_object, objects, value
from tunewright.data.formats._turns import conversation, turns, with_system


class Messages(Plugin):
    """Chats: `messages` with role and content, `tools`, a `system` column, a weight a message."""

    columns: ClassVar[dict[str, tuple[str, ...]]] = {"messages": ("conversations",)}
    optional: ClassVar[tuple[str, ...]] = ("tools", "system", "system_prompt")
    answers: ClassVar[tuple[str, ...]] = ()
    uniform: ClassVar[tuple[str, ...]] = ()

    def detect(self, columns: set[str], row: Row) -> float:
        """Sure when the first message has a role; likely by the column's name alone."""
        if "role" in first_object(value(row, self.columns, "messages")):
            return 0.95
        return 0.8 if "messages" in columns else 0.0

    def parse(self, row: Row, how: How) -> Example:
        """The last assistant message is the answer; earlier ones train with weight 1 unless they say otherwise."""
        given = turns(value(row, self.columns, "messages"), "messages", how)
        context, answers = conversation(given, "messages", how)
        return Example(with_system(context, row), answers, tools=tuple(objects(row.get("tools"), "tools")))
