"""Files that are whole or absent, content hashes, and where the cache is."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tunewright.core.errors import UserError


def cache_folder() -> Path:
    """`${TUNEWRIGHT_CACHE:-~/.cache/tunewright}`."""
    return Path(os.environ.get("TUNEWRIGHT_CACHE") or Path.home() / ".cache" / "tunewright")


def existing(name: str) -> Path | None:
    """The absolute path of the file or folder a text names, `~` understood; None when nothing lies there."""
    place = os.path.expanduser(name)  # takes any text, as os.path.exists does; Path's own raise on some
    return Path(place).resolve() if os.path.exists(place) else None


_FROM_RUST = re.compile(r"\(os error (\d+)\)")
"""How writers of safetensors and tokenizers, which raise exceptions of their own, pass on what the system said."""


def system_error(error: BaseException) -> int:
    """The number of what the system said, by an `OSError` or through a library; 0 where it said nothing."""
    if isinstance(error, OSError):
        return error.errno or 0
    told = _FROM_RUST.search(str(error))
    return int(told[1]) if told else 0


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """A failure of the system within it names this path; a full disk names none by itself.

    It stays the `OSError` that it is: who can do without the file catches it, and the command line says it in words.
    """
    try:
        yield
    except OSError as error:
        error.filename = str(path)
        raise


def make_folder(path: Path) -> None:
    """Makes a folder, with those above it, unless it is there.

    Raises:
        OSError: It cannot be made; where a file stands in its place, this is `NotADirectoryError`.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), error.filename) from None


def require_other(out: Path, *inputs: str | Path | None) -> None:
    """Refuses to write a result over what it is made from.

    Raises:
        UserError: `out` is one of the inputs, or lies in one that is a folder.
    """
    if not out.exists():
        return
    for given in inputs:
        place = existing(str(given)) if given else None
        if place is not None and out.resolve().is_relative_to(place):
            raise UserError(f"{out} is what is read here, and would be overwritten. Give another file.")


def require_writable(path: Path) -> None:
    """Tries now what `write_atomic` will do, before long work is done for the file.

    Raises:
        OSError: A file cannot be written there.
    """
    with naming(path):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        make_folder(path.parent)
        beside = _beside(path)
        try:
            beside.touch()
        finally:
            beside.unlink(missing_ok=True)


def write_atomic(path: Path, content: str | bytes, mode: int = 0o666) -> None:
    """Writes beside the target, flushes to disk, then renames: readers see the old file or the new one.

    Args:
        path: The target.
        content: All of it.
        mode: Who may read and write it, less what the umask takes; 0o600 = the owner alone.
    """
    with naming(path):
        make_folder(path.parent)
        beside = _beside(path)
        try:
            with open(beside, "wb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
                file.write(content.encode() if isinstance(content, str) else content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, path)
        finally:
            beside.unlink(missing_ok=True)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def flush(folder: Path) -> None:
    """Brings the files of a folder, and which files it has, to the disk, so that they outlive a loss of power."""
    for place in (*folder.rglob("*"), folder):
        descriptor = os.open(place, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_json(path: Path, value: Any) -> None:
    """JSON, indented, non-finite numbers refused (they would not be JSON)."""
    write_atomic(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """The content of a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def read_text(path: Path) -> str:
    """A text file that a user gives, with or without a byte order mark.

    Raises:
        UserError: It is not in UTF-8.
        OSError: It cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not in UTF-8 (byte {error.start + 1}: {error.reason}). Save it as UTF-8.") from None


def lines_of(text: str) -> list[str]:
    """The lines of a text file; `str.splitlines` would also cut at U+2028, U+0085 and others that stand inside JSON."""
    return text.removesuffix("\n").split("\n") if text else []


def cells_of(path: Path) -> Iterator[tuple[int, str, list[str]]]:
    """Number, text and cells (cut at tabs, stripped, composed) of each line of a word list that holds anything."""
    for number, line in enumerate(lines_of(read_text(path)), 1):
        if line.strip():
            yield number, line.strip(), [unicodedata.normalize("NFC", cell.strip()) for cell in line.split("\t")]


def digest(*values: Any) -> str:
    """A short hash of JSON-able values: the key of anything kept by content."""
    text = json.dumps(values, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_digest(paths: Iterable[Path]) -> str:
    """A short hash of file contents, in the given order."""
    total = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()[:16]
