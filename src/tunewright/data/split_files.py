"""A folder of rows: which file is which split."""

from __future__ import annotations

from pathlib import Path

from tunewright.core.errors import UserError
from tunewright.data.class_folder import is_class_folder
from tunewright.data.readers import READERS

SPLITS = {
    "train": ("train", "training"),
    "valid": ("valid", "val", "validation", "dev", "eval"),
    "test": ("test", "testing"),
}
"""Our name of a split -> names that are taken for it, in files and in the `split` column."""


def find_files(path: Path) -> dict[str, Path]:
    """The files of a data set: split -> file; a single file stands under the name '' (no split given).

    Raises:
        UserError: Nothing is there, no file has a split's name, or two files claim one split.
    """
    if not path.is_dir() or (is_class_folder(path) and not _split_folders(path) and not _tables(path)):
        return {"": path}
    found: dict[str, list[Path]] = {}
    for file in sorted(path.iterdir()):
        split = split_name(file.stem)
        if split and (file.suffix.lower() in READERS or is_class_folder(file)):
            found.setdefault(split, []).append(file)
    if "train" not in found:
        there = ", ".join(sorted(p.name for p in path.iterdir())[:10]) or "nothing"
        raise UserError(
            f"{path} is a folder without a train file; found {there}. Expected train, valid, test with one of "
            f"{', '.join(READERS)} (train.jsonl). Rename the files, or give one file."
        )
    twice = [files for files in found.values() if len(files) > 1]
    if twice:
        raise UserError(
            f"{path}: {' and '.join(p.name for p in files)} are the same split. Leave one." for files in twice
        )
    files = {split: found[split][0] for split in SPLITS if split in found}
    return files if len(files) > 1 else {"": files["train"]}


def overlooked(path: Path) -> list[Path]:
    """What has the name of a split that is given no file, and cannot be read as one: test.xlsx, test/ of tables.

    Args:
        path: Where `find_files` finds files.
    """
    if not path.is_dir() or ((files := find_files(path)).keys() == {""} and files[""] == path):
        return []
    known, tables = {None, "train", *files}, _tables(path)
    return [file for file in sorted(path.iterdir()) if _named(file, tables) not in known]


def _named(file: Path, tables: bool) -> str | None:
    """The split that a file of rows, packed ones too, has the name of, or a folder of such; of pictures beside tables
    it is the tables' rows that say what is in which."""
    split = split_name(file.name.partition(".")[0])
    if split is None:
        return None
    inside = [*file.iterdir()] if file.is_dir() else [file]
    rows = any(one.suffix.lower() in _ROWS for one in inside)
    return split if rows or (file.is_dir() and inside and not tables) else None


_ROWS = {
    *READERS,
    ".xlsx",
    ".xls",
    ".ods",
    ".gz",
    ".zip",
    ".bz2",
    ".xz",
    ".zst",
    ".arrow",
    ".feather",
    ".sav",
    ".sas7bdat",
}
"""What rows come in, read or not."""


def _tables(path: Path) -> bool:
    """Whether a table of rows lies in it: then folders of pictures beside it are what its rows name."""
    tables = {*READERS} - {".txt"}  # which often lists the names of a split's pictures
    return any(split_name(file.stem) == "train" and file.suffix.lower() in tables for file in path.iterdir())


def _split_folders(path: Path) -> bool:
    """Whether the folders in it are splits with a folder a label in each, not labels themselves."""
    return any(split_name(inner.name) and is_class_folder(inner) for inner in path.iterdir())


def split_name(word: str) -> str | None:
    """Our name of a split for any of its names, else None."""
    return next((ours for ours, names in SPLITS.items() if word.strip().lower() in names), None)
