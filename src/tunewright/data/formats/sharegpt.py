"""Chats in ShareGPT's shape."""

from __future__ import annotations

from typing import ClassVar

from tunewright.core.plugins import Plugin
from tunewright.core.records import Example
from tunewright.data.formats import How, Row
from tunewright.data.formats._common import first_object, objects, value
from tunewright.data.formats._turns import conversation, turns, with_system


class Sharegpt(Plugin):
    """Chats: `conversations` with from and value, and a `system` column."""

    columns: ClassVar[dict[str, tuple[str, ...]]] = {"conversations": ("conversation",)}
    optional: ClassVar[tuple[str, ...]] = ("system", "system_prompt", "tools")
    answers: ClassVar[tuple[str, ...]] = ()
    uniform: ClassVar[tuple[str, ...]] = ()

    def detect(self, columns: set[str], row: Row) -> float:
        """Sure when the first message has `from`; likely by the column's name alone."""
        if "from" in first_object(value(row, self.columns, "conversations")):
            return 0.95
        return 0.7 if columns & {"conversations", "conversation"} else 0.0

    def parse(self, row: Row, how: How) -> Example:
        """As messages, with `system` first when the column is filled."""
        given = turns(value(row, self.columns, "conversations"), "conversations", how, ("from", "value"))
        context, answers = conversation(given, "conversations", how)
        return Example(with_system(context, row), answers, tools=tuple(objects(row.get("tools"), "tools")))
