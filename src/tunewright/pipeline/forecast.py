"""Time, memory and disk before the run: from the machine's measured speed, then from one dry step."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch

from tunewright.data.encoded_rows import lengths
from tunewright.models.precision import measure
from tunewright.pipeline.machine import peak_memory
from tunewright.pipeline.prepare import Prepared
from tunewright.train.loop import Job

_EFFICIENCY = 0.5
"""Share of the measured matrix-product speed that a whole step reaches; measured on the shipped examples."""
_LIBRARIES = 700_000_000
"""Bytes of the interpreter with torch and transformers loaded."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """Seconds of training and of evaluation, bytes of memory and disk, and how it was found."""

    seconds: float
    training_seconds: float
    evaluation_seconds: float
    memory_bytes: int
    disk_bytes: int
    steps: int
    basis: str

    def to_json(self) -> dict[str, Any]:
        """For forecast.json."""
        return asdict(self)


def by_formula(prepared: Prepared, job: Job) -> Forecast:
    """From parameter counts and the machine's matrix-product speed; nothing runs.

    A token costs 2 operations a weight forward, 2 more for the gradient of activations, 2 more for trained weights.
    """
    weights = sum(p.numel() for p in prepared.model.module.parameters())
    trained = sum(p.numel() for p in job.method.trained(job.model).values())
    speed = measure()["bfloat16" if prepared.dtype == torch.bfloat16 else "float32"] * 1e9 * _EFFICIENCY
    tokens = _tokens(job)
    training = tokens * (4 * weights + 2 * trained) / speed
    evaluation = 2 * _evaluation_tokens(prepared) * 2 * weights / speed
    return _forecast(prepared, job, training, evaluation, "formula")


def by_dry_step(prepared: Prepared, job: Job) -> Forecast:
    """Forward and backward on the longest step's rows, and one batch of evaluation; weights stay as they are."""
    longest = max(range(min(job.steps, 2 * job.order.steps_an_epoch)), key=_step_tokens(job))
    trained = list(job.method.trained(job.model).values())
    started = time.perf_counter()
    tokens = 0
    job.model.module.train()
    for rows in job.order.micro_batches(longest, job.settings.per_device_train_batch_size):
        batch = job.model.family.collate(job.model, [job.train[i] for i in rows])
        loss = job.objective.loss(job.model, batch, 0)
        job.gradients.accumulate(loss, max(1.0, float(loss.count_S.sum())))
        tokens += batch.tokens
    for parameter in trained:
        parameter.grad = None
    training = (time.perf_counter() - started) / tokens * _tokens(job)
    job.model.module.eval()
    started, rows_asked = time.perf_counter(), prepared.test[:4]
    if rows_asked and prepared.dataset.labels and "choices" in job.model.family.capabilities:
        options = [prepared.dataset.labels] * len(rows_asked)
        for _ in job.model.family.choices(job.model, rows_asked, options, True, prepared.encode):
            pass
        evaluation = 2 * (time.perf_counter() - started) / len(rows_asked) * len(prepared.test)
    else:
        evaluation = 2 * training / max(1, _tokens(job)) / 3 * _evaluation_tokens(prepared)
    return _forecast(prepared, job, training, evaluation, "dry step")


def _tokens(job: Job) -> int:
    every, valid = int(lengths(job.train).sum()), int(lengths(job.valid).sum())
    validations = math.ceil(job.steps / job.eval_every) if job.valid else 0
    return round(every * job.steps / job.order.steps_an_epoch + validations * valid / 3)


def _step_tokens(job: Job) -> Callable[[int], int]:
    """The tokens of a step, by its number."""
    length_N, order = lengths(job.train), job.order
    return lambda step: int(length_N[order.step(step)].sum())


def _evaluation_tokens(prepared: Prepared) -> int:
    rows = prepared.train[:200]
    typical = sum(row.length for row in rows) / max(1, len(rows))
    labels = 3 * len(prepared.dataset.labels or ())
    return round(len(prepared.test) * (typical + labels))


def _forecast(prepared: Prepared, job: Job, training: float, evaluation: float, basis: str) -> Forecast:
    weights = sum(p.numel() * p.element_size() for p in prepared.model.module.parameters())
    trained = sum(p.numel() for p in job.method.trained(job.model).values())
    longest = max(map(_step_tokens(job), range(min(job.steps, job.order.steps_an_epoch))))
    micro = longest / job.settings.gradient_accumulation_steps
    config = getattr(job.model.module, "config", None)
    width = int(getattr(config, "hidden_size", 256) or 256)
    layers = int(getattr(config, "num_hidden_layers", 4) or 4)
    activations = int(micro * width * layers * 4 * 34)
    memory = max(_LIBRARIES + 2 * weights + 16 * trained + activations, peak_memory() if basis == "dry step" else 0)
    disk = 4 * trained * (1 + 1 + 3 * job.settings.save_total_limit)
    return Forecast(
        round(training + evaluation + 20, 1), round(training, 1), round(evaluation, 1), memory, disk, job.steps, basis
    )
