"""Encoded rows that live on disk, each read with its example when it is asked for."""

from __future__ import annotations

import json
import math
from array import array
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunewright.core.records import Example
from tunewright.data.encoder import Encoded
from tunewright.data.kept import RowFile
from tunewright.data.sequences import Joined, OnDemand

_NOBODY = Example((), ())
"""Stands where a row's own example is put when it is read."""


class EncodedRows(OnDemand[Encoded]):
    """Pieces of rows in the order in which they were added; their lengths stay in memory.

    Args:
        examples: The rows that they are made from.
    """

    def __init__(self, examples: Sequence[Example]) -> None:
        self._examples, self._lengths = examples, array("i")
        self._numbers = array("I")
        self._file = RowFile(_pack, _unpack)

    def append(self, number: int, piece: Encoded) -> None:
        """Adds a piece of the example with that number."""
        self._numbers.append(number)
        self._lengths.append(piece.length)
        self._file.append(replace(piece, example=_NOBODY))

    def __len__(self) -> int:
        return len(self._lengths)

    def at(self, place: int) -> Encoded:
        """The piece at a place, read with its example."""
        return replace(self._file.read(place), example=self._examples[self._numbers[place]])

    @property
    def examples(self) -> int:
        """Rows that pieces may be of."""
        return len(self._examples)

    @property
    def lengths(self) -> NDArray[np.int32]:
        """[rows] positions that each takes."""
        return np.array(self._lengths, dtype=np.int32)


def lengths(rows: Sequence[Encoded]) -> NDArray[np.int32]:
    """[rows] positions that each takes; rows on disk are not read for it."""
    if isinstance(rows, Joined):
        return np.concatenate([lengths(rows.first), lengths(rows.then)])
    return rows.lengths if isinstance(rows, EncodedRows) else np.array([row.length for row in rows], dtype=np.int32)


def _pack(piece: Encoded) -> bytes | None:
    """A line of JSON that names the arrays, then their bytes; ids and positions in half the space."""
    arrays = [*piece.inputs.values(), piece.positions, piece.targets, piece.weights]
    small = [_small(values) for values in arrays]
    head = [(values.dtype.str, one.dtype.str, one.shape) for values, one in zip(arrays, small, strict=True)]
    try:
        line = json.dumps([piece.length, [*piece.inputs], head, dict(piece.notes)])
    except TypeError:
        return None
    if any(values.dtype.hasobject for values in arrays):
        return None
    return b"".join([line.encode(), b"\n", *(one.tobytes() for one in small)])


def _small(values: NDArray[Any]) -> NDArray[Any]:
    fits = values.dtype == np.int64 and values.size and abs(values).max() < 2**31
    return values.astype(np.int32) if fits else values


def _unpack(packed: bytes) -> Encoded:
    end = packed.index(b"\n")
    length, names, head, notes = json.loads(packed[:end].decode())
    arrays: list[NDArray[Any]] = []
    at = end + 1
    for dtype, kept_dtype, shape in head:
        count = math.prod(shape)
        kept = np.frombuffer(packed, kept_dtype, count, at)
        arrays.append(kept.astype(dtype).reshape(shape))
        at += kept.nbytes
    *inputs, positions, targets, weights = arrays
    return Encoded(_NOBODY, dict(zip(names, inputs, strict=True)), length, positions, targets, weights, notes)
