"""Encoded rows become a batch: packed end to end, or padded for models whose mixer cannot pack."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tunewright.core.records import unit_of
from tunewright.data.encoder import Encoded
from tunewright.models.contracts import Batch, LoadedModel, Segment, Targets

WORTH_SHARING = 8
"""Tokens from which computing a common beginning once saves more than its bookkeeping costs."""
MOST_ROWS = 256
"""Rows of a batch at most, however little each adds to it."""


def packed(rows: Sequence[Encoded], worth: int = WORTH_SHARING, apart: bool = False) -> Batch:
    """One sequence `[1, N]`: rows end to end, and what several of them begin with only once, before them.

    Args:
        rows: Any number of rows, at least one.
        worth: From how many tokens on a common beginning is shared.
        apart: Rows of different units share nothing.
    """
    laid = _Laid(rows, worth)
    for members in _by_unit(rows) if apart else [range(len(rows))]:
        laid.grow(members, 0, None)
    inputs = {"input_ids": torch.from_numpy(np.concatenate(laid.pieces))[None]}
    positions = [place[row.positions] for row, place in zip(rows, laid.places, strict=True)]
    segments = tuple(laid.own[index] for index in range(len(rows)))
    return _batch(rows, inputs, segments, positions, tuple(laid.shared))


def fresh(model: LoadedModel) -> Callable[[Encoded], int]:
    """How many tokens each of the rows that it is asked of in turn adds to a batch: what a row begins with as the one
    before it is computed once, where rows are packed."""
    before: NDArray[Any] = np.empty(0, dtype=np.int64)

    def added(row: Encoded) -> int:
        nonlocal before
        ids = row.inputs.get("input_ids")
        if ids is None or not model.packs or model.apart:
            return row.length
        alike = max(0, min(len(before), len(ids)) - 1)  # each keeps at least one token of its own
        differs = np.flatnonzero(ids[:alike] != before[:alike])
        before, alike = ids, int(differs[0]) if len(differs) else alike
        return row.length - alike if alike >= WORTH_SHARING else row.length

    return added


def padded(rows: Sequence[Encoded], pad: int) -> Batch:
    """`[rows, longest]`, padded on the right; positions index the flattened batch."""
    longest = max(row.length for row in rows)
    ids = np.full((len(rows), longest), pad, dtype=np.int64)
    mask = np.zeros_like(ids)
    for index, row in enumerate(rows):
        ids[index, : row.length] = row.inputs["input_ids"]
        mask[index, : row.length] = 1
    inputs = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
    starts = [index * longest for index in range(len(rows))]
    positions = [row.positions + start for row, start in zip(rows, starts, strict=True)]
    segments = tuple(
        Segment(index, row.example.unit, index, start, start + row.length)
        for index, (row, start) in enumerate(zip(rows, starts, strict=True))
    )
    return _batch(rows, inputs, segments, positions, ())


def _by_unit(rows: Sequence[Encoded]) -> list[list[int]]:
    units: dict[str, list[int]] = defaultdict(list)
    for index, row in enumerate(rows):
        units[unit_of(row.example)].append(index)
    return list(units.values())


@dataclass(slots=True)
class _Laid:
    """Rows laid out as a tree of common beginnings, each before what continues it."""

    rows: Sequence[Encoded]
    worth: int
    size: int = 0
    pieces: list[NDArray[Any]] = field(default_factory=list)
    own: dict[int, Segment] = field(default_factory=dict)
    """What each row has for itself: at least one token."""
    shared: list[Segment] = field(default_factory=list)
    places: list[NDArray[np.int64]] = field(init=False)
    """[rows][tokens] where each token of a row lies in the sequence."""

    def __post_init__(self) -> None:
        self.places = [np.empty(row.length, dtype=np.int64) for row in self.rows]

    def grow(self, members: Sequence[int], depth: int, parent: int | None) -> None:
        """Lays out rows that are alike up to `depth`, from there on; rows that share nothing more keep their order."""
        alike: dict[bytes | int, list[int]] = defaultdict(list)
        for index in members:
            following = self._ids(index)[depth : depth + self.worth]
            long_enough = self.rows[index].length > depth + self.worth
            alike[following.tobytes() if long_enough else index].append(index)
        for group in alike.values():
            first = self.rows[group[0]]
            if len(group) == 1:
                start, stop = self._place(group, depth, first.length)
                self.own[group[0]] = Segment(group[0], first.example.unit, group[0], start, stop, parent)
                continue
            depth_of_all = self._common(group)
            start, stop = self._place(group, depth, depth_of_all)
            self.shared.append(Segment(-1, None, -1, start, stop, parent))
            self.grow(group, depth_of_all, len(self.rows) + len(self.shared) - 1)

    def _ids(self, index: int) -> NDArray[Any]:
        return self.rows[index].inputs["input_ids"]

    def _common(self, group: Sequence[int]) -> int:
        """Tokens that all rows of a group begin with, each keeping at least one of its own."""
        limit = min(self.rows[index].length for index in group) - 1
        ids = np.stack([self._ids(index)[:limit] for index in group])
        differs = np.flatnonzero((ids != ids[0]).any(axis=0))
        return int(differs[0]) if len(differs) else limit

    def _place(self, group: Sequence[int], depth: int, stop: int) -> tuple[int, int]:
        """Puts tokens `depth:stop`, alike in all rows of the group, at the end of the sequence."""
        start, self.size = self.size, self.size + stop - depth
        self.pieces.append(self._ids(group[0])[depth:stop])
        for index in group:
            self.places[index][depth:stop] = np.arange(start, self.size)
        return start, self.size


def _batch(
    rows: Sequence[Encoded],
    inputs: dict[str, torch.Tensor],
    segments: tuple[Segment, ...],
    positions: Sequence[NDArray[np.int64]],
    shared: tuple[Segment, ...],
) -> Batch:
    targets = Targets(
        position_T=torch.from_numpy(np.concatenate(positions)),
        target_T=torch.from_numpy(np.concatenate([row.targets for row in rows])),
        weight_T=torch.from_numpy(np.concatenate([row.weights for row in rows])),
        segment_T=torch.from_numpy(np.repeat(np.arange(len(rows)), [len(row.targets) for row in rows])),
    )
    ids = tuple(row.example.id for row in rows)
    return Batch(inputs, segments, targets, ids, tokens=sum(row.length for row in rows), shared=shared)
