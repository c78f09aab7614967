"""Careers: a long table of who held which occupation when, as running text with a title to foresee in every line."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date
from itertools import chain, groupby, islice
from operator import attrgetter
from typing import Any, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator

from tunewright.core.errors import UserError, nearest
from tunewright.core.files import digest
from tunewright.core.plugins import Plugin
from tunewright.core.records import Answer, Example, Turn, text_part
from tunewright.data.formats import Flaw, Gathered, How, Row, shown
from tunewright.data.formats._common import from_json, has_all, named, value, weight
from tunewright.data.formats._common import text as words
from tunewright.data.spelling import cell, whole
from tunewright.data.templates import braced, checked, listed

STATIC = ("population", "gender", "ethnicity", "region", "born", "schooling")
"""Columns that are facts of a person when the plan names none."""
YEARLY = ("education",)
"""Columns that are facts of a year when the plan names none."""
_ALLOWED: dict[str, dict[str, str | int]] = {
    "fact": {"name": "Region", "value": "south"},
    "line": {"year": 1984, "facts": " (college)", "title": "Cook"},
    "gap": {"first": 1985, "last": 1986},
    "earlier": {},
    "end": {},
}
"""Template -> what may stand in braces, with what it is tried on; in the header facts do, which the table tells."""
_UNKNOWN = "unknown"
"""Stands in the header for a fact that no row has stated yet, or that is left out of the text."""
_LENGTHS = ((2, "1 to 2 records"), (5, "3 to 5 records"), (9, "6 to 9 records"))
_DAY = re.compile(r"(\d{4})-\d\d-\d\d(?!\d)")
_SAMPLE = 100


@dataclass(frozen=True, slots=True)
class _Record:
    """One row that could be read."""

    line: int
    row: Row
    person: str
    year: int
    title: str | None
    law: dict[str, float] | None
    """The known probabilities of a simulated row."""


class Careers(Plugin):
    """Careers: `person`, `year` and `occupation`, one row a year, sorted; each row but a person's first is foreseen."""

    columns: ClassVar[dict[str, tuple[str, ...]]] = {
        "person": ("person_id", "worker"),
        "year": (),
        "occupation": ("job_title",),
    }
    optional: ClassVar[tuple[str, ...]] = (*STATIC, *YEARLY, "oracle")
    answers: ClassVar[tuple[str, ...]] = ("occupation",)
    uniform: ClassVar[tuple[str, ...]] = ()
    independent: ClassVar[bool] = True
    recipe: ClassVar[str] = "careers"

    header: str = "The career of one person, one line a year."
    """First line of the text. A static fact in braces, as in `A {gender} worker.`, has no line of its own then.

    One that is not known yet, or left out by `demographics`, is written `unknown`.
    """
    fact: str = "{name}: {value}"
    """Line of each static fact that the header does not state."""
    line: str = "{year}{facts}: {title}"
    """Line of each year; `{facts}` are the yearly ones in brackets."""
    gap: str = "{first} to {last}: no record"
    """Line that stands for years without a row."""
    earlier: str = "Earlier years are left out."
    """Line that stands where `history` cuts."""
    end: str = "End of the record."
    """Last line; it is learned with `objective.loss_on: all` only."""
    static: tuple[str, ...] | None = None
    """Columns of facts that do not change within a person; None = those of the known names that are there.

    A row states those that it or an earlier one gives: what is known only later cannot help to foresee it.
    """
    yearly: tuple[str, ...] | None = None
    """Columns of facts of a year."""
    demographics: bool = True
    """false = no facts in the text, an ablation; baselines by demographics keep them."""
    titles: Literal["names", "codes"] = "names"
    """codes = titles as numbers of eight digits that mean nothing, an ablation."""
    history: int | None = Field(None, ge=1)
    """At most so many earlier records before a title; None = all."""
    test_from: int | None = None
    """Out of time: rows from this year on are the test, those of the year before validation, earlier ones train.

    Without rows in the year before there is no validation: training takes all its steps, and the last is kept.
    """

    @field_validator("static", "yearly", mode="before")
    @classmethod
    def _listed(cls, found: Any) -> Any:
        return [name for name in found.split(",") if name] if isinstance(found, str) else found

    @field_validator("header", "fact", "line", "gap", "earlier", "end")
    @classmethod
    def _fills(cls, found: str, info: ValidationInfo) -> str:
        names = checked(found, _ALLOWED.get(str(info.field_name)))
        if info.field_name == "line" and (
            found.count("{title}") != 1 or names.count("title") != 1 or names[-1] != "title"
        ):
            raise ValueError("A line must hold {title} once, after {year} and {facts}, as '{year}{facts}: {title}'")
        return found

    @property
    def by_time(self) -> bool:
        """Whether splits are made by year."""
        return self.test_from is not None

    @property
    def around(self) -> tuple[str, str]:
        """The space before a title, which belongs to its first token, and what ends its line."""
        before, after = self.line.split("{title}")
        return before[len(before.rstrip(" ")) :], f"{after.format()}\n"

    def detect(self, columns: set[str], row: Row) -> float:
        """Sure when all three columns are there."""
        return 0.9 if has_all(columns, self.columns) else 0.0

    def gather(self, rows: Iterable[tuple[int, Row]], how: How) -> Iterator[Gathered]:
        """One result a row, person by person; a person's first row is foreseen only when rows are to be answered."""
        rows = iter(rows)
        sample = list(islice(rows, _SAMPLE))
        columns = {column for _, row in sample for column in row}
        fault = self._column_fault(columns)
        if fault and (len(sample) < _SAMPLE or not how.answers_needed):  # no answers are lost to it in the end
            raise fault
        codes: dict[str, str] = {}
        first_line: dict[str, int] = {}
        for person, records in groupby(self._records(chain(sample, rows), how, columns), key=attrgetter("person")):
            career = list(records)
            whole = [record for record in career if isinstance(record, _Record)]
            unread = [Gathered(r.line, r.flaw) for r in career if isinstance(r, _Unread)]
            before = first_line.setdefault(person, career[0].line)
            if whole and before != career[0].line:
                mend = "sort the table by person and year"
                apart = Flaw(
                    "person", f"{shown(person)} again (first: line {before})", "a person's rows together", mend
                )
                told = (*unread, *(Gathered(record.line, apart) for record in whole))
                yield from sorted(told, key=attrgetter("line"))
                continue
            yield from sorted((*unread, *self._career(whole, how, codes)), key=attrgetter("line"))
        if fault := self._column_fault(columns):  # rows of JSON may lack a fact that later ones have
            raise fault

    def _records(self, rows: Iterable[tuple[int, Row]], how: How, columns: set[str]) -> Iterator[_Record | _Unread]:
        """Rows as they could be read, their columns put down; one that names nobody is told with the person above."""
        person = ""
        for line, row in rows:
            columns.update(row)
            found = self._record(line, row, how)
            yield found if found.person else replace(found, person=person)
            person = found.person or person

    def _record(self, line: int, row: Row, how: How) -> _Record | _Unread:
        person = value(row, self.columns, "person")
        name = "" if person is None or isinstance(person, list | dict) else whole(named(person))
        try:
            if not name:
                raise Flaw("person", shown(person), "whom the row is of", "fill it in or delete the row")
            year = _year(row.get("year"))
            found = value(row, self.columns, "occupation")
            plain = type(found) in (int, str) or (type(found) is float and found.is_integer())
            found = cell(found) if plain else found
            empty = found is None or found == ""
            if empty and how.answers_needed:
                mend = "write what the person did (also 'Unemployed'), or delete the row: a gap is then shown"
                raise Flaw("occupation", shown(found), "an occupation", mend)
            title = None if empty else " ".join(unicodedata.normalize("NFC", words(found, "occupation")).split())
            return _Record(line, row, name, year, title, _law(row.get("oracle")))
        except Flaw as flaw:
            return _Unread(line, name, flaw)

    def _career(self, records: list[_Record], how: How, codes: dict[str, str]) -> Iterator[Gathered]:
        """The rows of one person, in order."""
        kept: list[_Record] = []
        facts: dict[str, tuple[str, int]] = {}
        faults: dict[int, Flaw] = {}
        for record in records:
            fault = _order_fault(kept, record) or _fact_fault(facts, record, self._static)
            fault = fault or (self._code_fault(record, codes) if self.titles == "codes" else None)
            if fault:
                faults[record.line] = fault
            else:
                kept.append(record)
        yield from (Gathered(line, fault) for line, fault in faults.items())
        turns: list[Turn] = []
        told: dict[str, str] = {}
        for index, record in enumerate(kept):
            before, told = told, {name: found for name, (found, line) in facts.items() if line <= record.line}
            if self.history is not None or told != before:
                start = max(0, index - (self.history or index))
                turns = self._turns(kept[start:index], told, start > 0)
            foreseen = bool(turns) or not how.answers_needed
            example = self._example(turns, kept, index, told)
            if foreseen:
                yield Gathered(record.line, example, self._split_of(record.year), record.person)
            else:
                title = None if record.title is None else self._title(record.title)
                yield Gathered(record.line, None, self._split_of(record.year), record.person, title)
            turns = [*turns, *self._turn(kept, index, told, bool(turns))]

    @property
    def _static(self) -> tuple[str, ...]:
        return tuple(n for n in STATIC if n not in (self.yearly or ())) if self.static is None else self.static

    @property
    def _yearly(self) -> tuple[str, ...]:
        return tuple(n for n in YEARLY if n not in (self.static or ())) if self.yearly is None else self.yearly

    @property
    def reads(self) -> frozenset[str]:
        """Our names of the columns that these settings read."""
        return frozenset({*self.columns, *self._static, *self._yearly, "oracle"})

    def _column_fault(self, columns: set[str]) -> UserError | None:
        """A column that the settings name and no row has; a row may lack it, which says nothing of its fact."""
        if not columns:
            return None
        for name in (*(self.static or ()), *(self.yearly or ())):
            if name not in columns:
                return _missing(name, columns)
        facts = sorted(columns.intersection(self._static))
        for name in braced(self.header):
            if name not in facts:
                allowed = listed(facts) or "none, as the table has no such column"
                return UserError(
                    f"data.options.header: found {{{name}}}, which is no column of static facts."
                    f"{nearest(name, facts)} Allowed: {allowed}. Correct the name, name the column in "
                    "data.options.static, or double braces that are to be written."
                )
        return None

    def _turns(self, window: list[_Record], told: Mapping[str, str], cut: bool) -> list[Turn]:
        """The context that some records make, from the header on."""
        turns: list[Turn] = []
        for index in range(len(window)):
            turns += self._turn(window, index, told, bool(turns), cut and not index)
        return turns

    def _turn(
        self, records: list[_Record], index: int, told: Mapping[str, str], begun: bool, cut: bool = False
    ) -> list[Turn]:
        """A record as it stands in later contexts: what leads to the title, and the title."""
        record = records[index]
        lead = self._lead(records, index, told, begun, cut)
        if record.title is None:
            return []
        title = self._title(record.title)
        before, after = self.around
        return [
            lead,
            Turn("assistant", (text_part(f"{before}{title}{after}"),), 0.0, {"title": title}),
        ]

    def _lead(
        self, records: list[_Record], index: int, told: Mapping[str, str], begun: bool, cut: bool = False
    ) -> Turn:
        """Everything between the last title and this one."""
        record, lines = records[index], list[str]()
        if not begun:
            lines = [*self._opening(told if self.demographics else {}), *([self.earlier.format()] if cut else [])]
        known = [other for other in records[:index] if other.title is not None]
        if begun and known and record.year > known[-1].year + 1:
            lines.append(self.gap.format(first=known[-1].year + 1, last=record.year - 1))
        yearly = {n: cell(record.row[n]) for n in self._yearly if record.row.get(n) not in (None, "")}
        stated = f" ({', '.join(yearly.values())})" if yearly and self.demographics else ""
        line = self.line.split("{title}")[0].format(year=record.year, facts=stated).rstrip(" ")
        extra = {"year": record.year, "yearly": yearly} | ({} if begun else {"facts": dict(told)})
        return Turn("text", (text_part("\n".join([*lines, line])),), 0.0, extra)

    def _opening(self, facts: Mapping[str, str]) -> list[str]:
        """What stands before the years: the header, and the facts that it does not state."""
        stated = braced(self.header)
        lines = [self.fact.format(name=_spoken(n), value=v) for n, v in facts.items() if n not in stated]
        return [self.header.format(**{name: facts.get(name, _UNKNOWN) for name in stated}), *lines]

    def _example(self, turns: list[Turn], records: list[_Record], index: int, told: Mapping[str, str]) -> Example:
        record = records[index]
        lead = self._lead(records, index, told, bool(turns))
        if record.law is not None:
            law = {self._title(title): share for title, share in record.law.items()}
            lead = replace(lead, extra={**lead.extra, "oracle": law})
        last = {"after": self.end.format()} if index == len(records) - 1 else {}
        title = () if record.title is None else (Answer((text_part(self._title(record.title)),), extra=last),)
        known = sum(other.title is not None for other in records[:index])
        length = next((name for most, name in _LENGTHS if known <= most), "10 records or more")
        return Example(
            (*turns, lead),
            title,
            id=f"{record.person}-{record.year}",
            unit=record.person,
            label=True,
            slices={"history": length} if known else {},
        )

    def _title(self, title: str) -> str:
        return title if self.titles == "names" else f"{int(digest('title', title)[:12], 16) % 10**8:08d}"

    def _code_fault(self, record: _Record, codes: dict[str, str]) -> Flaw | None:
        title = record.title
        if title is None or codes.setdefault(self._title(title), title) == title:
            return None
        other = codes[self._title(title)]
        return Flaw(
            "occupation", f"{shown(title)} with the code of {shown(other)}", "a code each", "rename one of them"
        )

    def _split_of(self, year: int) -> str | None:
        if self.test_from is None:
            return None
        return "test" if year >= self.test_from else "valid" if year == self.test_from - 1 else "train"


@dataclass(frozen=True, slots=True)
class _Unread:
    """A row that could not be read; it stands with the rows of its person."""

    line: int
    person: str
    flaw: Flaw


def _missing(name: str, columns: set[str]) -> UserError:
    """A column that the settings name and the table lacks."""
    return UserError(
        f"data.options names the column '{name}', which is not there.{nearest(name, sorted(columns))} Found: "
        f"{', '.join(sorted(columns))}. Correct the name."
    )


def _year(found: Any) -> int:
    """The year of a number or of a date, which is how Stata's yearly columns (%ty) are read."""
    day = _DAY.match(found.strip()) if isinstance(found, str) else None
    try:
        number = float(found.year if isinstance(found, date) else day[1] if day else found)
        if isinstance(found, bool) or number != int(number) or not 0 < number < 10_000:
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise Flaw("year", shown(found), "a year, as 1984", "correct it or delete the row") from None
    return int(number)


def _order_fault(kept: list[_Record], record: _Record) -> Flaw | None:
    """A year that stands twice, or before an earlier one."""
    if not kept or record.year > kept[-1].year:
        return None
    same = next((other for other in kept if other.year == record.year), None)
    if same is not None:
        found = f"{shown(record.year)} of person {shown(record.person)} again (first: line {same.line})"
        return Flaw("year", found, "one row for each person and year", "delete one of them, or make it one row")
    found = f"{shown(record.year)} after {shown(kept[-1].year)} (line {kept[-1].line})"
    return Flaw("year", found, "a person's years in rising order", "sort the table by person and year")


def _fact_fault(facts: dict[str, tuple[str, int]], record: _Record, static: tuple[str, ...]) -> Flaw | None:
    """A fact of the person that another row states otherwise; new facts are noted."""
    for name in static:
        found = record.row.get(name)
        if found is None or found == "":
            continue
        known, line = facts.setdefault(name, (cell(found), record.line))
        if known != cell(found):
            expected = f"{shown(known)} as on line {line}: one value for each person"
            return Flaw(name, shown(found), expected, "correct it, or name the column in data.options.yearly")
    return None


def _law(found: Any) -> dict[str, float] | None:
    """The known probabilities of a simulated row, by title; None where nothing is given."""
    if found is None or found == "":
        return None
    law = from_json(found, "oracle")
    if not isinstance(law, dict):
        raise Flaw("oracle", shown(law), "an object of probabilities by title", "correct it, or leave it empty")
    return {title: weight(share, "oracle", "write the probability of each title") for title, share in law.items()}


def _spoken(column: str) -> str:
    return column.replace("_", " ").capitalize()
