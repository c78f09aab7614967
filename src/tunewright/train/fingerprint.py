"""Hashes by which it is known whether two jobs are the same: of two processes, or before and after an interruption."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tunewright.core.files import digest
from tunewright.data.encoded_rows import lengths
from tunewright.data.sequences import evenly
from tunewright.train.job import Job

_COMPARED = 1024
"""Rows of the data set, evenly spread, whose whole content is compared, of the others the length: they have a hash of
their own. Rows that mitigations added are all compared."""


def fingerprint(job: Job) -> str:
    """Equal for equal jobs: what they read, what trains, and how."""
    made = (job.gradients, job.micro_rows, job.micro_tokens, job.model.packs, job.model.apart, job.products)
    return digest(content(job), how(job), repr(made))


_MAY_DIFFER = {
    "processes", "threads", "precision", "save_steps", "save_total_limit", "stored_gb", "mitigations", "public",
}  # fmt: skip
"""Settings that change no step, that a run records for itself or tells in a note when they change, or that name files:
what these bring into training is part of `content`."""


def how(job: Job) -> str:
    """Equal where steps are taken alike: the same method, objective, seed and settings of the loop."""
    method, settings = (
        one.model_dump_json(exclude=_MAY_DIFFER, exclude_defaults=True) for one in (job.method, job.settings)
    )
    return digest(job.method.plugin_name(), method, repr(job.objective), job.seed, settings)


def content(job: Job) -> str:
    """Equal where rows and trained weights are; another where a file that the plan names has changed."""
    total, own = hashlib.sha256(lengths(job.train).tobytes()), len(job.train) - job.woven
    for number in (*evenly(own, _COMPARED), *range(own, len(job.train))):
        row = job.train[number]
        total.update(row.example.id.encode())
        for array in (*(row.inputs[name] for name in sorted(row.inputs)), row.positions, row.targets, row.weights):
            total.update(np.ascontiguousarray(array).tobytes())
    trained = {name: (str(w.dtype), tuple(w.shape)) for name, w in job.method.trained(job.model).items()}
    total.update(f"{trained}".encode())
    for name, part in job.model.module.named_modules():
        for attribute, value in sorted(vars(part).items()):
            if _chosen(value):
                total.update(f"{name}.{attribute}".encode() + value.cpu().numpy().tobytes())
    return total.hexdigest()


def _chosen(value: Any) -> bool:
    """Whether it says which coordinates of a matrix train."""
    return isinstance(value, Tensor) and not isinstance(value, nn.Parameter) and value.dtype == torch.int64
