"""Rows that live on disk and are read when they are asked for, behind an ordinary sequence."""

from __future__ import annotations

import os
import pickle
import tempfile
from array import array
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from tunewright.core.files import cache_folder

HELD = 16 * 2**20
"""Bytes that stay in memory before they are written; data sets below it never touch the disk."""
T = TypeVar("T")
U = TypeVar("U")


class RowFile:
    """An append-only file of records; of each, eight bytes stay in memory.

    The file has no name: nobody else can open it, and it is gone with the process, however that ends. It lies in
    the cache, since a folder for temporary files is often memory itself. Only what this process wrote is unpickled.
    """

    def __init__(self) -> None:
        self._offsets = array("Q", [0])
        self._held = bytearray()
        self._written = 0
        self._file: Any = None

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def append(self, record: Any) -> None:
        """Adds one record at the end."""
        self._held += pickle.dumps(record, protocol=pickle.HIGHEST_PROTOCOL)
        self._offsets.append(self._written + len(self._held))
        if len(self._held) > HELD:
            self._write()

    def read(self, index: int) -> Any:
        """A record by its number."""
        start, stop = self._offsets[index], self._offsets[index + 1]
        if start >= self._written:
            return pickle.loads(memoryview(self._held)[start - self._written : stop - self._written])
        return pickle.loads(os.pread(self._file.fileno(), stop - start, start))

    def _write(self) -> None:
        if self._file is None:
            cache_folder().mkdir(parents=True, exist_ok=True)
            self._file = tempfile.TemporaryFile(dir=cache_folder())  # noqa: SIM115 (closed with the object)
        self._file.write(self._held)
        self._file.flush()
        self._written += len(self._held)
        self._held = bytearray()

    def __del__(self) -> None:
        if self._file is not None:
            self._file.close()


class Rows(Sequence[T], Generic[T]):
    """Some rows of a file in some order, each made anew when it is asked for: `made(number in the file, record)`."""

    def __init__(
        self, file: RowFile, made: Callable[[int, Any], T], numbers: NDArray[np.integer] | None = None
    ) -> None:
        self.file, self.made = file, made
        self.numbers = np.arange(len(file)) if numbers is None else numbers

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Rows[T]: ...
    def __getitem__(self, index: int | slice) -> T | Rows[T]:
        if isinstance(index, slice):
            return self.take(self.numbers[index])
        number = int(self.numbers[index])
        return self.made(number, self.file.read(number))

    def __iter__(self) -> Iterator[T]:
        return (self[index] for index in range(len(self)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(_equal, self, other))

    __hash__ = None  # type: ignore[assignment]

    def take(self, numbers: NDArray[np.integer]) -> Rows[T]:
        """Other rows of the same file, by their numbers there."""
        return Rows(self.file, self.made, numbers)

    def change(self, changed: Callable[[int, T], U]) -> Rows[U]:
        """The same rows, each changed when it is read; `changed` is also given the row's number in the file."""
        made = self.made
        return Rows(self.file, lambda number, record: changed(number, made(number, record)), self.numbers)


def _equal(one: object, other: object) -> bool:
    return one == other


def as_is(number: int, record: Any) -> Any:
    """A row that is kept as it is used."""
    return record
