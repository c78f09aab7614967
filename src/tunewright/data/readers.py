"""Files -> rows, line by line: every row that cannot be read is told with its file, line and mend."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tunewright.core.errors import SHOWN, MissingPart, UserError, nearest
from tunewright.data import lines as files
from tunewright.data._stata import read_stata
from tunewright.data.class_folder import is_class_folder, pictures_of
from tunewright.data.formats import HIDDEN, counted, shown
from tunewright.data.lines import check_bytes, numbered_lines

MAX_JSON = 2**30
"""A `.json` list is held in memory whole; larger ones belong in `.jsonl`."""
Row = dict[str, Any]
_UNREAD = "correct it; what follows could not be read"


@dataclass(frozen=True, slots=True)
class Bad:
    """One fault in one row: where it is, what was found, what was expected, how to mend it."""

    file: str
    line: int
    field: str
    found: str
    expected: str
    mend: str
    stops: bool = False
    """What follows in the file could not be read, so the row cannot just be skipped."""

    def __str__(self) -> str:
        field = f", field '{self.field}'" if self.field else ""
        return (
            f"{self.file}, line {self.line}{field}: found {self.found}; expected {self.expected}. To mend: {self.mend}."
        )


class BadRows(UserError):
    """Rows that cannot be read; `bad` has all of them, the message the first twenty.

    Args:
        bad: All of them.
        beside: What else is wrong, told before them.
        kept: The file that lists all of them; without it the message says how to get one.
    """

    def __init__(self, bad: list[Bad], beside: Sequence[str] = (), kept: Path | None = None) -> None:
        self.bad, self.beside = bad, beside
        rest = len(bad) - SHOWN
        place = f"{kept} lists all" if kept else "`tunewright check DATA --out FILE` lists all in FILE"
        more = [f"... and {counted(rest, 'more bad row')}; {place}."] if rest > 0 else []
        skip = "" if any(one.stops for one in bad) else ", or set data.on_bad_row: skip to go on without them"
        end = f"{counted(len(bad), 'bad row')}. Mend them{skip}."
        super().__init__([*beside, *map(str, bad[:SHOWN]), *more, end])


def read_rows(path: Path) -> Iterator[tuple[int, Row | Bad]]:
    """The rows of one file with their line numbers (parquet: row numbers), streaming.

    Rows of a text table whose cells are all empty are none: spreadsheets leave them at the end.

    Raises:
        UserError: The file as a whole cannot be read: missing, empty, of an unknown kind, not UTF-8, without rows.
    """
    table = path.suffix.lower() in _HEADER_ONLY
    return _some(path, ((line, row) for line, row in all_rows(path) if not (table and _is_blank(row))))


def _is_blank(row: Row | Bad) -> bool:
    return not isinstance(row, Bad) and not any(row.values())


def _some(path: Path, rows: Iterator[tuple[int, Row | Bad]]) -> Iterator[tuple[int, Row | Bad]]:
    first = next(rows, None)
    if first is None:
        raise UserError(f"{path} has no rows{_HEADER_ONLY.get(path.suffix.lower(), '')}. Put at least one row in it.")
    yield first
    yield from rows


def all_rows(path: Path) -> Iterator[tuple[int, Row | Bad]]:
    """As `read_rows`, with the rows whose cells are all empty: for who must give back as many rows as came.

    Raises:
        UserError: As there.
    """
    if not path.exists():
        beside = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise UserError(f"{path} does not exist.{nearest(path.name, beside)} Give a file or a folder of rows.")
    if is_class_folder(path):
        yield from pictures_of(path)
        return
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise UserError(
            f"{path}: unknown kind of file '{path.suffix or path.name}'. Allowed: {', '.join(READERS)}. "
            "Convert it, or rename it if the content is one of these."
        )
    check_bytes(path)
    yield from _some(path, iter(reader(path)))


_HEADER_ONLY = {".csv": ", only a header", ".tsv": ", only a header"}


def _jsonl(path: Path) -> Iterator[tuple[int, Row | Bad]]:
    for line, text in numbered_lines(path):
        if text is None:
            yield line, too_long(path, line)
        elif text.strip():
            yield line, _json_row(path, line, text)


def _json_row(path: Path, line: int, text: str) -> Row | Bad:
    try:
        value = _decoder.decode(text.strip())
    except json.JSONDecodeError as error:
        # A pretty-printed file breaks on every line, and the first bracket is what tells.
        hint = "write each object on one line" if text.strip() in ("{", "[") else "correct the JSON, or delete the line"
        return Bad(str(path), line, "", f"broken JSON ({error.msg} at column {error.colno})", "one JSON object", hint)
    except (ValueError, RecursionError) as error:
        return _unreadable(path, line, error)
    return _checked(path, line, value, text)


def _unreadable(path: Path, line: int, error: Exception) -> Bad:
    found = "JSON nested too deeply" if isinstance(error, RecursionError) else str(error)
    return Bad(str(path), line, "", found, "plain JSON with each key once", "correct or delete the row")


def _checked(path: Path, line: int, value: Any, text: str) -> Row | Bad:
    if not isinstance(value, dict):
        return Bad(str(path), line, "", shown(value), 'a JSON object, as {"text": "..."}', "write the row as an object")
    if "\\u" in text:
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            found = f"half a character (\\u{ord(error.object[error.start]):04x})"
            return Bad(
                str(path), line, "", found, "whole Unicode characters", "write the character itself or both halves"
            )
    return value


def _pairs(pairs: list[tuple[str, Any]]) -> Row:
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{'a key' if HIDDEN.get() else f'the key {twice!r}'} twice in one object")
    return row


def _no_constant(name: str) -> float:
    raise ValueError(f"{name}, which is not JSON")


_decoder = json.JSONDecoder(object_pairs_hook=_pairs, parse_constant=_no_constant)
_blank = re.compile(r"[\s]*")


def _json(path: Path) -> Iterator[tuple[int, Row | Bad]]:
    if path.stat().st_size > MAX_JSON:
        raise UserError(f"{path} is larger than {MAX_JSON >> 20} MB. Write it as .jsonl, one object a line.")
    lines = [text or "" for _, text in numbered_lines(path, limit=MAX_JSON)]
    first = next((text.strip() for text in lines if text.strip()), "")
    if first.startswith("{"):
        yield from _json_object(path, first)
        return
    if not first.startswith("["):
        raise UserError(f"{path} starts with {shown(first[:30])}; expected a JSON list of objects, '[ {{...}}, ... ]'.")
    last = 0
    for line, row in _json_list(path, "".join(lines)):
        last = max(line, last + 1)  # several may stand on a line, and are told apart by it
        yield last, replace(row, line=last) if isinstance(row, Bad) else row


def _json_object(path: Path, first: str) -> Iterator[tuple[int, Row | Bad]]:
    """A .json file that starts with an object: read as .jsonl when its first line is whole."""
    try:
        _decoder.decode(first)
    except (ValueError, RecursionError):
        raise UserError(
            f"{path} holds one JSON object; expected a list of rows. Put the rows into '[ ... ]', "
            "or one object a line in a .jsonl file."
        ) from None
    yield from _jsonl(path)


def _json_list(path: Path, text: str) -> Iterator[tuple[int, Row | Bad]]:
    at, line, seen = text.index("[") + 1, 1, 0
    while True:
        at = _skip(text, at)
        line, seen = line + text.count("\n", seen, at), at
        if text[at : at + 1] == "]":
            break
        try:
            value, end = _decoder.raw_decode(text, at)
        except json.JSONDecodeError as error:
            found = f"broken JSON ({error.msg} at column {error.colno})"
            yield error.lineno, Bad(str(path), error.lineno, "", found, "an object or ']'", _UNREAD, stops=True)
            return
        except (ValueError, RecursionError) as error:
            yield line, replace(_unreadable(path, line, error), stops=True)
            return
        yield line, _checked(path, line, value, text[at:end])
        at = _skip(text, end)
        if text[at : at + 1] == ",":
            at += 1
        elif text[at : at + 1] != "]":
            line += text.count("\n", seen, at)
            found = shown(text[at : at + 20])
            yield line, Bad(str(path), line, "", found, "',' or ']'", _UNREAD, stops=True)
            return
    rest = _skip(text, at + 1)
    if rest < len(text):
        line += text.count("\n", seen, rest)
        yield line, Bad(str(path), line, "", shown(text[rest : rest + 20]), "nothing after the list", "delete it")


def _skip(text: str, at: int) -> int:
    found = _blank.match(text, at)
    return found.end() if found else at


def _csv(path: Path) -> Iterator[tuple[int, Row | Bad]]:
    return _table(path, ",")


def _tsv(path: Path) -> Iterator[tuple[int, Row | Bad]]:
    return _table(path, "\t")


def _table(path: Path, delimiter: str) -> Iterator[tuple[int, Row | Bad]]:
    """Rows of a table with a header; an empty cell is None; ragged rows are told."""
    csv.field_size_limit(2**31 - 1)  # our own bound is the length of a line
    broken: list[Bad] = []
    lines = _table_lines(path, broken)
    head = next(lines, "")
    if delimiter not in head:
        # What spreadsheets write where the comma is the decimal mark.
        delimiter = next((other for other in (";", "\t", ",") if other in head), delimiter)
    header = _header(path, head, delimiter)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        start = reader.line_num + 2
        try:
            cells = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            found = f"a broken row ({error})"
            mend = "close the quote or double it; what follows could not be read"
            yield start, Bad(str(path), start, "", found, "quotes that are closed", mend, stops=True)
            break
        if broken:
            yield from ((bad.line, bad) for bad in broken)
            broken.clear()
            continue
        cells = cells or [""] * (len(header) == 1)  # an empty cell alone on its line
        if cells and len(cells) != len(header):
            mend = f"put quotes around cells that hold '{delimiter}', or fill in what is missing"
            yield start, Bad(str(path), start, "", counted(len(cells), "cell"), f"{len(header)} as in the header", mend)
        elif delimiter == "\t" and _swallowed(cells, len(header)):
            found = f"a quote that takes in {counted(reader.line_num + 1 - start, 'further line')}"
            mend = "double the quotes of a quotation and put quotes around its cell"
            yield start, Bad(str(path), start, "", found, "quotes that are closed in their cell", mend)
        elif cells:
            yield start, {name: cell or None for name, cell in zip(header, cells, strict=True)}
    yield from ((bad.line, bad) for bad in broken)


def _swallowed(cells: Sequence[str], width: int) -> bool:
    """Whether a quote of a quotation took in whole rows: each of the lines would be one by itself."""
    if width < 2 or not any(cells):
        return False
    first, *others = (line for line in "\t".join(cells).split("\n") if line)
    rows = [line for line in others if line.count("\t") == width - 1 and not line.startswith("\t")]
    return bool(others) and first.count("\t") == width - 1 and len(rows) == len(others)


def _table_lines(path: Path, broken: list[Bad]) -> Iterator[str]:
    """Lines for the csv module; one it cannot take is passed as an empty line and told in `broken`."""
    for line, text in numbered_lines(path):
        if text is None:
            broken.append(too_long(path, line))
        elif "\0" in text:
            broken.append(Bad(str(path), line, "", "a NUL byte", "text", "remove it: tr -d '\\000' < in > out"))
        yield "\n" if text is None or "\0" in text else text


def _header(path: Path, head: str, delimiter: str) -> list[str]:
    try:
        header = [name.strip() for name in next(csv.reader(io.StringIO(head), delimiter=delimiter, strict=True), [])]
    except csv.Error as error:
        raise UserError(f"{path}, line 1: the header is broken ({error}). Write column names on one line.") from None
    problems = []
    if not any(header):
        problems.append(f"{path}, line 1: found an empty line; expected column names. Put a header there.")
    elif "" in header:
        at = header.index("") + 1
        problems.append(f"{path}, line 1: column {at} has no name. Name every column, or delete the empty one.")
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if twice:
        problems.append(f"{path}, line 1: column {', '.join(twice)} stands more than once. Give each its own name.")
    if problems:
        raise UserError(problems)
    return header


def _txt(path: Path) -> Iterator[tuple[int, Row | Bad]]:
    """Plain text: paragraphs when blank lines part them, else one row a line."""
    paragraphs = _has_blank_line(path)
    held: list[str] = []
    start = 1
    for line, text in numbered_lines(path):
        if text is None:
            yield line, too_long(path, line)
            continue
        if held and (not paragraphs or not text.strip()):
            yield start, {"text": "".join(held).strip("\r\n")}
            held = []
        if text.strip():
            start = start if held else line
            held.append(text.replace("\r\n", "\n"))
    if held:
        yield start, {"text": "".join(held).strip("\r\n")}


def _has_blank_line(path: Path) -> bool:
    """Whether a blank line stands between two lines of text."""
    texts = (bool(text is None or text.strip()) for _, text in numbered_lines(path))
    blank = begun = False
    for has_text in texts:
        if has_text and blank and begun:
            return True
        begun, blank = begun or has_text, not has_text
    return False


def _parquet(path: Path) -> Iterator[tuple[int, Row | Bad]]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MissingPart(f"{path}: reading parquet needs pyarrow. Run: pip install 'tunewright[parquet]'") from None
    number = 0
    try:
        for batch in pyarrow.parquet.ParquetFile(path).iter_batches(batch_size=1000):
            for row in batch.to_pylist():
                number += 1
                yield number, row
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path} is not a whole parquet file (row {number + 1}: {reason}). Write it again.") from None


def without_nulls(value: Any) -> Any:
    """Without the keys of nested objects that are null: parquet gives every object all keys that any has."""
    if isinstance(value, dict):
        return {key: without_nulls(inner) for key, inner in value.items() if inner is not None}
    return [*map(without_nulls, value)] if isinstance(value, list) else value


READERS: dict[str, Callable[[Path], Iterable[tuple[int, Row | Bad]]]] = {
    ".jsonl": _jsonl,
    ".json": _json,
    ".csv": _csv,
    ".tsv": _tsv,
    ".parquet": _parquet,
    ".dta": read_stata,
    ".txt": _txt,
}
"""File name's end -> reader."""


def too_long(path: Path, line: int) -> Bad:
    """A line over the bound, which was skipped without being held."""
    bound = f"{files.MAX_LINE >> 20} MB"
    return Bad(str(path), line, "", f"a line over {bound}", f"at most {bound} a line", "split the row or delete it")
