"""The kinds of block a report is made of; probes and evaluation write them, the report renders them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

Cell = str | int | float | None


class _Block(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    title: str
    note: str = ""
    """A sentence under the block in plain words."""
    section: str = "more"
    """Chapter of the report: result privacy runs forgot safety leaked bias classes groups examples rows data ..."""


class Text(_Block):
    """Paragraphs of plain text; `tone` colours it."""

    kind: Literal["text"] = "text"
    paragraphs: list[str]
    tone: Literal["plain", "good", "bad", "unsure"] = "plain"


class Table(_Block):
    """A table; numbers are right-aligned."""

    kind: Literal["table"] = "table"
    columns: list[str]
    rows: list[list[Cell]]


class Bar(BaseModel):
    """One bar with an optional interval."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    label: str
    value: float
    low: float | None = None
    high: float | None = None
    role: Literal["base", "tuned", "baseline"] = "baseline"


class Bars(_Block):
    """Horizontal bars with intervals on a common axis."""

    kind: Literal["bars"] = "bars"
    bars: list[Bar]
    unit: str = ""
    maximum: float | None = None


class Line(BaseModel):
    """One series of a line chart."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    x: list[float]
    y: list[float]


class Lines(_Block):
    """A line chart."""

    kind: Literal["lines"] = "lines"
    lines: list[Line]
    x_label: str = ""
    y_label: str = ""


class Bin(BaseModel):
    """One bin of a reliability diagram."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    confidence: float
    accuracy: float
    count: int
    mass: float | None = None
    """How much its rows count, where that is not their number (survey weights)."""
    low: float | None = None
    high: float | None = None
    """95 % interval of the accuracy."""


class Reliability(_Block):
    """Stated confidence against how often it was right, base and tuned."""

    kind: Literal["reliability"] = "reliability"
    series: dict[str, list[Bin]]
    x_label: str = "How sure it said it was"
    y_label: str = "How often it was right"


class Pair(BaseModel):
    """One example with what base and tuned said, side by side."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    id: str
    context: str
    expected: str
    base: str
    tuned: str
    note: str = ""


class Pairs(_Block):
    """Examples side by side."""

    kind: Literal["pairs"] = "pairs"
    pairs: list[Pair]


class Span(BaseModel):
    """A run of text of a rendered example."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    text: str
    trained: bool


class Mask(_Block):
    """A rendered example with the trained tokens marked."""

    kind: Literal["mask"] = "mask"
    spans: list[Span]


class Code(_Block):
    """Text to copy."""

    kind: Literal["code"] = "code"
    code: str


class Media(_Block):
    """Pictures or sounds as data URIs (small ones)."""

    kind: Literal["media"] = "media"
    items: list[dict[str, str]]
    """Each has `uri` (a data: URI) and `caption`."""


Block = Annotated[Text | Table | Bars | Lines | Reliability | Pairs | Mask | Code | Media, Field(discriminator="kind")]
blocks: TypeAdapter[list[Block]] = TypeAdapter(list[Block])
"""Reads and writes lists of blocks: `blocks.validate_python(...)`, `blocks.dump_python(...)`."""


def dumped(some: Sequence[Block]) -> list[dict[str, Any]]:
    """Blocks as a run's files hold them."""
    return [block.model_dump(mode="json") for block in some]
