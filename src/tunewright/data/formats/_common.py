"""What formats share: reading a text, a weight and JSON out of a column."""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

from tunewright.core.plugins import Plugin
from tunewright.core.records import Answer, Turn, text_part
from tunewright.data.formats import Flaw, How, Row, shown
from tunewright.data.spelling import written

_MESSAGE_MEND = "write 0 to not train on this message, 1 to train on it; one answer of the row must be above 0"


def has_all(columns: set[str], needed: Mapping[str, tuple[str, ...]]) -> bool:
    """Whether each needed column, or another name of it, is there."""
    return all(columns & {name, *others} for name, others in needed.items())


class ByColumns(Plugin):
    """A format that is known by its columns alone."""

    columns: ClassVar[dict[str, tuple[str, ...]]]
    optional: ClassVar[tuple[str, ...]] = ()
    uniform: ClassVar[tuple[str, ...]] = ()
    sure: ClassVar[float]
    """How sure it is that rows with these columns are its own."""

    def detect(self, columns: set[str], row: Row) -> float:
        """Sure when all its columns are there, under any of their names."""
        return self.sure if has_all(columns, self.columns) else 0.0


def answered(found: Any, how: How, make: Callable[[Any], Answer]) -> tuple[Answer, ...]:
    """The answer of a row; none where none is given and none is needed."""
    return () if found is None and not how.answers_needed else (make(found),)


def value(row: Row, needed: Mapping[str, tuple[str, ...]], field: str) -> Any:
    """The value of a field under its own or another name; None when absent."""
    for name in (field, *needed.get(field, ())):
        if row.get(name) is not None:
            return row[name]
    return None


def text(found: Any, field: str) -> str:
    """A text that is not empty, unchanged.

    Raises:
        Flaw: It is missing, empty, not text, or holds NUL.
    """
    if not isinstance(found, str):
        mend = "write it as text, in quotes" if found is not None else "fill it in or delete the row"
        raise Flaw(field, shown(found), "text", mend)
    if not found.strip():
        raise Flaw(field, shown(found), "text that is not empty", "fill it in or delete the row")
    if "\0" in found:
        raise Flaw(field, "a NUL character", "text", "remove it")
    return found


def named(found: Any) -> str:
    """Whom or which row a cell names: "P1 " and "P1", 7 and 7.0, and one name in two encodings are the same."""
    return unicodedata.normalize("NFC", written(found).strip())


def system_of(row: Row) -> tuple[Turn, ...]:
    """The system turn of a row whose column `system` (or `system_prompt`) is filled."""
    found = next((row[name] for name in ("system", "system_prompt") if row.get(name) not in (None, "")), None)
    return () if found is None else (Turn("system", (text_part(text(found, "system")),)),)


def without_choices(row: Row) -> None:
    """Options to choose from that stand in a column of their own belong to what is asked.

    Raises:
        Flaw: The row has some.
    """
    for name in ("choices", "options"):
        if row.get(name):
            raise Flaw(
                name, shown(row[name]), "options written within what is asked",
                "write them into the question and the answer as its text, or delete the column",
            )  # fmt: skip


def with_more(asked: str, row: Row, *names: str) -> str:
    """What is asked, and behind a blank line each the columns that are filled."""
    return "\n\n".join([asked, *(text(row[name], name) for name in names if row.get(name))])


def user(words: str) -> Turn:
    """A user turn of plain text."""
    return Turn("user", (text_part(words),))


def said(words: str) -> Answer:
    """An answer of plain text."""
    return Answer((text_part(words),))


def label_of(found: Any) -> Answer:
    """A label as it was written: text, or a number.

    Raises:
        Flaw: It is missing, empty or something else.
    """
    if isinstance(found, bool | int | float) and math.isfinite(found):
        return said(json.dumps(found))
    if found is None or isinstance(found, str):
        return said(text(found, "label"))
    raise Flaw("label", shown(found), "one label: text or a number", "give each row one label")


def row_weight(found: Any) -> float:
    """How much a row counts in training: above 0, since a row that trains nothing is no training row.

    Raises:
        Flaw: It is something else.
    """
    mend = (
        "write how much the row counts, 1 as usual; leave the row out if it is not to be trained on, and rename the "
        "column if it says something else"
    )
    return _number(found, "weight", "a number above 0", mend, lambda number: number > 0)


def weight(found: Any, field: str, mend: str = _MESSAGE_MEND) -> float:
    """A weight of one message among several, or in figures: from 0 up.

    Raises:
        Flaw: It is something else.
    """
    return _number(found, field, "a number from 0 up", mend, lambda number: number >= 0)


def _number(found: Any, field: str, expected: str, mend: str, allowed: Callable[[float], bool]) -> float:
    """A finite number; tables may hold it as text."""
    try:
        number = math.nan if isinstance(found, bool) else float(found)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not (allowed(number) and number < math.inf):
        raise Flaw(field, shown(found), expected, mend)
    return number


def from_json(found: Any, field: str) -> Any:
    """JSON given as such or as a string.

    Raises:
        Flaw: The string is not JSON.
    """
    if not isinstance(found, str):
        return found
    try:
        return json.loads(found)
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deeply"
        raise Flaw(field, f"broken JSON ({reason}) in {shown(found)}", "JSON", "correct the JSON") from None


def objects(found: Any, field: str) -> list[Mapping[str, Any]]:
    """A list of objects, given as JSON or as a JSON string; empty when absent.

    Raises:
        Flaw: It is something else.
    """
    items = from_json(found, field) if found is not None and found != "" else []
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise Flaw(field, shown(items), "a list of objects", "write '[{...}, ...]'")
    return items


def first_object(found: Any) -> Mapping[str, Any]:
    """The first object of a list (or of its JSON string), empty when there is none: for detection only."""
    try:
        items = from_json(found, "")
    except Flaw:
        return {}
    return items[0] if isinstance(items, list) and items and isinstance(items[0], dict) else {}


def listed(names: Iterable[str]) -> str:
    """Names as a sentence lists them."""
    return ", ".join(names)
