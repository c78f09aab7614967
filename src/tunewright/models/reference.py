"""What the model said of the training rows before it was trained: log-probabilities kept on disk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import attrgetter
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from tunewright.core.batches import batches
from tunewright.core.errors import UserError
from tunewright.core.files import digest
from tunewright.core.records import Example
from tunewright.data.encoder import Encoded
from tunewright.data.keys import Same, text_keys
from tunewright.data.sequences import Joined
from tunewright.models.contracts import Batch, LoadedModel, Minimised
from tunewright.models.stored import Stored, content_key

_BATCH_POSITIONS = 2048
_NOBODY = Example((), ())


@dataclass(frozen=True, slots=True)
class Reference:
    """Log-probabilities of every row's targets under the model as it was, one forward a row and run."""

    model: LoadedModel
    stored: Stored

    @classmethod
    def of(cls, model: LoadedModel, folder: Path) -> Reference:
        """The store of this model's answers; the model must not have been trained yet."""
        recipe = ("reference", model.origin.digest, str(model.module.dtype), model.packs, torch.get_num_threads())
        return cls(model, Stored(folder, digest(*recipe, torch.__version__)))

    def fill(self, rows: Sequence[Sequence[Encoded]]) -> Iterator[int]:
        """Computes what is not kept yet, and yields how many rows are; rows of equal text share one forward."""
        every = reduce(Joined[Encoded], rows)
        same = Same(text_keys(map(content_key, every)))  # numbers alone stay: rows are read again, a file's at a time
        merged = (reduce(_union, (every[number] for number in group)) for group in same)
        yield from self.stored.fill(merged, self._compute)

    def log_probs(self, batch: Batch) -> Tensor:
        """[targets] log-probability of each of the batch's targets.

        Raises:
            UserError: A row was not filled.
        """
        flat = batch.inputs["input_ids"].flatten()
        found = torch.full(batch.targets.position_T.shape, torch.nan)
        for number, name in enumerate(batch.ids):
            places = torch.cat([torch.arange(start, stop) for start, stop in batch.spans(number)])
            kept = self.stored.get(_row(flat[places].numpy()))
            own = batch.targets.segment_T == number
            if kept is not None:
                found[own] = kept[torch.searchsorted(places, batch.targets.position_T[own])]
            if bool(found[own].isnan().any()):
                raise UserError(f"What the model said of row {name} before training is not kept. Start a new run.")
        return found

    def _compute(self, rows: Sequence[Encoded]) -> list[Tensor]:
        """[length] of each row: the log-probability of what is predicted from a position, NaN where nothing is."""
        found = []
        self.model.module.eval()
        for part in batches(rows, attrgetter("length"), _BATCH_POSITIONS):
            batch = self.model.family.collate(self.model, part)
            with torch.inference_mode():
                log_prob_T = self.model.family.token_log_probs(self.model, batch).float()
            for number, row in enumerate(part):
                kept = torch.full((row.length,), torch.nan)
                kept[torch.from_numpy(row.positions)] = log_prob_T[batch.targets.segment_T == number].clone()
                found.append(kept)
        return found


@runtime_checkable
class Refers(Protocol):
    """An objective that compares with what the model said before training."""

    def against(self, reference: Reference) -> Minimised:
        """The objective that can be minimised."""


def _union(one: Encoded, other: Encoded) -> Encoded:
    """The row with the targets of both; they can differ only in which positions are trained."""
    positions, first = np.unique(np.concatenate([one.positions, other.positions]), return_index=True)
    targets = np.concatenate([one.targets, other.targets])[first]
    return replace(one, positions=positions, targets=targets, weights=np.ones(len(positions), np.float32))


def _row(ids: Any) -> Encoded:
    nothing = np.zeros(0, np.int64)
    return Encoded(_NOBODY, {"input_ids": ids}, len(ids), nothing, nothing, nothing.astype(np.float32))
