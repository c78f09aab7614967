"""Lines of a file in bounded memory, with wrong encodings told by name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from charset_normalizer import from_bytes

from tunewright.core.errors import UserError

MAX_LINE = 64 * 2**20
"""Bytes; a longer line is refused without being held."""
_SAMPLE = 64 * 1024
_MARKS = {
    b"\xff\xfe\x00\x00": "UTF-32",
    b"\x00\x00\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
_OTHER_KINDS = {b"PK\x03\x04": "a ZIP archive or spreadsheet", b"\x1f\x8b": "a gzip archive", b"%PDF": "a PDF"}


def check_bytes(path: Path) -> None:
    """Looks at the beginning of a file.

    Raises:
        UserError: It is a folder, is not readable, is empty, or holds bytes that are not UTF-8 text.
    """
    try:
        with open(path, "rb") as file:
            sample = file.read(_SAMPLE)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}). Check its name and rights.") from None
    if not sample:
        raise UserError(f"{path} is empty (0 bytes). Put rows in it.")
    if path.suffix.lower() in (".parquet", ".dta"):  # no text
        return
    for mark, name in _MARKS.items():
        if sample.startswith(mark):
            raise UserError(wrong_encoding(path, f"a {name} byte order mark at its start", name))
    for mark, name in _OTHER_KINDS.items():
        if sample.startswith(mark):
            raise UserError(f"{path} is {name}, not text. Unpack it or export it as CSV or JSONL in UTF-8.")
    if sample.startswith(b"PAR1"):
        raise UserError(f"{path} is a parquet file by its content. Rename it to {path.stem}.parquet.")
    if sample.count(b"\0") > len(sample) // 4:
        end = "LE" if sample[1::2].count(b"\0") > sample[::2].count(b"\0") else "BE"
        raise UserError(wrong_encoding(path, "a NUL in every other byte", f"UTF-16{end}"))
    if b"\r" in sample and b"\n" not in sample:
        raise UserError(f"{path} ends its lines with CR alone (old Macintosh). Run: tr '\\r' '\\n' < {path} > new_file")


def numbered_lines(path: Path, limit: int | None = None) -> Iterator[tuple[int, str | None]]:
    """Each line with its number from 1, its line end kept; None for a line over the limit (`MAX_LINE` bytes).

    Raises:
        UserError: A line is not UTF-8; the sentence guesses what it is.
    """
    bound = limit or MAX_LINE
    with open(path, "rb") as file:
        number = 0
        while raw := file.readline(bound + 1):
            number += 1
            if len(raw) > bound and not raw.endswith(b"\n"):
                while len(raw) > bound and not raw.endswith(b"\n"):
                    raw = file.readline(bound + 1)
                yield number, None
                continue
            try:
                yield number, raw.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                found = f"byte 0x{raw[error.start]:02X} in line {number}, which is not UTF-8"
                raise UserError(wrong_encoding(path, found, _guess(path, raw))) from None


def wrong_encoding(path: Path, found: str, guess: str) -> str:
    """The sentence about a file that is not UTF-8."""
    return (
        f"{path}: found {found} (the file is probably {guess}); expected UTF-8. "
        f"Run: iconv -f {guess} -t UTF-8 {path} > new_file"
    )


def _guess(path: Path, line: bytes) -> str:
    """The likeliest encoding; short samples of western text look alike, so a tie goes to the commonest."""
    with open(path, "rb") as file:
        sample = file.read(_SAMPLE)
    if sample.isascii():
        sample = line[:_SAMPLE]
    best = from_bytes(sample).best()
    if best is None:
        return "latin1"
    same_text = best.could_be_from_charset
    return "cp1252" if "cp1252" in same_text else best.encoding.replace("_", "-")
