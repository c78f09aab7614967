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
_NO_CONTROL = bytes({*range(256)} - {*range(1, 9), *range(14, 27), *range(28, 32), 127})
_CONTROLS = 0.02
_EXPORT = "Unpack it or export it as CSV or JSONL in UTF-8."
_COMMON = [
    "cp1252", "cp1250", "cp1251", "koi8_r", "cp1253", "cp1254", "cp1255", "cp1256",
    "cp932", "euc_jp", "gb18030", "big5", "cp949",
]  # fmt: skip
_WESTERN, _FEW = 0.2, 8
"""Above this share of the letters, and this number, letters outside ASCII are not those of a western language."""
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
            raise UserError(f"{path} is {name}, not text. {_EXPORT}")
    if sample.startswith(b"PAR1"):
        raise UserError(f"{path} is a parquet file by its content. Rename it to {path.stem}.parquet.")
    if sample.count(b"\0") > len(sample) // 4:
        end = "LE" if sample[1::2].count(b"\0") > sample[::2].count(b"\0") else "BE"
        raise UserError(wrong_encoding(path, "a NUL in every other byte", f"UTF-16{end}"))
    if _is_binary(sample):
        raise UserError(f"{path} is no text (it is full of control bytes). {_EXPORT}")
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
        f"{path}: found {found}; expected UTF-8. Maybe it is {guess}: save it as UTF-8 where it comes from, or run "
        f"iconv -f {guess} -t UTF-8 {path} > new_file and look whether the letters are right."
    )


def _is_binary(sample: bytes) -> bool:
    """Whether more than a few bytes are control bytes, which no encoding of text has (NUL is told by its line)."""
    return len(sample.translate(None, _NO_CONTROL)) > max(4, len(sample) * _CONTROLS)


def _guess(path: Path, line: bytes) -> str:
    """A common encoding that fits. Western text has few letters outside ASCII, and those tell no encoding from
    another, so it counts as the commonest; where they are many, their frequencies tell."""
    with open(path, "rb") as file:
        sample = file.read(_SAMPLE)
    if sample.isascii():
        sample = line[:_SAMPLE]
    letters = sum(bytes((byte,)).isalpha() or byte > 127 for byte in sample)
    beyond = sum(byte > 127 for byte in sample)
    best = from_bytes(sample, cp_isolation=_COMMON).best() if beyond > max(_FEW, letters * _WESTERN) else None
    return best.encoding.replace("_", "-") if best else "cp1252"
