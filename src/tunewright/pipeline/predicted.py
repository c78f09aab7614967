"""Rows on their way through `predict`: a first reading of the whole file, and an output that grows row by row."""

from __future__ import annotations

import csv
import json
import os
from codecs import BOM_UTF8
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, TextIO

from filelock import FileLock, Timeout

from tunewright.core.errors import SHOWN, UserError, nearest
from tunewright.core.files import file_digest, naming, read_json, write_json
from tunewright.data.lines import numbered_lines
from tunewright.data.readers import Bad, all_rows

ADDED = ("prediction", "probability", "abstain", "prediction_note")
"""What predict adds; the note says why a row has no answer, or that the answer is not finished."""
UNREAD = "unread"
"""Column of what stood in a row that cannot be read, where there are no cells to keep."""
_TABLES = {".csv": ",;\t", ".tsv": "\t;,"}
"""Kinds of tables -> what may part their cells, the likeliest first."""


@dataclass(frozen=True)
class Given:
    """The file of rows as a first reading finds it, so that what spoils all of it is told before anything is asked."""

    path: Path
    columns: tuple[str, ...]
    """Every column of any row, in the order in which they first appear."""
    count: int
    unread: bool
    """Whether rows that cannot be read go into a column of their own."""

    @classmethod
    def read(cls, path: Path) -> Given:
        """Reads the file once to its end.

        Raises:
            UserError: It is missing, a folder or no such file; it breaks off; or not one of its rows can be read.
        """
        if not path.is_file():
            beside = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
            found = "is a folder" if path.is_dir() else f"does not exist.{nearest(path.name, beside)}"
            raise UserError(f"ROWS {path} {found.rstrip('.')}. Give one file of rows, as rows.csv or rows.jsonl.")
        columns: dict[str, None] = {}
        count, bad, told = 0, 0, list[str]()
        for _, row in all_rows(path):
            count += 1
            if not isinstance(row, Bad):
                columns |= dict.fromkeys(row)
                continue
            if row.stops:
                raise UserError([str(row), "No row was answered. Mend this one and start again."])
            bad += 1
            told += [str(row)] if bad <= SHOWN else []
        if bad == count:
            raise UserError([*told, f"None of the {count} rows of {path} can be read. Mend them and start again."])
        return cls(path, tuple(columns), count, bad > 0 and path.suffix.lower() not in _TABLES)

    @cached_property
    def separator(self) -> str:
        """What parts the header of a CSV into the columns that were found; a comma for other kinds."""
        separators = _TABLES.get(self.path.suffix.lower(), ",")
        head = next(numbered_lines(self.path))[1] or ""
        for separator in separators:
            if tuple(name.strip() for name in next(csv.reader([head], delimiter=separator), [])) == self.columns:
                return separator
        return separators[0]

    @cached_property
    def mark(self) -> str:
        """The mark that some programs want at the beginning of a CSV to know it as UTF-8, where these rows have it."""
        with open(self.path, "rb") as file:
            return "\ufeff" if self.path.suffix.lower() in _TABLES and file.read(3) == BOM_UTF8 else ""


class Standing:
    """What stands in rows that cannot be read, so that they come back recognisable; lines are asked for in order."""

    def __init__(self, given: Given) -> None:
        self.given = given
        self.kind = given.path.suffix.lower()
        self.at, self.lines = 0, numbered_lines(given.path)

    def row(self, bad: Bad) -> dict[str, Any]:
        """The cells that are there, those too many in the last column; of other files the line as it stands."""
        text = self._line(bad.line) if self.kind in (".jsonl", *_TABLES) else None
        if self.kind not in _TABLES:
            return {UNREAD: bad.found if text is None else text.rstrip("\r\n")}
        if text is None:  # too long to be held
            return {}
        # A line with a NUL is a bad row by itself; any other goes on to the end of its quotes.
        more = () if "\0" in text else (line or "" for _, line in self.lines)
        cells = next(csv.reader(chain([text], more), delimiter=self.given.separator), [])
        last = len(self.given.columns) - 1
        rest = [self.given.separator.join(cells[last:])] if len(cells) > last else []
        return dict(zip(self.given.columns, [*cells[:last], *rest], strict=False))

    def _line(self, number: int) -> str | None:
        if number <= self.at:
            self.at, self.lines = 0, numbered_lines(self.given.path)
        for at, text in self.lines:
            self.at = at
            if at == number:
                return text
        return None


@dataclass(slots=True)
class Tally:
    """What became of the rows so far, those of an interrupted start included."""

    done: int = 0
    answered: int = 0
    cut: int = 0
    """Answered rows whose context did not fit."""
    reasons: list[str] = field(default_factory=list)
    """Why rows were not answered: the first `SHOWN`."""


class Output:
    """A file of predictions that grows row by row beside its final name, with a record of how far it is.

    Used as a context: left by an exception before any row was answered, it leaves nothing behind.
    """

    def __init__(self, out: Path, given: Given, identity: dict[str, Any], added: Sequence[str] = ADDED) -> None:
        """Goes on with an unfinished output of the same rows and identity, else starts anew.

        Args:
            out: The file.
            given: The rows.
            identity: What the answers depend on.
            added: The columns of the answers.

        Raises:
            UserError: The output's kind is unknown, it cannot be written, or something of the user's would be lost.
        """
        self.out, self.csv = out, out.suffix.lower() == ".csv"
        if not self.csv and out.suffix.lower() != ".jsonl":
            raise UserError(f"--out {out}: found '{out.suffix}'; .csv and .jsonl can be written.")
        if out.resolve() == given.path.resolve():
            raise UserError(f"--out {out} is the file of rows itself. Give another file.")
        if taken := [name for name in added if name in given.columns]:
            raise UserError(
                f"{given.path} has columns that predict adds and would overwrite: {', '.join(taken)}. Rename them or "
                "leave them out."
            )
        self.given, self.added = given, added
        self.columns = [*dict.fromkeys([*given.columns, *([UNREAD] if given.unread else []), *added])]
        self.partial, self.state = (out.with_name(f".{out.name}.{end}") for end in ("partial", "state.json"))
        # As the rows' own table parts cells, so that what opened that one opens this one.
        self.separator = given.separator if given.path.suffix.lower() == ".csv" else ","
        self.identity = {**identity, "rows": file_digest([given.path]), "separator": self.separator}
        self.tally = Tally()
        self.lock = FileLock(out.with_name(f".{out.name}.lock"), timeout=0)
        self.file = self._begun()

    def _begun(self) -> TextIO:
        in_the_way = [p for p in self.out.parents if p.exists() and not p.is_dir()]
        try:
            if self.out.is_dir() or in_the_way:
                what = f"{in_the_way[0]} is a file, not a folder" if in_the_way else "it is a folder"
                raise UserError(f"--out {self.out} cannot be written: {what}. Give the name of a file.")
            self.out.parent.mkdir(parents=True, exist_ok=True)
            self.lock.acquire()
            self._go_on()
            file = open(self.partial, "a", encoding="utf-8", newline="")  # noqa: SIM115  (closed by __exit__)
        except Timeout:
            raise UserError(f"--out {self.out} is being written by another process. Wait for it, or stop it.") from None
        except OSError as error:
            self._let_go()
            raise UserError(
                f"--out {self.out} cannot be written ({error.strerror}). Give a file in a folder that you may write to."
            ) from None
        return file

    def _go_on(self) -> None:
        """Takes up what an interrupted start has left, or makes both files anew."""
        kept = read_json(self.state) if self.partial.is_file() and self.state.is_file() else {}
        if kept.get("identity") == self.identity and self.partial.stat().st_size >= kept["length"]:
            self.tally = Tally(**kept["tally"])
            os.truncate(self.partial, kept["length"])
            return
        self.partial.write_bytes(b"")
        self._record()

    def __enter__(self) -> Output:
        return self

    def __exit__(self, *error: object) -> None:
        try:
            with naming(self.partial):
                self.file.close()  # which still writes, and a full disk refuses that again
            if not self.tally.answered:
                self.partial.unlink(missing_ok=True)
                self.state.unlink(missing_ok=True)
        finally:
            self._let_go()

    def _let_go(self) -> None:
        if self.lock.is_locked:
            Path(self.lock.lock_file).unlink(missing_ok=True)
            self.lock.release()

    def write(self, rows: Sequence[dict[str, Any]], answers: Sequence[dict[str, Any] | str], cut: int) -> None:
        """Appends rows with their answers (a text says why there is none), then records how far the file is."""
        with naming(self.partial):
            self._append(rows, answers, cut)

    def _append(self, rows: Sequence[dict[str, Any]], answers: Sequence[dict[str, Any] | str], cut: int) -> None:
        if self.csv and not self.tally.done:
            self.file.write(self.given.mark)
            self._cells(self.columns)
        for row, answer in zip(rows, answers, strict=True):
            if isinstance(answer, str):
                none = dict.fromkeys(self.added)
                self._line({**row, **none, "prediction": "", "abstain": True, "prediction_note": answer})
                continue
            self._line({**row, **answer})
            self.tally.answered += 1
        self.file.flush()
        os.fsync(self.file.fileno())
        reasons = [answer for answer in answers if isinstance(answer, str)]
        self.tally.reasons = [*self.tally.reasons, *reasons][:SHOWN]
        self.tally.done += len(rows)
        self.tally.cut += cut
        self._record()

    def finish(self) -> None:
        """The partial file takes its final name."""
        self.file.close()
        self.partial.replace(self.out)
        self.state.unlink(missing_ok=True)

    def _record(self) -> None:
        length = self.partial.stat().st_size
        write_json(self.state, {"identity": self.identity, "length": length, "tally": asdict(self.tally)})

    def _line(self, row: dict[str, Any]) -> None:
        if self.csv:
            self._cells([_cell(row.get(name)) for name in self.columns])
        else:
            self.file.write(json.dumps(row, ensure_ascii=False, default=str) + "\n")

    def _cells(self, cells: Sequence[Any]) -> None:
        csv.writer(self.file, delimiter=self.separator).writerow(cells)


def _cell(value: Any) -> Any:
    """A cell of a CSV: nested values as JSON, None as empty, truth as true/false."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    return "" if value is None else value
