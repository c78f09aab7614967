"""A data set opened whole: its examples in three splits, and all that is known of it."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np

from tunewright.core.errors import UserError
from tunewright.core.progress import Progress, silent
from tunewright.core.records import Example
from tunewright.core.settings import DataSettings
from tunewright.data import findings
from tunewright.data.columns import kind_of, mixed_kinds
from tunewright.data.content import by_content, fingerprint_of, first_rows
from tunewright.data.duplicates import SEARCHED, Groups, Identities, identify, near_groups
from tunewright.data.formats import counted
from tunewright.data.given import overlap_sentences, unasked
from tunewright.data.hazards import safety_facts
from tunewright.data.identifiers import identifier_facts
from tunewright.data.kept import KeptRows, RowFile, example_file
from tunewright.data.keys import text_keys
from tunewright.data.named_columns import column_of
from tunewright.data.pool import POOL, known_again, pooled
from tunewright.data.readers import Bad, BadRows
from tunewright.data.reading import Aside, open_file
from tunewright.data.split_files import find_files
from tunewright.data.splits import NAMES, Overlap, check_time, make_splits, overlap_counts, overlaps
from tunewright.data.subgroups import by_facts

_COLUMNS = ("numbers", "files", "lines", "splits")
"""Of `_Collected`, one entry a row."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """Examples in three splits, each ordered by content, and what is known of them."""

    train: KeptRows[Example]
    valid: KeptRows[Example]
    test: KeptRows[Example]
    labels: tuple[str, ...] | None
    """The closed set of answers, sorted; None when answers are free."""
    splits_given: bool
    fingerprint: str
    """Hash of all rows and of the split each is in; the order of rows in the files does not matter."""
    facts: dict[str, Any]
    """JSON-able: what `data.json` holds of the rows."""

    def without(self, overlong: Mapping[str, Sequence[int]]) -> Dataset:
        """The rows that are left when too long ones are dropped, with facts that are true of them.

        Args:
            overlong: Numbers of the dropped rows in each split.
        """
        total = sum(map(len, overlong.values()))
        if not total:
            return self
        splits = {name: getattr(self, name) for name in NAMES}
        splits = {
            name: rows.take(np.delete(rows.numbers, np.array(overlong.get(name, ()), dtype=np.intp)))
            for name, rows in splits.items()
        }
        facts = self.facts | {
            "counts": {name: len(rows) for name, rows in splits.items()},
            "units": {name: len({row.unit or f"\0{n}" for n, row in enumerate(rows)}) for name, rows in splits.items()},
            **findings.label_facts(self.labels, splits),
            "dropped": self.facts["dropped"] | {"overlong": total},
        }
        return replace(self, **splits, facts=facts)


@dataclass(slots=True)
class _Collected:
    """Everything read: the examples on disk, and in parallel columns where each stood and its number in the file."""

    format: str = ""
    independent: bool = False
    by_time: bool = False
    file: RowFile[Example] = field(default_factory=example_file)
    numbers: array[int] = field(default_factory=lambda: array("I"))
    files: list[str] = field(default_factory=list)
    lines: array[int] = field(default_factory=lambda: array("L"))
    splits: list[str | None] = field(default_factory=list)
    bad: list[Bad] = field(default_factory=list)
    late: int = 0
    """Rows of the pool from years that are held out, which do not train either."""
    file_facts: list[dict[str, Any]] = field(default_factory=list)
    aside: list[Aside] = field(default_factory=list)
    """Rows that stand in other rows' contexts alone, each with the split it was given; those of the pool last."""
    unread: set[str] = field(default_factory=set)
    """Columns that nothing reads."""
    weight: str = ""
    """The column that says how much a row is trained on."""
    unasked: list[str] = field(default_factory=list)
    """Sentences on given splits without a row that anything is asked of."""

    @property
    def examples(self) -> KeptRows[Example]:
        """The rows as they were parsed."""
        return KeptRows(self.file, lambda number, example: example, np.array(self.numbers))

    def add(self, file: str, line: int, example: Example, split: str | None) -> None:
        """Takes one more row."""
        self.numbers.append(len(self.file))
        self.file.append(example)
        self.files.append(file)
        self.lines.append(line)
        self.splits.append(split)

    def place(self, row: int) -> str:
        """Where a row stood; those aside are counted on after the others."""
        if row < len(self.numbers):
            return f"{self.files[row]}, line {self.lines[row]}"
        aside = self.aside[row - len(self.numbers)]
        return f"{aside.file}, line {aside.line}"

    def drop(self, places: set[tuple[str, int]]) -> None:
        """Takes out rows that were found bad after they were parsed."""
        if not places:
            return
        keep = [place not in places for place in zip(self.files, self.lines, strict=True)]
        for name in _COLUMNS:
            setattr(self, name, _kept(getattr(self, name), keep))


def _kept(column: Any, keep: Iterable[bool]) -> Any:
    """Part of a column; a list stays a list, an array an array."""
    rest = column[:0]
    rest.extend(compress(column, keep))
    return rest


def open_dataset(settings: DataSettings, progress: Progress = silent, *, seed: int = 0) -> Dataset:
    """Reads, checks and splits a data set.

    Args:
        settings: Where the rows are and how they are read.
        progress: Told what is going on.
        seed: Moves which units land in which split, when the user gives no splits.

    Raises:
        UserError: Something in the files or settings cannot stand; all faults of a stage at once, each with its mend.
    """
    if not settings.path:
        raise UserError("data.path: no file was given. Name a file, or a folder with train, valid and test files.")
    read = _collect(_files(settings), settings, progress)
    examples = read.examples
    labels = findings.closed_set(examples, read.format, (row.answer for row in read.aside))
    if labels:
        examples, labels = findings.labelled(examples, labels)
    progress("looking for duplicates", 0, len(examples))
    rows = identify(examples, settings.instruction, read.independent)
    if read.independent:
        near, coverage = Groups(len(examples)), 1.0
    else:
        near, coverage = near_groups(examples.change(lambda _, example: rows.near(example)))
    examples = findings.named(examples, rows)
    if coverage < 1:
        progress(f"near duplicates: searched {coverage:.0%} of the rows (at most {SEARCHED} long ones)", 1, 1)
    split, found, carved = _split(read, rows, near, settings, seed)
    facts = _facts(read, settings) | {
        **findings.duplicate_facts(examples, rows, near, coverage),
        **findings.contradiction_facts(examples, rows),
        "identifiers": identifier_facts(examples),
        # Measured on the final splits, not assumed: after a drop, or in our own splits, all must be 0.
        "overlap": overlap_counts([] if read.by_time else overlaps(rows, split, near)),
        "overlap_given": overlap_counts(found),
        "splits_made": carved,
        **({"by_time": True} if read.by_time else {}),
    }
    return _assemble(examples, rows, split, labels, facts, settings)


def _files(settings: DataSettings) -> dict[str, Path]:
    """The files by split, and the pool's table if one is named."""
    files = find_files(Path(settings.path))
    if not settings.pool:
        return files
    if Path(settings.pool).is_dir():
        raise UserError(f"data.pool: {settings.pool} is a folder. Name one table; its rows are for training alone.")
    return files | {POOL: Path(settings.pool)}


def _collect(files: dict[str, Path], settings: DataSettings, tell: Progress) -> _Collected:
    read = _Collected()
    problems: list[str] = []
    for name, path in files.items():
        try:
            _collect_file(name, path, settings, read, tell)
        except BadRows as error:
            read.bad += error.bad
        except UserError as error:
            problems += error.problems
    if problems:
        problems = [*dict.fromkeys(problems)]  # what is wrong with the settings is found in every file
        raise BadRows(read.bad, problems) if read.bad else UserError(problems)
    twice = findings.repeated_ids(read.examples, read.files, read.lines)
    read.bad = sorted({*read.bad, *twice}, key=lambda bad: (bad.file, bad.line))
    read.drop({(bad.file, bad.line) for bad in read.bad})
    if read.bad and (settings.on_bad_row == "stop" or not read.numbers or any(bad.stops for bad in read.bad)):
        raise BadRows(read.bad)
    asked = {name or "" for name in read.splits} | ({POOL} if read.late else set())
    mute = unasked(files, asked, read.aside)
    if mute and (not read.numbers or POOL in mute):
        raise UserError([*mute.values()])
    read.unasked = [*mute.values()]
    return read


def _collect_file(name: str, path: Path, settings: DataSettings, read: _Collected, tell: Progress) -> None:
    # The format is found once, from train, so that all files are read alike.
    known = {"format": read.format} if read.format else {}
    # Nobody of a pool is tested, so it may lack what only figures of the test need.
    unneeded = {"survey_weight": None, "slices": ()} if name == POOL else {}
    opened = open_file(path, settings.model_copy(update={**known, **unneeded}))
    read.format, read.independent, read.by_time = opened.format, opened.independent, opened.by_time
    read.unread |= {*opened.unread}
    read.weight = read.weight or opened.weight
    split_column = column_of("split", settings.map)
    kinds: dict[str, dict[str, array[int]]] = {settings.map.get(column, column): {} for column in opened.uniform}
    good = before = len(read.numbers)
    for item in opened.rows:
        if isinstance(item.result, Bad):
            read.bad.append(item.result)
            continue
        good += 1
        if opened.by_time and name != POOL and (name or split_column in item.row):
            raise UserError(
                f"{settings.path}: splits are given (as files, or in the column 'split'), and data.options.test_from "
                "makes others. Leave out test_from, or give one file without splits."
            )
        if name != POOL and name and item.split and name != item.split:
            raise UserError(
                f"{path}, line {item.line}: the column 'split' says {item.split}, and the file {name}. Leave the "
                "column out, or give one file that is split by it."
            )
        if name == POOL and opened.by_time and item.split != "train":
            good, read.late = good - 1, read.late + 1
        elif name == POOL:
            read.add(str(path), item.line, pooled(item.result), POOL)
        else:
            read.add(str(path), item.line, item.result, name or item.split)
        for column, lines in kinds.items():
            lines.setdefault(kind_of(item.row.get(column)), array("L")).append(item.line)
        if good % 5000 == 0:
            tell(f"reading {path.name}", good - before, 0)
    # By time the year alone says which split a row is of, so no split was given.
    read.aside += (replace(row, split=name or (None if opened.by_time else row.split)) for row in opened.aside)
    for column, lines in kinds.items():
        read.bad += mixed_kinds(opened, column, lines)
    sha256, size = _content(path)
    read.file_facts.append({"file": str(path), "sha256": sha256, "rows": good - before, "bytes": size})


def _content(path: Path) -> tuple[str, int]:
    """SHA-256 and size of a file, or of all files in a folder of pictures."""
    total, size = hashlib.sha256(), 0
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            with open(file, "rb") as opened:
                one = hashlib.file_digest(opened, "sha256")
            size += file.stat().st_size
            if file == path:
                return one.hexdigest(), size
            total.update(f"{file.relative_to(path)} {one.hexdigest()}\n".encode())
    return total.hexdigest(), size


def _split(
    read: _Collected, rows: Identities, near: Groups, settings: DataSettings, seed: int
) -> tuple[list[str], list[Overlap], list[str]]:
    """The split of each row ('' = dropped), the overlaps found in given splits, and the splits that were carved."""
    if POOL in read.splits:
        return _split_beside_pool(read, rows, near, settings, seed)
    given = [name or "" for name in read.splits]
    if read.by_time:
        years = (example.context[-1].extra.get("year") for example in read.examples if example.context)
        check_time(given, years, settings.options.get("test_from"))
        return given, [], []
    # Nothing is asked of a person's first row, but it says who is in which split as any other does.
    aside = [row for row in read.aside if row.split != POOL]
    sides = [*given, *(row.split or "" for row in aside)]
    if set(sides) <= {"", "train"} and not read.unasked:
        return make_splits(rows, near, settings.splits, settings.max_test_units, seed), [], ["valid", "test"]
    if "" in sides:
        # Only a file without a `split` in some of its rows: half a split is none.
        missing = [read.place(i) for i, name in enumerate(sides) if not name]
        raise UserError(
            f"The column 'split' is missing in {counted(len(missing), 'row')} ({', '.join(missing[:5])}); expected it "
            "in all or none. Fill it in, or delete it."
        )
    found = overlaps(rows, sides, near, text_keys(row.unit for row in aside).tolist())
    told = overlap_sentences(found, sides, read.place, read.independent) if settings.on_overlap == "error" else []
    if told or read.unasked:
        raise UserError([*told, *read.unasked])
    for overlap in found:
        sides[overlap.row] = ""
    given = sides[: len(given)]
    train = [i for i, name in enumerate(given) if name == "train"]
    if not train:
        raise UserError("Every row of train also stands in validation or test: nothing is left. Give other splits.")
    if "test" in given:
        return given, found, []
    # Validation chooses the checkpoint, so it cannot be the proof: the test comes out of train.
    shares = (1 - settings.splits[2], 0.0, settings.splits[2])
    made = make_splits(rows.take(np.array(train)), _among(near, train), shares, settings.max_test_units, seed)
    for i, name in zip(train, made, strict=True):
        given[i] = name
    return given, found, ["test"]


def _split_beside_pool(
    read: _Collected, rows: Identities, near: Groups, settings: DataSettings, seed: int
) -> tuple[list[str], list[Overlap], list[str]]:
    """The target's rows are split as if they were alone; the pool trains, but for what stands in the target's tests."""
    own = [i for i, name in enumerate(read.splits) if name != POOL]
    keep = [name != POOL for name in read.splits]
    columns = {name: _kept(getattr(read, name), keep) for name in _COLUMNS}
    alone = replace(read, **columns)
    made, found, carved = _split(alone, rows.take(np.array(own)), _among(near, own), settings, seed)
    split = ["train"] * len(rows)
    for i, name in zip(own, made, strict=True):
        split[i] = name
    numbers = [*own, *range(len(rows), len(rows) + len(read.aside))]
    found = [replace(o, row=numbers[o.row], held_out=numbers[o.held_out]) for o in found]
    pool = set(range(len(rows))) - set(own)
    among = [overlap for overlap in overlaps(rows, split, near) if overlap.row in pool]
    if read.independent and not read.by_time:
        among += known_again(read.examples, split)
    if among and settings.on_overlap == "error":
        raise UserError(overlap_sentences(among, split, read.place, independent=False))
    for overlap in among:
        split[overlap.row] = ""
    return split, found + among, carved


def _among(near: Groups, rows: Sequence[int]) -> Groups:
    """Near duplicates among some rows."""
    groups = Groups(len(rows))
    groups.join_equal(near.roots()[np.array(rows)].astype(np.uint64) + np.uint64(1))
    return groups


def _facts(read: _Collected, settings: DataSettings) -> dict[str, Any]:
    stated = {name: getattr(settings, name) or "not stated" for name in ("source", "licence", "consent")}
    return {
        "path": settings.path,
        "format": read.format,
        "instruction": settings.instruction,
        "files": read.file_facts,
        "rows": len(read.numbers),
        "bad": [asdict(bad) for bad in read.bad],
        "late_pool": read.late,
        "unread": sorted(read.unread),
        "training_weight": "" if settings.survey_weight else read.weight,
        **stated,
        "use": settings.use,
    }


def _assemble(
    examples: KeptRows[Example],
    rows: Identities,
    split: Sequence[str],
    labels: tuple[str, ...] | None,
    facts: dict[str, Any],
    settings: DataSettings,
) -> Dataset:
    order = by_content(examples, rows)
    members = {name: order[np.fromiter((split[i] == name for i in order), bool)] for name in NAMES}
    cut = max(0, len(members["train"]) - settings.max_train_rows) if settings.max_train_rows else 0
    if cut:
        members["train"] = first_rows(members["train"], len(members["train"]) - cut, rows)
    train, valid, test = (examples.take(examples.numbers[members[name]]) for name in NAMES)
    valid, test = by_facts(valid, test, settings)
    fingerprint = fingerprint_of({name: rows.content[group] for name, group in members.items()})
    facts |= findings.counts(members, rows) | {
        "unit": settings.unit or ("unit" if rows.unit.any() else "row"),
        "labels": list(labels) if labels else None,
        **findings.label_facts(labels, {"train": train, "valid": valid, "test": test}),
        "labels_alike": findings.labels_alike(labels or ()),
        "dropped": {
            "bad_rows": len({(b["file"], b["line"]) for b in facts["bad"]}),
            "overlap": split.count(""),
            "max_train_rows": cut,
            "late_pool": facts.pop("late_pool"),
        },
        "splits_given": len(facts["splits_made"]) < 2,
        "fingerprint": fingerprint,
        "safety": safety_facts(train),
    }
    return Dataset(train, valid, test, labels, facts["splits_given"], fingerprint, facts)
