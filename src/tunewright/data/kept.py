"""Rows that live on disk and are read when they are asked for, behind an ordinary sequence."""

from __future__ import annotations

import json
import os
import tempfile
from array import array
from collections.abc import Callable, Iterator, Sequence
from operator import eq
from typing import Any, Generic, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from tunewright.core.errors import UserError
from tunewright.core.files import cache_folder
from tunewright.core.records import Answer, Example, Part, PartKind, Turn

HELD = 4 * 2**20
"""Bytes that stay in memory before they are written; data sets below it never touch the disk."""
T = TypeVar("T")
U = TypeVar("U")


class RowFile(Generic[T]):
    """An append-only file of records; of each, eight bytes stay in memory.

    The file has no name: nobody else can open it, and it is gone with the process, however that ends. It lies in
    the cache, since a folder for temporary files is often memory itself.

    Args:
        pack: A record as bytes, or None for one that is to stay in memory as it is.
        unpack: The record of those bytes.
    """

    def __init__(self, pack: Callable[[T], bytes | None], unpack: Callable[[bytes], T]) -> None:
        self._pack, self._unpack = pack, unpack
        self._offsets = array("Q", [0])
        self._held = bytearray()
        self._written = 0
        self._file: Any = None
        self._unpacked: dict[int, T] = {}

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def append(self, record: T) -> None:
        """Adds one record at the end."""
        packed = self._pack(record)
        if packed is None:
            self._unpacked[len(self)] = record
        self._held += packed or b""
        self._offsets.append(self._written + len(self._held))
        if len(self._held) > HELD:
            self._write()

    def read(self, index: int) -> T:
        """A record by its number."""
        if index in self._unpacked:
            return self._unpacked[index]
        start, stop = self._offsets[index], self._offsets[index + 1]
        if start >= self._written:
            return self._unpack(bytes(self._held[start - self._written : stop - self._written]))
        return self._unpack(os.pread(self._file.fileno(), stop - start, start))

    def _write(self) -> None:
        try:
            if self._file is None:
                cache_folder().mkdir(parents=True, exist_ok=True)
                self._file = tempfile.TemporaryFile(dir=cache_folder())  # noqa: SIM115 (closed with the object)
            self._file.write(self._held)
            self._file.flush()
        except OSError as error:
            raise UserError(
                f"The rows could not be kept in {cache_folder()} ({error.strerror}). Make room there, or set "
                "TUNEWRIGHT_CACHE to another folder."
            ) from None
        self._written += len(self._held)
        self._held = bytearray()

    def __del__(self) -> None:
        if self._file is not None:
            self._file.close()


class KeptRows(Sequence[T], Generic[T]):
    """Some rows of a file in some order, each made anew when it is asked for: `made(number in the file, record)`."""

    def __init__(
        self, file: RowFile[Any], made: Callable[[int, Any], T], numbers: NDArray[np.integer] | None = None
    ) -> None:
        self.file, self.made = file, made
        self.numbers = np.arange(len(file)) if numbers is None else numbers

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> KeptRows[T]: ...
    def __getitem__(self, index: int | slice) -> T | KeptRows[T]:
        if isinstance(index, slice):
            return self.take(self.numbers[index])
        number = int(self.numbers[index])
        return self.made(number, self.file.read(number))

    def __iter__(self) -> Iterator[T]:
        return (self.made(number, self.file.read(number)) for number in map(int, self.numbers))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(eq, self, other))

    __hash__ = None  # type: ignore[assignment]

    def take(self, numbers: NDArray[np.integer]) -> KeptRows[T]:
        """Other rows of the same file, by their numbers there."""
        return KeptRows(self.file, self.made, numbers)

    def change(self, changed: Callable[[int, T], U]) -> KeptRows[U]:
        """The same rows, each changed when it is read; `changed` is also given the row's number in the file."""
        made = self.made
        return KeptRows(self.file, lambda number, record: changed(number, made(number, record)), self.numbers)


def example_file() -> RowFile[Example]:
    """A file of examples; those with sounds, pictures or other values that JSON does not keep stay in memory."""
    return RowFile(_pack, _unpack)


def _pack(example: Example) -> bytes | None:
    turns = [[t.role, [[p.kind, p.value] for p in t.parts], t.weight, t.extra] for t in example.context]
    answers = [[[[p.kind, p.value] for p in a.parts], a.rank, a.weight, a.extra] for a in example.answers]
    rest: list[object] = [example.id, example.source, example.unit, example.label, example.tools, example.slices]
    rest.append(example.survey_weight)
    try:
        packed = json.dumps([turns, answers, rest], ensure_ascii=False).encode()
    except (TypeError, ValueError):
        return None
    everything: tuple[Turn | Answer, ...] = (*example.context, *example.answers)
    plain = all(type(part.value) is str for one in everything for part in one.parts)
    plain = plain and not example.tools and not any(one.extra for one in everything)
    return packed if plain or _unpack(packed) == example else None


def _unpack(packed: bytes) -> Example:
    turns, answers, (name, source, unit, label, tools, slices, survey) = json.loads(packed.decode())
    return Example(
        tuple(Turn(role, _parts(parts), weight, extra) for role, parts, weight, extra in turns),
        tuple(Answer(_parts(parts), rank, weight, extra) for parts, rank, weight, extra in answers),
        name,
        source,
        unit,
        label,
        tuple(tools),
        slices,
        survey,
    )


def _parts(packed: list[tuple[PartKind, Any]]) -> tuple[Part, ...]:
    return tuple(Part(kind, value) for kind, value in packed)
