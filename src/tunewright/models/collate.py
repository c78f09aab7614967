"""Encoded rows become a batch: packed end to end, or padded for models whose mixer cannot pack."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from tunewright.data.encoder import Encoded
from tunewright.models.contracts import Batch, Segment, Targets


def packed(rows: Sequence[Encoded]) -> Batch:
    """One sequence `[1, N]`; segments say where each row lies."""
    starts = np.cumsum([0, *(row.length for row in rows)])
    ids = np.concatenate([row.inputs["input_ids"] for row in rows])
    return _batch(rows, starts[:-1], {"input_ids": torch.from_numpy(ids)[None]})


def padded(rows: Sequence[Encoded], pad: int) -> Batch:
    """`[rows, longest]`, padded on the right; positions index the flattened batch."""
    longest = max(row.length for row in rows)
    ids = np.full((len(rows), longest), pad, dtype=np.int64)
    mask = np.zeros_like(ids)
    for index, row in enumerate(rows):
        ids[index, : row.length] = row.inputs["input_ids"]
        mask[index, : row.length] = 1
    inputs = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
    return _batch(rows, np.arange(len(rows)) * longest, inputs)


def _batch(rows: Sequence[Encoded], starts: NDArray[np.int64], inputs: dict[str, torch.Tensor]) -> Batch:
    segments = tuple(
        Segment(index, row.example.unit, index, int(start), int(start) + row.length)
        for index, (row, start) in enumerate(zip(rows, starts, strict=True))
    )
    return Batch(
        inputs=inputs,
        segments=segments,
        targets=targets_of(rows, starts),
        ids=tuple(row.example.id for row in rows),
        tokens=sum(row.length for row in rows),
    )


def targets_of(rows: Sequence[Encoded], starts: NDArray[np.int64]) -> Targets:
    """The targets of all rows, positions shifted to where each row starts."""
    return Targets(
        position_T=torch.from_numpy(np.concatenate([r.positions + s for r, s in zip(rows, starts, strict=True)])),
        target_T=torch.from_numpy(np.concatenate([row.targets for row in rows])),
        weight_T=torch.from_numpy(np.concatenate([row.weights for row in rows])),
        segment_T=torch.from_numpy(np.repeat(np.arange(len(rows)), [len(row.targets) for row in rows])),
    )
