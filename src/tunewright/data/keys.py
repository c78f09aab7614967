"""Texts as 64-bit keys, so that a million rows are compared in eight bytes each; 0 is no key."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from tunewright.data.sequences import OnDemand

Keys = NDArray[np.uint64]
Numbers = NDArray[np.int32]


def text_key(text: str | None) -> int:
    """A key that is equal when the texts are; two different ones of a million meet once in 30 million data sets."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") or 1 if text else 0


def text_keys(texts: Iterable[str | None]) -> Keys:
    """[rows] the key of each text."""
    return np.fromiter(map(text_key, texts), np.uint64)


class Same(OnDemand[list[int]]):
    """Row numbers grouped by key: groups by their first row, rows in order."""

    def __init__(self, keys: NDArray[np.generic]) -> None:
        by_key = np.argsort(keys, kind="stable").astype(np.int32)
        begins = np.flatnonzero(np.r_[True, keys[by_key][1:] != keys[by_key][:-1]][: len(keys)])
        sizes = np.diff(np.r_[begins, len(keys)])
        first = np.argsort(by_key[begins], kind="stable")
        # Groups were in the order of keys; they are put into the order of their first rows.
        starts = np.repeat(begins[first] - np.r_[0, np.cumsum(sizes[first])[:-1]][: len(first)], sizes[first])
        self.rows: Numbers = by_key[np.arange(len(keys)) + starts]
        self.bounds: Numbers = np.r_[0, np.cumsum(sizes[first])].astype(np.int32)

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def at(self, place: int) -> list[int]:
        """The rows of a group."""
        found: list[int] = self.rows[self.bounds[place] : self.bounds[place + 1]].tolist()
        return found

    @property
    def sizes(self) -> Numbers:
        """[groups] how many rows each has."""
        return np.diff(self.bounds)

    def several(self) -> Iterator[list[int]]:
        """Groups of more than one row."""
        return (self[int(group)] for group in np.flatnonzero(self.sizes > 1))


def firsts(keys: Keys) -> Numbers:
    """[rows] the first row with the same key; a row without a key is its own."""
    same = Same(keys)
    found = np.arange(len(keys), dtype=np.int32)
    found[same.rows] = np.repeat(same.rows[same.bounds[:-1]], same.sizes)
    found[keys == 0] = np.flatnonzero(keys == 0)
    return found


def repeats(keys: Keys) -> Numbers:
    """[rows] how many rows above have the same key."""
    same = Same(keys)
    found = np.empty(len(keys), dtype=np.int32)
    found[same.rows] = np.arange(len(keys)) - np.repeat(same.bounds[:-1], same.sizes)
    return found
