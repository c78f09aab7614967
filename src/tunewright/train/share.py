"""What one process computes of a step: forward, backward and the gradients of some micro-batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch

from tunewright.core.errors import UserError
from tunewright.core.memory import release_memory
from tunewright.core.records import unit_name, unit_of
from tunewright.core.seeds import key
from tunewright.data.encoder import Encoded
from tunewright.models.contracts import Batch, Loss, Making
from tunewright.train.below import Below
from tunewright.train.job import Job

_RELEASED = 8
"""Steps after which memory that lies free between blocks is given back: micro-batches differ in width, so it grows from
step to step, and pages that are taken anew cost time (measured: benchmarks/notes.md)."""


@dataclass(frozen=True, slots=True)
class Share:
    """Micro-batches of one step."""

    step: int
    count: float
    """Of the whole step."""
    micro: tuple[tuple[int, tuple[int, ...]], ...]
    """Number of each within the step, and its rows."""

    def dealt(self, processes: int) -> list[Share]:
        """One share a process, in turn; those of more processes than micro-batches are empty."""
        return [replace(self, micro=self.micro[place::processes]) for place in range(processes)]

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Share:
        """What another process told."""
        return cls(told["step"], told["count"], tuple((number, tuple(rows)) for number, rows in told["micro"]))


@dataclass(frozen=True, slots=True)
class Seen:
    """What a micro-batch said."""

    number: int
    rows: tuple[tuple[str, float, float], ...]
    """Of each row: id, sum and count of the loss."""
    tokens: int
    finite: bool

    @classmethod
    def from_json(cls, said: Mapping[str, Any]) -> Seen:
        """What another process said of one."""
        return cls(said["number"], tuple((name, *of) for name, *of in said["rows"]), said["tokens"], said["finite"])


def compute(job: Job, making: Making, share: Share, below: Below | None = None) -> list[Seen]:
    """Adds the gradients of a share; a micro-batch whose loss is not finite adds none, and ends it."""
    found: list[Seen] = []
    for number, rows in share.micro:
        torch.manual_seed(key(job.seed, "step", share.step, number))
        # Without the micro-batch: what an objective draws for a row must not depend on how the step is cut up.
        seed = key(job.seed, "step", share.step)
        taken = [job.train[i] for i in rows]
        batch, loss = loss_of(job, taken, seed, below)
        finite = bool(loss.sum_S.isfinite().all())
        found.append(Seen(number, _per_row(batch.ids, loss), batch.tokens, finite))
        if not finite:
            break
        if job.private:
            _same_units(taken, batch)
        making.accumulate(loss, share.count, batch)
    if (share.step + 1) % _RELEASED == 0:
        release_memory()
    return found


def _same_units(rows: Sequence[Encoded], batch: Batch) -> None:
    """What is clipped as one must be what was drawn as one.

    Raises:
        UserError: The model's family lost whose a row is.
    """
    drawn = [(row.example.id, unit_of(row.example)) for row in rows]
    clipped = [(name, unit_name(name, one.unit)) for name, one in zip(batch.ids, batch.segments, strict=True)]
    if sorted(drawn) != sorted(clipped):
        raise UserError(
            "privacy: the model's family does not keep whose a row is (Segment.unit), so a unit's rows would be "
            "clipped one by one and the promise would not hold. This is a fault of the family's collate."
        )


def loss_of(job: Job, rows: Sequence[Encoded], seed: int, below: Below | None) -> tuple[Batch, Loss]:
    """Rows in one forward, and their loss."""
    batch = job.model.family.collate(job.model, rows)
    with below.entered(batch, rows) if below else nullcontext(), job.multiplying():
        return batch, job.objective.loss(job.model, batch, seed)


def _per_row(ids: Sequence[str], loss: Loss) -> tuple[tuple[str, float, float], ...]:
    sums, counts = loss.sum_S.detach().double().tolist(), loss.count_S.double().tolist()
    return tuple(zip(ids, sums, counts, strict=True))
