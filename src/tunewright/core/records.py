"""The one example type that every format produces and every family consumes."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

PartKind = Literal["text", "audio", "image", "number", "tags"]


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of content: text, or a value that a family understands (waveform, picture, number)."""

    kind: PartKind
    value: Any = field(compare=False)
    key: str = field(init=False, repr=False)
    """The value as text, of sounds and pictures a hash: parts are equal when kind and key are."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", _key(self.kind, self.value))


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of the context."""

    role: str
    parts: tuple[Part, ...]
    weight: float = 0.0
    """How much the turn is trained on; only assistant turns may carry more than 0."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """What the chat template may ask for beside the content: tool_calls, name, tool_call_id."""

    @property
    def text(self) -> str:
        """The text of the turn; parts of other kinds are named in angle brackets."""
        return text_of(self.parts)


@dataclass(frozen=True, slots=True)
class Answer:
    """One alternative for the last turn."""

    parts: tuple[Part, ...]
    rank: int = 0
    """0 is the wanted answer; higher is worse (preferences)."""
    weight: float = 1.0
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The text of the answer."""
        return text_of(self.parts)


@dataclass(frozen=True, slots=True)
class Example:
    """A context and the alternatives for what comes next.

    Supervised data has one answer, a preference has ranked answers, a label is a short answer, and plain
    text is an answer without context.
    """

    context: tuple[Turn, ...]
    answers: tuple[Answer, ...]
    id: str = ""
    source: str = ""
    """Where it was read: `file:line`."""
    unit: str | None = None
    """Whom it belongs to (worker, speaker, patient): units are never split and are what is resampled."""
    label: bool = False
    """True when the answer is one of a closed set of labels."""
    tools: tuple[Mapping[str, Any], ...] = ()
    slices: Mapping[str, str] = field(default_factory=dict)
    survey_weight: float = 1.0
    """How much the row counts in figures (how many people it stands for); what is trained knows nothing of it."""

    @property
    def content(self) -> list[Any]:
        """All that a model is shown and what is wanted of it, JSON-able: what makes two questions the same."""
        return [
            [[t.role, _content(t.parts), t.weight, t.extra] for t in self.context],
            [[_content(a.parts), a.rank, a.weight, a.extra] for a in self.answers],
            self.tools,
        ]

    @property
    def answer(self) -> Answer:
        """The wanted answer (the first of lowest rank)."""
        return min(self.answers, key=lambda answer: answer.rank)

    @property
    def prompt_text(self) -> str:
        """The context as plain text: one turn a line, running text (turns of role `text`) as it stands."""
        return ("" if self.running else "\n").join(turn.text for turn in self.context)

    @property
    def running(self) -> bool:
        """Whether it is one running text, in which answers (turns of role `assistant`) stand, and no conversation."""
        return bool(self.context) and self.context[0].role == "text"


def unit_of(example: Example) -> str:
    """Whom a row belongs to, what is resampled and what privacy protects; a row without a unit is one of its own."""
    return unit_name(example.id, example.unit)


def unit_name(row: str, unit: str | None) -> str:
    """The same from a row's id and unit, as files and segments keep them."""
    return f"row {row}" if unit is None else f"unit {unit}"


def text_of(parts: tuple[Part, ...]) -> str:
    """Joins text parts; other kinds appear as `<kind key>`, so that other content is another text."""
    return "".join(part.key if part.kind == "text" else f"<{part.kind} {part.key}>" for part in parts)


def _content(parts: tuple[Part, ...]) -> list[tuple[str, str]]:
    return [(part.kind, part.key) for part in parts]


def text_part(text: str) -> Part:
    """A text part in Unicode NFC, so that equal-looking texts are equal everywhere."""
    return Part("text", unicodedata.normalize("NFC", text))


def _key(kind: PartKind, value: Any) -> str:
    if kind not in ("audio", "image"):
        return str(value)
    total = hashlib.sha256()
    if hasattr(value, "tobytes"):  # an array: its bytes mean nothing without dtype and shape
        total.update(f"{value.dtype} {value.shape}".encode())
        value = value.tobytes()
    total.update(value if isinstance(value, bytes) else repr(value).encode())
    return total.hexdigest()[:16]
