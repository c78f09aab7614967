"""Plain text."""

from __future__ import annotations

from typing import ClassVar

from tunewright.core.plugins import Plugin
from tunewright.core.records import Example
from tunewright.data.formats import How, Row
from tunewright.data.formats._common import said
from tunewright.data.formats._common import text as whole


class Text(Plugin):
    """Plain text: `text`, an answer without context."""

    columns: ClassVar[dict[str, tuple[str, ...]]] = {"text": ()}
    optional: ClassVar[tuple[str, ...]] = ()
    answers: ClassVar[tuple[str, ...]] = ()
    uniform: ClassVar[tuple[str, ...]] = ()

    def detect(self, columns: set[str], row: Row) -> float:
        """Possible when there is a text; any other format that fits knows more."""
        return 0.3 if "text" in columns else 0.0

    def parse(self, row: Row, how: How) -> Example:
        """The whole text is what is learned."""
        return Example((), (said(whole(row.get("text"), "text")),))
