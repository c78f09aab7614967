"""Encoded rows become a batch: packed end to end, or padded for models whose mixer cannot pack."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from tunewright.data.encoder import Encoded
from tunewright.models.contracts import Batch, Segment, Targets

WORTH_SHARING = 8
"""Shorter common beginnings cost more in bookkeeping than they save."""


def packed(rows: Sequence[Encoded]) -> Batch:
    """One sequence `[1, N]`: what all rows begin with, once, then the rest of each row end to end."""
    shared = _common(rows)
    starts = shared + np.cumsum([0, *(row.length - shared for row in rows)])
    ids = [row.inputs["input_ids"] for row in rows]
    flat = np.concatenate([ids[0][:shared], *(row[shared:] for row in ids)])
    positions = [
        np.where(row.positions < shared, row.positions, row.positions - shared + start)
        for row, start in zip(rows, starts[:-1], strict=True)
    ]
    segments = _segments(rows, starts[:-1], [row.length - shared for row in rows])
    return _batch(rows, {"input_ids": torch.from_numpy(flat)[None]}, segments, positions, shared)


def padded(rows: Sequence[Encoded], pad: int) -> Batch:
    """`[rows, longest]`, padded on the right; positions index the flattened batch."""
    longest = max(row.length for row in rows)
    ids = np.full((len(rows), longest), pad, dtype=np.int64)
    mask = np.zeros_like(ids)
    for index, row in enumerate(rows):
        ids[index, : row.length] = row.inputs["input_ids"]
        mask[index, : row.length] = 1
    inputs = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
    starts = np.arange(len(rows)) * longest
    positions = [row.positions + start for row, start in zip(rows, starts, strict=True)]
    return _batch(rows, inputs, _segments(rows, starts, [row.length for row in rows]), positions, 0)


def _common(rows: Sequence[Encoded]) -> int:
    """Tokens that all rows begin with, each keeping at least one of its own; 0 when not worth it."""
    if len(rows) < 2:
        return 0
    limit = min(row.length for row in rows) - 1
    first = np.stack([row.inputs["input_ids"][:limit] for row in rows])
    differs = np.flatnonzero((first != first[0]).any(axis=0))
    shared = int(differs[0]) if len(differs) else limit
    return shared if shared >= WORTH_SHARING else 0


def _segments(rows: Sequence[Encoded], starts: NDArray[np.int64], lengths: Sequence[int]) -> tuple[Segment, ...]:
    return tuple(
        Segment(index, row.example.unit, index, int(start), int(start) + length)
        for index, (row, start, length) in enumerate(zip(rows, starts, lengths, strict=True))
    )


def _batch(
    rows: Sequence[Encoded],
    inputs: dict[str, torch.Tensor],
    segments: tuple[Segment, ...],
    positions: Sequence[NDArray[np.int64]],
    shared: int,
) -> Batch:
    targets = Targets(
        position_T=torch.from_numpy(np.concatenate(positions)),
        target_T=torch.from_numpy(np.concatenate([row.targets for row in rows])),
        weight_T=torch.from_numpy(np.concatenate([row.weights for row in rows])),
        segment_T=torch.from_numpy(np.repeat(np.arange(len(rows)), [len(row.targets) for row in rows])),
    )
    ids = tuple(row.example.id for row in rows)
    return Batch(inputs, segments, targets, ids, tokens=sum(row.length for row in rows), shared=shared)
