"""Likely identifiers of persons in rows: counted by kind, and never told.

Patterns find mail addresses, telephone numbers, dates of birth, record numbers and names with a title or a label; what
they find is likely, not sure, and what they do not find may be there all the same. Presidio, when it is installed,
looks too.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import regex

from tunewright.core.blocks import Span
from tunewright.core.records import Example
from tunewright.data._presidio import recogniser

KINDS = {
    "mail": "a mail address",
    "phone": "a telephone number",
    "date_of_birth": "a date of birth",
    "record_number": "a record number",
    "name": "a person's name",
}
"""Kind of identifier -> how sentences call it."""
MOST_BY_PRESIDIO = 2_000
"""Rows that Presidio looks at: it needs milliseconds a row where the patterns need microseconds."""


class Found(NamedTuple):
    """Where an identifier stands in a text, and of which kind it is."""

    start: int
    stop: int
    kind: str


_DATE = (
    r"(?P<it>\d{1,4}[./-]\d{1,2}[./-]\d{1,4}|\d{1,2}\.?\s(?:of\s)?\p{L}{3,9}\.?,?\s\d{4}"
    r"|\p{L}{3,9}\.?\s\d{1,2}(?:st|nd|rd|th)?,?\s\d{4})"
)
_BORN = (
    r"born|d\.?o\.?b\.?|date\sof\sbirth|birth\s?date|birthday|geb(?:oren|\.)?|geburtsdatum|n[ée]e?\sle"
    r"|date\sde\snaissance|nacid[oa]\sel|fecha\sde\snacimiento|sinh\sngày|ngày\ssinh"
)
_NUMBERED = (
    r"(?:mrn|ssn|nhs|passport|national\sinsurance|iban)(?:\s?(?:no|nr|num(?:ber)?|id))?"
    r"|(?:medical|patient|hospital|health|case|file|chart|record|insurance|policy|member|account|client|docket"
    r"|licen[cs]e|social\ssecurity|employee|student|versicherten|akten?|fall)(?:\s(?:record|file|card|insurance))?"
    r"[\s-]?(?:no|nr|num(?:ber)?|id|zeichen|nummer)\b"
)
_WORD = r"\p{Lu}[\p{L}'’-]+"
_TITLES = r"Mr|Mrs|Ms|Miss|Mx|Dr|Prof|Professor|Herrn?|Frau|Mme|Monsieur|Madame|Señora?|Sra?|Signora?"
_CALLED = r"name|surname|patient|client|named|name\sis"
_SPOKEN = r"tel|telephone|phone|mobile|cell|fax|call"
_ABROAD, _AT_HOME = r"\+\d{1,3}(?:[\s./-]?\(?\d{1,4}\)?){2,6}", r"\(?\d{2,5}\)?(?:[\s./-]\d{2,4}){2,4}"
_PATTERNS: tuple[tuple[str, str], ...] = (
    ("mail", r"(?P<it>[\w.%+'-]+@[\p{L}\d-]+(?:\.[\p{L}\d-]+)+)"),
    ("date_of_birth", rf"(?i)\b(?:{_BORN})[^\d\n]{{0,12}}?{_DATE}"),
    ("record_number", rf"(?i)\b(?:{_NUMBERED})[.:#\s=]{{0,4}}(?P<it>[A-Z]{{0,4}}[-/]?\d[\dA-Z/-]{{3,}})"),
    ("record_number", r"(?<![\w-])(?P<it>\d{3}-\d{2}-\d{4})(?![\w-])"),
    ("record_number", r"\b(?P<it>[A-Z]{2}\d{2}(?:\s?[A-Z\d]{4}){2,7}(?:\s?[A-Z\d]{1,3})?)\b"),
    ("phone", rf"(?i)\b(?:{_SPOKEN})\b[^\d\n+(]{{0,12}}(?P<it>[+(]?[\d ().-]{{6,19}}\d)"),
    ("phone", rf"(?<![\w.,/-])(?P<it>{_ABROAD}|{_AT_HOME})(?![\w/-])"),
    ("name", rf"\b(?:{_TITLES})\b\.?\s+(?P<it>{_WORD}(?:\s+{_WORD}){{0,2}})"),
    ("name", rf"\b(?i:{_CALLED})\s*[:=]?\s+(?P<it>{_WORD}(?:,?\s+{_WORD}){{1,2}})"),
)
_COMPILED = tuple((kind, regex.compile(pattern)) for kind, pattern in _PATTERNS)
_DIGIT = re.compile(r"\d")
_DATE_ALONE = re.compile(r"(?:19|20)\d\d[./-]\d{1,2}[./-]\d{1,2}|\d{1,2}[./-]\d{1,2}[./-](?:19|20)\d\d")


def find(text: str) -> list[Found]:
    """The likely identifiers of a text by pattern, in order, none overlapping another."""
    found: list[Found] = []
    for kind, pattern in _COMPILED:
        if (kind == "mail" and "@" not in text) or (kind not in ("mail", "name") and not _DIGIT.search(text)):
            continue
        for match in pattern.finditer(text):
            start, stop = match.span("it")
            if _likely(kind, match["it"]) and not any(one.start < stop and start < one.stop for one in found):
                found.append(Found(start, stop, kind))
    return sorted(found)


def find_every(text: str) -> list[Found]:
    """The same, and what Presidio finds beside the patterns where it is installed."""
    found, seen = find(text), recogniser()
    for start, stop, kind in sorted(seen(text)) if seen else ():
        beside = [one for one in found if one.start < stop and start < one.stop]
        first = beside[0] if beside else Found(start, stop, kind)
        found = [one for one in found if one not in beside]
        found.append(Found(min(start, first.start), max([stop, *(one.stop for one in beside)]), first.kind))
    return sorted(found)


def redact(text: str) -> str:
    """The text with `[mail]`, `[name]` ... in place of each likely identifier."""
    pieces, at = [], 0
    for start, stop, kind in find_every(text):
        pieces += [text[at:start], f"[{kind}]"]
        at = stop
    return "".join([*pieces, text[at:]])


def redact_spans(spans: Sequence[Span]) -> list[Span]:
    """The same for a rendered row: an identifier may go over the edge of what is trained."""
    text = "".join(span.text for span in spans)
    letters = list(text)
    for start, stop, kind in find_every(text):
        letters[start:stop] = [f"[{kind}]", *[""] * (stop - start - 1)]
    rest = iter(letters)
    return [span.model_copy(update={"text": "".join(next(rest) for _ in span.text)}) for span in spans]


def identifier_facts(examples: Sequence[Example]) -> dict[str, Any]:
    """How many rows hold a likely identifier, by kind; counts alone, for data.json."""
    seen = recogniser()
    rows: Counter[str] = Counter()
    for number, example in enumerate(examples):
        text = "\n".join(_texts(example))
        found = find_every(text) if number < MOST_BY_PRESIDIO else find(text)
        kinds = {one.kind for one in found}
        rows.update(kinds)
        rows["rows"] += bool(kinds)
    few = len(examples) > MOST_BY_PRESIDIO
    by_presidio = f" and Presidio{f' ({MOST_BY_PRESIDIO} rows)' if few else ''}" if seen else ""
    return {"rows": rows["rows"], **{kind: rows[kind] for kind in KINDS}, "searched_by": f"patterns{by_presidio}"}


def identifier_line(facts: dict[str, Any]) -> str:
    """What was counted as a sentence; empty when nothing was."""
    if not facts.get("rows"):
        return ""
    kinds = ", ".join(f"{facts[kind]} {words}" for kind, words in KINDS.items() if facts[kind])
    return (
        f"Likely identifiers of persons stand in {facts['rows']} rows ({kinds}; searched by {facts['searched_by']}, "
        "none is shown). A model can learn and repeat them: take them out, or train with privacy."
    )


def _texts(example: Example) -> Iterator[str]:
    for part in _parts(example):
        if part.kind == "text":
            yield part.key


def _parts(example: Example) -> Iterable[Any]:
    for turn in example.context:
        yield from turn.parts
    for answer in example.answers:
        yield from answer.parts


def _likely(kind: str, text: str) -> bool:
    check = _CHECKS.get(kind)
    return check is None or check(text)


def _phone(text: str) -> bool:
    """From 7 digits with a country code or label to 15 (ITU E.164), and not a date."""
    return 7 <= sum(map(str.isdigit, text)) <= 15 and not _DATE_ALONE.fullmatch(text.strip())


def _record(text: str) -> bool:
    """At least four digits; what looks like an international account number must have its check digits (ISO 7064)."""
    if sum(map(str.isdigit, text)) < 4:
        return False
    plain = text.replace(" ", "")
    if not re.fullmatch(r"[A-Z]{2}\d{2}[A-Z\d]{11,30}", plain) or len(plain) < 15:
        return " " not in text
    return int("".join(str(int(letter, 36)) for letter in plain[4:] + plain[:4])) % 97 == 1


_CHECKS: dict[str, Callable[[str], bool]] = {"phone": _phone, "record_number": _record}
