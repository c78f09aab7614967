"""One file a format: which columns it knows, how surely a row is its own, and how a row becomes an example."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

from tunewright.core.records import Example
from tunewright.data.identifiers import redact

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class How:
    """What a format must know beside the row."""

    instruction: str = ""
    """Put before the text of label rows."""
    names: Mapping[str, str] = field(default_factory=dict)
    """Our key inside a message -> the user's (`role`, `content`, `from`, `value`)."""
    answers_needed: bool = True
    """False when rows are to be answered: then a row without an answer is whole."""
    folder: Path = Path()
    """Where the file of rows lies: paths in rows start there."""


class Flaw(ValueError):
    """One fault in a row; the reader adds file and line.

    Args:
        field: Our name of the column, with the place inside it.
        found: What stands there.
        expected: What is allowed.
        mend: What to do, as an order.
    """

    def __init__(self, field: str, found: str, expected: str, mend: str) -> None:
        super().__init__(f"{field}: found {found}; expected {expected}. To mend: {mend}.")
        self.field, self.found, self.expected, self.mend = field, found, expected, mend


@dataclass(frozen=True, slots=True)
class Gathered:
    """What became of one row of a table whose examples are made of several rows."""

    line: int
    result: Example | Flaw | None
    """None: the row stands in other rows' contexts alone."""
    split: str | None = None
    """The split that the format's own settings put it into."""
    unit: str | None = None
    """Whom it is of; asked where it has no example that says so."""
    answer: str | None = None
    """What would be answered there, where it has no example; it is one of the answers that there are."""


class Table(Protocol):
    """A format whose examples are made of several rows; it has this instead of `parse`."""

    independent: ClassVar[bool]
    """Whether rows are draws, so that an equal prompt of another unit gives nothing away: splits go by unit alone."""
    recipe: ClassVar[str]
    """The recipe for such rows when the plan names none."""

    @property
    def by_time(self) -> bool:
        """Whether its settings split by time: then one unit stands, by plan, in several splits."""

    @property
    def around(self) -> tuple[str, str]:
        """What stands before and after each answer in the running text."""

    def gather(self, rows: Iterable[tuple[int, Row]], how: How) -> Iterator[Gathered]:
        """One result for each row, whole units at a time."""


class Format(Protocol):
    """How rows of one shape become examples."""

    columns: ClassVar[Mapping[str, tuple[str, ...]]]
    """The columns it needs, each with other names that are taken for it."""
    optional: ClassVar[tuple[str, ...]]
    """Columns it reads when they are there."""
    answers: ClassVar[tuple[str, ...]]
    """Columns that may be missing when rows are to be answered."""
    uniform: ClassVar[tuple[str, ...]]
    """Columns that must hold one kind of value throughout (all text or all numbers)."""

    def detect(self, columns: set[str], row: Row) -> float:
        """How surely a row is of this format, from 0 to 1."""

    def parse(self, row: Row, how: How) -> Example:
        """The example of one row, without id, source and slices; with its unit where the format has a column for it.

        Raises:
            Flaw: The row is not whole; says which field, what was found and how to mend it.
        """


KINDS = {bool: "true/false", int: "number", float: "number", str: "text", list: "list", dict: "object"}
"""Types of values by the names that sentences give them."""


def counted(number: int, word: str) -> str:
    """A number with its noun: `1 row`, `2 rows`."""
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def few(words: Sequence[str], most: int = 5) -> str:
    """The first of some names, and how many more there are."""
    more = f" and {len(words) - most} more" if len(words) > most else ""
    return ", ".join(words[:most]) + more


HIDDEN: ContextVar[bool] = ContextVar("HIDDEN", default=False)
"""Whether sentences name values of rows by their kind alone (private training)."""


def shown(found: Any) -> str:
    """A value as an error sentence shows it: its kind and, unless rows are private, its redacted beginning."""
    if found is None:
        return "nothing"
    if isinstance(found, str) and not found.strip():
        return "empty text"
    if HIDDEN.get():
        return f"{KINDS.get(type(found), type(found).__name__)} (not shown: the rows are private)"
    text = redact(repr(found) if isinstance(found, str) else json.dumps(found, ensure_ascii=False, default=str))
    return f"{KINDS.get(type(found), type(found).__name__)} {text if len(text) <= 60 else text[:57] + '...'}"
