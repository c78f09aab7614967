"""Layers under the first trained one answer alike in every pass: once a row is enough, the rest is read from disk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers
from torch import Tensor, nn

import tunewright
from tunewright.core.errors import Interrupted, UserError
from tunewright.core.files import digest
from tunewright.core.progress import Progress
from tunewright.core.words import command
from tunewright.data.encoder import Encoded
from tunewright.models.activations import frozen_below, passed_over, states_after
from tunewright.models.contracts import Batch, LoadedModel, Minimised
from tunewright.models.stored import Stored, weights_key
from tunewright.train.job import Job
from tunewright.train.stopping import StopRequest

_READS_ROWS_AS_THEY_ARE = frozenset({"token_log_probs"})
"""What an objective may need here: with it alone, the same row is the same input in every pass."""


def passable(job: Job) -> tuple[nn.Module, ...]:
    """The frozen layers at the bottom; none where the objective may change a row from pass to pass, or workers read."""
    if job.settings.processes > 1 or not job.objective.needs <= _READS_ROWS_AS_THEY_ARE:
        return ()
    return frozen_below(job.model, job.method.trained(job.model).values())


def fault(model: LoadedModel, layers: Sequence[nn.Module], objective: Minimised, rows: Sequence[Encoded]) -> str:
    """Why the layers cannot be passed over, measured on a few rows; empty when they can."""
    module, before = model.module, model.module.training
    try:
        module.train()
        torch.manual_seed(0)
        training = states_after(model, layers, rows)
        module.eval()
        states = states_after(model, layers, rows)
        if not all(map(torch.equal, training, states)):
            return "they have dropout"
        batch = model.family.collate(model, rows)
        with torch.no_grad():
            whole = objective.loss(model, batch, 0).sum_S
            with passed_over(layers, batch, states):
                entered = objective.loss(model, batch, 0).sum_S
        return "" if torch.equal(whole, entered) else "layers above them see more than what they give on"
    except (NotImplementedError, TypeError, ValueError, RuntimeError, IndexError) as error:
        return str(error)
    finally:
        module.train(before)


@dataclass(frozen=True, slots=True)
class Below:
    """The frozen layers at the bottom, and what they made of the rows."""

    model: LoadedModel
    layers: tuple[nn.Module, ...]
    stored: Stored

    @classmethod
    def of(cls, model: LoadedModel, layers: tuple[nn.Module, ...], folder: Path) -> Below:
        """The store of what these layers make of rows, keyed by the frozen weights as they are."""
        libraries = (torch.__version__, transformers.__version__, tunewright.__version__)
        recipe = (weights_key(model.module), len(layers), model.packs, torch.get_num_threads(), libraries)
        return cls(model, layers, Stored(folder, digest(*recipe)))

    def states(self, rows: Sequence[Encoded]) -> list[Tensor]:
        """[length, width] of each row, computed."""
        return states_after(self.model, self.layers, rows)

    def position_bytes(self, row: Encoded) -> int:
        """Bytes of what is kept of one position, measured on a row."""
        states = self.states([row])[0]
        return states.shape[1] * states.element_size()

    def fill(self, rows: Iterable[Encoded], count: int, progress: Progress, stop: StopRequest) -> None:
        """Computes and keeps what the layers make of so many rows; what an earlier process kept is used.

        Raises:
            Interrupted: A signal came; what was kept so far stays.
            UserError: The disk is full or not writable.
        """
        folder = self.stored.folder
        try:
            for done in self.stored.fill(rows, self.states):
                progress(f"storing what {len(self.layers)} frozen layers make of rows", done, count)
                if stop.requested:
                    raise Interrupted(f"Stopped before a step. Go on with: {command('resume', folder.parent)}")
        except OSError as error:
            raise UserError(
                f"What frozen layers make of rows could not be stored in {folder}: {error.strerror or error}. "
                f"Make room, then `{command('resume', folder.parent)}`; or start again with train.stored_gb=0."
            ) from None

    @contextmanager
    def entered(self, batch: Batch, rows: Sequence[Encoded]) -> Iterator[None]:
        """Within it the model computes the batch of these rows from above the layers.

        Rows that were not stored are computed here, together; a batch without stored rows is computed as ever.
        """
        found = [self.stored.get(row) for row in rows]
        missing = [row for row, states in zip(rows, found, strict=True) if states is None]
        if len(missing) == len(rows):
            yield
            return
        computed = iter(self.states(missing) if missing else ())
        states = [next(computed) if kept is None else kept for kept in found]
        with passed_over(self.layers, batch, states):
            yield
