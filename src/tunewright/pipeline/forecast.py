"""Time, memory and disk before the run: from the machine's measured speed, then from one dry step."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from tunewright.data.encoded_rows import lengths
from tunewright.data.encoder import Encoded
from tunewright.models.activations import states_after
from tunewright.models.precision import measure
from tunewright.models.stored import within
from tunewright.pipeline.machine import peak_memory
from tunewright.pipeline.prepare import Prepared
from tunewright.train.below import fault, passable
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
    stored_bytes: int = 0
    """Disk while training alone, for what frozen layers make of rows."""

    def to_json(self) -> dict[str, Any]:
        """For forecast.json."""
        return asdict(self)


def by_formula(prepared: Prepared, job: Job) -> Forecast:
    """From parameter counts and the machine's matrix-product speed; nothing runs.

    A token costs 2 operations a weight forward, 2 more for the gradient of activations, 2 more for trained weights;
    under the first trained layer there is no gradient, and what is stored is computed once.
    """
    layers = passable(job.model, job.method.trained(job.model).values(), job.objective)
    frozen = sum(p.numel() for layer in layers for p in layer.parameters())
    weights = sum(p.numel() for p in prepared.model.module.parameters())
    trained = sum(p.numel() for p in job.method.trained(job.model).values())
    speed = measure()["bfloat16" if prepared.dtype == torch.bfloat16 else "float32"] * 1e9 * _EFFICIENCY
    stored = _Stored.of(job, layers)
    operations = 2 * frozen * stored.tokens_below + (4 * (weights - frozen) + 2 * trained) * _tokens(job)
    evaluation = 2 * _evaluation_tokens(prepared) * 2 * weights / speed
    return _forecast(prepared, job, (operations / speed, evaluation), "formula", stored.bytes)


def by_dry_step(prepared: Prepared, job: Job) -> Forecast:
    """Forward and backward on the longest step's rows, and one batch of evaluation; weights stay as they are."""
    longest = max(range(min(job.steps, 2 * job.order.steps_an_epoch)), key=_step_tokens(job))
    trained = list(job.method.trained(job.model).values())
    micro = [
        [job.train[i] for i in rows]
        for rows in job.order.micro_batches(longest, job.settings.per_device_train_batch_size)
    ]
    started = time.perf_counter()
    tokens = 0
    job.model.module.train()
    with job.gradients.begin(job.model, job.method.trained(job.model), "") as making:
        for rows in micro:
            batch = job.model.family.collate(job.model, rows)
            loss = job.objective.loss(job.model, batch, 0)
            making.accumulate(loss, max(1.0, float(loss.count_S.sum())), batch)
            tokens += batch.tokens
    for parameter in trained:
        parameter.grad = None
    rate = (time.perf_counter() - started) / max(1, tokens)
    layers, rate_below = _below(job, micro, rate)
    stored = _Stored.of(job, layers)
    training = rate_below * stored.tokens_below + (rate - rate_below) * _tokens(job)
    job.model.module.eval()
    started, rows_asked = time.perf_counter(), prepared.test[:4]
    if rows_asked and prepared.dataset.labels and "choices" in job.model.family.capabilities:
        options = [prepared.dataset.labels] * len(rows_asked)
        for _ in job.model.family.choices(job.model, rows_asked, options, True, prepared.encode):
            pass
        evaluation = 2 * (time.perf_counter() - started) / len(rows_asked) * len(prepared.test)
    else:
        evaluation = 2 * (rate_below + (rate - rate_below) / 3) * _evaluation_tokens(prepared)
    return _forecast(prepared, job, (training, evaluation), "dry step", stored.bytes)


@dataclass(frozen=True, slots=True)
class _Stored:
    """What frozen layers at the bottom cost in all: tokens they compute, bytes kept of them."""

    tokens_below: float
    bytes: int = 0

    @classmethod
    def of(cls, job: Job, layers: Sequence[nn.Module]) -> _Stored:
        """Every row in every pass, less the repeated passes of rows that are stored."""
        every = job.epochs * int(lengths(job.train).sum()) + job.validations * int(lengths(job.valid).sum())
        weight = next((w for layer in layers for w in layer.parameters()), None)
        if weight is None:
            return cls(every)
        position = _width(job) * weight.element_size()
        spared, kept = 0.0, 0
        for rows, passes in job.repeated():
            tokens = sum(row.length for row in within(rows, position, job.settings.stored_gb * 1e9 - kept))
            spared, kept = spared + (passes - 1) * tokens, kept + position * tokens
        return cls(every - spared, kept)


def _below(job: Job, micro: Sequence[Sequence[Encoded]], rate: float) -> tuple[Sequence[nn.Module], float]:
    """The layers that a stored row passes over, and their part of the seconds a token; none and 0 where none can be."""
    layers = passable(job.model, job.method.trained(job.model).values(), job.objective)
    if not layers or fault(job.model, layers, job.objective, micro[0][:2]):
        return (), 0.0
    started, tokens = time.perf_counter(), sum(row.length for rows in micro for row in rows)
    for rows in micro:
        states_after(job.model, layers, rows)
    return layers, min(rate, (time.perf_counter() - started) / tokens)


def _tokens(job: Job) -> int:
    every, valid = int(lengths(job.train).sum()), int(lengths(job.valid).sum())
    return round(every * job.epochs + job.validations * valid / 3)


def _step_tokens(job: Job) -> Callable[[int], int]:
    """The tokens of a step, by its number."""
    length_N, order = lengths(job.train), job.order
    return lambda step: int(length_N[order.step(step)].sum())


def _evaluation_tokens(prepared: Prepared) -> int:
    rows = prepared.train[:200]
    typical = sum(row.length for row in rows) / max(1, len(rows))
    labels = 3 * len(prepared.dataset.labels or ())
    return round(len(prepared.test) * (typical + labels))


def _width(job: Job) -> int:
    return int(getattr(getattr(job.model.module, "config", None), "hidden_size", 256) or 256)


def _forecast(prepared: Prepared, job: Job, seconds: tuple[float, float], basis: str, stored_bytes: int) -> Forecast:
    """From seconds of training and of evaluation."""
    training, evaluation = seconds
    weights = sum(p.numel() * p.element_size() for p in prepared.model.module.parameters())
    trained = sum(p.numel() for p in job.method.trained(job.model).values())
    longest = max(map(_step_tokens(job), range(min(job.steps, job.order.steps_an_epoch))))
    micro = longest / job.settings.gradient_accumulation_steps
    config = getattr(job.model.module, "config", None)
    layers = int(getattr(config, "num_hidden_layers", 4) or 4)
    activations = int(micro * _width(job) * layers * 4 * 34)
    memory = max(_LIBRARIES + 2 * weights + 16 * trained + activations, peak_memory() if basis == "dry step" else 0)
    disk = 4 * trained * (1 + 1 + 3 * job.settings.save_total_limit)
    return Forecast(
        round(training + evaluation + 20, 1),
        round(training, 1),
        round(evaluation, 1),
        memory,
        disk,
        job.steps,
        basis,
        stored_bytes,
    )
