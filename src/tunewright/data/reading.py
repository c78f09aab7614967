"""Rows -> examples: which files, which format, which columns; every fault with its place."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tunewright.core.errors import UserError
from tunewright.core.plugins import describe, find
from tunewright.core.records import Answer, Example, Turn
from tunewright.core.settings import DataSettings
from tunewright.data.formats import Flaw, Format, Gathered, How, Table, shown
from tunewright.data.formats._common import named, row_weight, weight
from tunewright.data.named_columns import (
    IN_MESSAGES,
    check_columns,
    check_map,
    check_read,
    column_of,
    known_formats,
    unread_columns,
)
from tunewright.data.readers import Bad, BadRows, Row, all_rows, read_rows, without_nulls
from tunewright.data.spelling import whole
from tunewright.data.split_files import SPLITS, split_name

_SAMPLE = 100


@dataclass(frozen=True, slots=True)
class Read:
    """One row: where it stood, its original columns, and what became of it."""

    line: int
    row: Mapping[str, Any]
    result: Example | Bad
    split: str | None = None


@dataclass(frozen=True, slots=True)
class Aside:
    """A row that nothing is asked of, as it stands in other rows' contexts alone; whose it is still binds its split."""

    file: str
    line: int
    unit: str | None
    split: str | None
    answer: str | None = None


@dataclass(slots=True)
class Opened:
    """One file, its format known, its rows not yet read."""

    path: Path
    format: str
    uniform: tuple[str, ...]
    """Columns that must hold one kind of value throughout."""
    rows: Iterator[Read] = field(repr=False)
    independent: bool = False
    by_time: bool = False
    """See `formats.Table`."""
    aside: list[Aside] = field(default_factory=list)
    """Grows while the rows are read."""
    unread: tuple[str, ...] = ()
    """Columns of the first rows that nothing reads."""
    weight: str = ""
    """The column that says how much a row is trained on; empty where there is none."""


def open_rows(path: Path | str, settings: DataSettings) -> Iterator[tuple[dict[str, Any], Example | Bad]]:
    """Rows to be answered, streaming: the original columns, and the example (its answers may be missing) or the fault.

    Raises:
        UserError: The file cannot be read, or no format fits its columns.
    """
    lenient = settings.model_copy(update={"unit": None, "survey_weight": None})
    for read in open_file(Path(path), lenient, answers_needed=False).rows:
        if isinstance(read.result, Bad) and read.result.stops:
            raise BadRows([read.result])
        yield dict(read.row), read.result


def open_file(path: Path, settings: DataSettings, answers_needed: bool = True) -> Opened:
    """Looks at the first rows of a file, finds its format, and reads on lazily.

    Raises:
        UserError: The file cannot be read, a column that the settings name is absent, or no format fits.
    """
    rows = read_rows(path) if answers_needed else all_rows(path)
    sample: list[tuple[int, Row | Bad]] = []
    good: list[Row] = []
    for line, item in rows:
        sample.append((line, item))
        if not isinstance(item, Bad):
            good.append(item)
        if len(good) == _SAMPLE:
            break
    check_map(settings.map)
    if not good:
        raise BadRows([item for _, item in sample if isinstance(item, Bad)])
    if answers_needed:
        check_columns(path, {column for row in good for column in row}, settings)
    name = _format_name(path, [_ours(path, row, settings) for row in good], settings, answers_needed)
    plugin = format_of(name, settings.options)
    columns = {column for row in good for column in row}
    check_read(plugin, settings.map)
    in_messages = {k: v for k, v in settings.map.items() if k in IN_MESSAGES}
    how = How(settings.instruction, in_messages, answers_needed, path if path.is_dir() else path.parent)
    unread, weighted = unread_columns(plugin, columns, settings), column_of("weight", settings.map)
    weighted = weighted if weighted in columns else ""
    if hasattr(plugin, "gather"):
        aside: list[Aside] = []
        gathered = _gathered(path, plugin, chain(sample, rows), how, settings, aside)
        return Opened(path, name, plugin.uniform, gathered, plugin.independent, plugin.by_time, aside, unread, weighted)
    reads = (_read(path, line, item, plugin, how, settings) for line, item in chain(sample, rows))
    return Opened(path, name, plugin.uniform, reads, unread=unread, weight=weighted)


def format_of(name: str, options: Mapping[str, Any]) -> Any:
    """The format of that name with its settings.

    Raises:
        UserError: A setting is unknown or has a wrong value; all faults at once.
    """
    kind = find("formats", name)
    try:
        return kind(**options)
    except ValidationError as error:
        raise UserError(describe(error, "data.options", list(kind.model_fields))) from None


def _ours(path: Path, row: Row, settings: DataSettings) -> Row:
    """The row as formats read it: under our names, without what a file's kind put into it."""
    renamed = _renamed(row, settings.map)
    if path.suffix.lower() != ".parquet":
        return renamed
    return {name: without_nulls(value) for name, value in renamed.items()}


def _renamed(row: Row, renames: Mapping[str, str]) -> Row:
    """The row under our names; a column of the user's that bears a mapped name gives way."""
    if not renames:
        return row
    theirs = {t: o for o, t in renames.items() if o not in IN_MESSAGES}
    kept = {name: value for name, value in row.items() if name not in theirs and name not in theirs.values()}
    return kept | {ours: row.get(name) for name, ours in theirs.items()}


def _format_name(path: Path, rows: list[Row], settings: DataSettings, answers_needed: bool) -> str:
    columns = {column for row in rows for column in row}
    if settings.format != "auto":
        plugin = find("formats", settings.format)
        optional = () if answers_needed else plugin.answers
        missing = [n for n, others in plugin.columns.items() if n not in optional and not columns & {n, *others}]
        if missing:
            raise UserError(
                f"{path}: format {settings.format} needs the column{'s' * (len(missing) > 1)} {', '.join(missing)}; "
                f"found {', '.join(sorted(columns))}. {_mend(missing[0], answers_needed)}"
            )
        name: str = plugin.plugin_name()
        return name
    scores = {p.plugin_name(): sum(p().detect(set(row), row) for row in rows) for p in known_formats()}
    if not answers_needed:
        # A text alone is a question here; as plain text it would be its own answer.
        scores["text"] = 0.0
    best, name = max((score, name) for name, score in scores.items())
    if not best:
        name = "" if answers_needed else _unanswered(columns)
    if not name:
        shapes = "; ".join(f"{p.plugin_name()}: {', '.join(p.columns)}" for p in known_formats())
        raise UserError(
            f"{path}: no format fits the columns {', '.join(sorted(columns)) or '(none)'}. Known: {shapes}. "
            "Name your columns with --map ours=theirs, as --map text=review --map label=stars."
        )
    return name


def _mend(missing: str, answers_needed: bool) -> str:
    """What to do about a column that the named format lacks; rows to be answered are read as the run's were."""
    if not answers_needed:
        return f"Name yours with --map {missing}=YOUR_COLUMN; the run was trained on rows of this format."
    names = ", ".join(plugin.plugin_name() for plugin in known_formats())
    return (
        f"Name yours with --map {missing}=YOUR_COLUMN, or another format with --set data.format=NAME (auto, {names})."
    )


def _unanswered(columns: set[str]) -> str:
    """The first format whose columns, but for the answer, are there."""
    for plugin in known_formats():
        asked = {n: others for n, others in plugin.columns.items() if n not in plugin.answers}
        if asked and all(columns & {n, *others} for n, others in asked.items()):
            name: str = plugin.plugin_name()
            return name
    return ""


def _read(path: Path, line: int, item: Row | Bad, plugin: Format, how: How, settings: DataSettings) -> Read:
    if isinstance(item, Bad):
        return Read(line, {}, item)
    row = _ours(path, item, settings)
    if not how.answers_needed:
        row = _asking(row, plugin)
    try:
        split = _split(row)
        return Read(line, item, _carry(plugin.parse(row, how), row, item, f"{path.name}:{line}", settings), split)
    except Flaw as flaw:
        return Read(line, item, _told(path, line, flaw, settings))


def _asking(row: Row, plugin: Format) -> Row:
    """What a row asks with; the answer it may hold is not read, so it need not be a good one."""
    apart = plugin.answers if {*plugin.columns} - {*plugin.answers} else ()  # whole chats hold their question too
    answers = {name for field in apart for name in (field, *plugin.columns.get(field, ()))}
    return {n: found for n, found in row.items() if found != "" and n not in ("split", "weight") and n not in answers}


def _gathered(
    path: Path,
    plugin: Table,
    rows: Iterable[tuple[int, Row | Bad]],
    how: How,
    settings: DataSettings,
    aside: list[Aside],
) -> Iterator[Read]:
    """As `_read`, of a format whose examples are made of several rows; unreadable rows are told as they come.

    Rows without an example go to `aside`.
    """
    broken: list[Read] = []
    originals: dict[int, Row] = {}

    def readable() -> Iterator[tuple[int, Row]]:
        for line, item in rows:
            if isinstance(item, Bad):
                broken.append(Read(line, {}, item))
            else:
                originals[line] = item
                yield line, _ours(path, item, settings)

    for found in plugin.gather(readable(), how):
        while broken and broken[0].line < found.line:  # rows are read ahead, and given back in their order
            yield broken.pop(0)
        made = _made(path, found, originals.pop(found.line), how, settings)
        if isinstance(made, Aside):
            aside.append(made)
        else:
            yield made
    yield from broken


def _made(path: Path, found: Gathered, item: Row, how: How, settings: DataSettings) -> Read | Aside:
    """One row's example with what is carried beside it, or its fault; whose it is where it has no example."""
    row = _ours(path, item, settings)
    try:
        if isinstance(found.result, Flaw):
            raise found.result
        if found.result is None:
            unit = _unit(row, item, settings) or found.unit
            return Aside(str(path), found.line, unit, found.split or _split(row), found.answer)
        if not how.answers_needed:
            return Read(found.line, item, replace(found.result, source=f"{path.name}:{found.line}"))
        example = _carry(found.result, row, item, f"{path.name}:{found.line}", settings)
        return Read(found.line, item, example, found.split or _split(row))
    except Flaw as flaw:
        return Read(found.line, item, _told(path, found.line, flaw, settings))


def _told(path: Path, line: int, flaw: Flaw, settings: DataSettings) -> Bad:
    return Bad(str(path), line, _theirs(flaw.field, settings.map), flaw.found, flaw.expected, flaw.mend)


def _theirs(place: str, renames: Mapping[str, str]) -> str:
    """The place of a fault under the user's own column name: `messages[2].role` -> `chat[2].role`."""
    name = re.split(r"[.\[]", place, maxsplit=1)[0]
    return renames.get(name, name) + place[len(name) :]


def _split(row: Row) -> str | None:
    found = row.get("split")
    if "split" not in row:
        return None
    split = split_name(found) if isinstance(found, str) else None
    if split is None:
        mend = "correct it, or rename the column if it says something else"
        raise Flaw("split", shown(found), f"one of {', '.join(SPLITS)}", mend)
    return split


def _carry(example: Example, row: Row, original: Row, source: str, settings: DataSettings) -> Example:
    """Adds what is kept beside the words: id, unit, weight, slices, and where the row stood."""
    if row.get("weight") is not None:
        example = _scaled(example, row_weight(row["weight"]))
    unit = _unit(row, original, settings)
    survey = example.survey_weight
    if settings.survey_weight:
        column = settings.survey_weight
        survey = weight(original.get(column), column, "write how much the row counts, 0 to leave it out of figures")
    return replace(
        example,
        survey_weight=survey,
        id=_name(row.get("id"), "id") or example.id,
        unit=unit or example.unit,
        source=source,
        slices={
            **example.slices,
            **{name: str(original[name]) for name in settings.slices if original.get(name) not in (None, "")},
        },
    )


def _unit(row: Row, original: Row, settings: DataSettings) -> str | None:
    """Whom a row belongs to by its columns."""
    column = settings.unit or "unit"
    unit = original.get(settings.unit) if settings.unit else row.get("unit")
    if settings.unit and (unit is None or str(unit).strip() == ""):
        raise Flaw(column, shown(unit), "whom the row belongs to", "fill it in or delete the row")
    return _name(unit, column)


def _name(found: Any, column: str) -> str | None:
    if found is None:
        return None
    if isinstance(found, bool) or not isinstance(found, str | int | float):
        raise Flaw(column, shown(found), "text or a number", "write it as text")
    return (named(found) if column == "id" else whole(named(found))) or None


def _scaled(example: Example, by: float) -> Example:
    def scaled(thing: Any) -> Any:
        return replace(thing, weight=thing.weight * by)

    context: tuple[Turn, ...] = tuple(map(scaled, example.context))
    answers: tuple[Answer, ...] = tuple(map(scaled, example.answers))
    return replace(example, context=context, answers=answers)
