"""Time, memory and disk before the run: counted work over the machine's speed, measured once or by a dry step."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from tunewright.core.memory import held_memory, peak_memory
from tunewright.core.progress import silent
from tunewright.core.records import Example
from tunewright.core.words import coarse
from tunewright.data.encoded_rows import lengths
from tunewright.data.encoder import Encoded
from tunewright.models.precision import measure
from tunewright.models.stored import within
from tunewright.pipeline import asked
from tunewright.pipeline.prepare import Prepared
from tunewright.pipeline.work import Size, Work, countable, of_rows, of_steps, of_validation
from tunewright.train.below import fault, passable
from tunewright.train.job import Job
from tunewright.train.loop import validation_batches
from tunewright.train.share import loss_of

_STEPPING, _READING = 0.55, 0.7
"""Of the measured speed of a matrix product: what wide micro-batches reach forward and backward, and forward alone."""
_FIXED = 80
"""Positions more that a micro-batch would have in the time that it costs whatever its width (benchmarks/notes.md)."""
_BYTES_A_SECOND = 8e9
"""At which weights are read and written where that is all there is to do."""
_UPDATE = 40
"""Bytes that an optimiser step reads and writes a trained weight."""
LIBRARIES = 520_000_000
"""Bytes of the interpreter with torch and transformers loaded."""
_AROUND, _AROUND_A_BYTE = 4.0, 40e-9
"""Seconds of a run beside its forwards: opening, saving, opening again and comparing, which grow with the weights."""


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
    positions: dict[str, int] | None = None
    """Positions that go through the layers, by what for; None where they cannot be counted."""

    def discreet(self) -> Forecast:
        """For a private run: what follows the rows' lengths in two digits, and no count of positions."""
        return replace(
            self,
            seconds=coarse(self.seconds),
            training_seconds=coarse(self.training_seconds),
            evaluation_seconds=coarse(self.evaluation_seconds),
            memory_bytes=int(coarse(self.memory_bytes)),
            stored_bytes=0,
            positions=None,
        )

    def to_json(self) -> dict[str, Any]:
        """For forecast.json."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Rates:
    """What the machine does with this model."""

    training: float
    """Operations a second, forward and backward."""
    evaluation: float
    """Operations a second, forward alone."""
    narrow: float
    """Seconds of a forward over a few positions, as each token of a free answer takes one."""


def by_formula(prepared: Prepared, job: Job) -> Forecast:
    """From counted work and the machine's measured speed of matrix products; nothing runs."""
    training, evaluation = (
        measure()["bfloat16" if dtype == torch.bfloat16 else "float32"] * 1e9
        for dtype in (prepared.products, prepared.dtype)
    )
    size = _size(job)
    layers = passable(job)
    rates = Rates(_STEPPING * training, _READING * evaluation, size.weight_bytes / _BYTES_A_SECOND)
    found = _Counted.of(job, layers)
    parts = asked.work(prepared, job, base=True)
    asking = _evaluation_seconds(prepared, size, parts, found, rates)
    return _forecast(job, found, parts, (found.seconds(size, rates), asking, 0.0), "formula")


def by_dry_step(prepared: Prepared, job: Job, spent: float | None = 0.0) -> Forecast:
    """Forward and backward on the longest step's rows, then on a middling one's, which is timed; and some evaluation.

    Weights stay as they are.

    Args:
        prepared: What the plan was made into.
        job: What will be trained.
        spent: Seconds that asking the base has taken; None = nothing is evaluated.
    """
    started = time.perf_counter()
    length_N = lengths(job.train)
    looked_at = range(min(job.steps, 2 * job.order.steps_an_epoch))
    tokens_K = np.fromiter((length_N[job.order.step(k)].sum() for k in looked_at), np.int64)
    by_tokens = [step for step in np.argsort(tokens_K, kind="stable").tolist() if tokens_K[step]]
    if not by_tokens:  # private steps are drawn, and may all be empty
        return by_formula(prepared, job)
    dry_step(job, _widest(job, by_tokens))  # for its memory; its time holds what is done once
    begun = time.perf_counter()
    micro = dry_step(job, by_tokens[len(by_tokens) // 2])
    seconds = time.perf_counter() - begun
    layers = passable(job)
    if layers and fault(job.model, layers, job.objective, micro[0][:2]):
        layers = ()
    size, found = _size(job), _Counted.of(job, layers)
    one = sum((of_rows(job.model, rows) for rows in micro), Work())
    training = found.step_operations(size, one, 1.0) / seconds
    if spent is None:
        rates, parts, evaluation = Rates(training, training, 0.0), {}, 0.0
    else:
        rates = Rates(training, *_timed_evaluation(prepared, job, size, training))
        parts = asked.work(prepared, job, base=False)
        evaluation = spent + _evaluation_seconds(prepared, size, parts, found, rates)
    used = time.perf_counter() - started
    return _forecast(job, found, parts, (found.seconds(size, rates), evaluation, used), "dry step")


def _widest(job: Job, by_tokens: Sequence[int]) -> int:
    """Of steps in the order of their tokens, the one that takes most memory: a row over the bound of micro-batches is
    wider alone than any of them, else the step of most tokens."""
    length_N = lengths(job.train)
    longest = max(by_tokens, key=lambda step: (length_N[job.order.step(step)].max(), step))
    alone = length_N[job.order.step(longest)].max() > job.micro_tokens
    return longest if alone else by_tokens[-1]


def dry_step(job: Job, step: int) -> list[list[Encoded]]:
    """A step's forwards and backwards; its micro-batches."""
    micro = [[job.train[i] for i in rows] for rows in job.order.micro_batches(step, job.micro_rows)]
    trained = job.method.trained(job.model)
    job.wake()
    with job.gradients.begin(job.model, trained, "") as making:
        for rows in micro:
            batch, loss = loss_of(job, rows, 0, None)
            making.accumulate(loss, max(1.0, float(loss.count_S.sum())), batch)
    for parameter in trained.values():
        parameter.grad = None
    return micro


def _timed_evaluation(prepared: Prepared, job: Job, size: Size, otherwise: float) -> tuple[float, float]:
    """Operations a second of forwards, and seconds of a narrow one, on a few test rows."""
    narrow = size.weight_bytes / _BYTES_A_SECOND
    rows = [prepared.test[row] for row in range(min(8, len(prepared.test)))]
    if not rows or not countable(job.model):
        return otherwise, narrow
    job.model.module.eval()
    suite = asked.without_texts(asked.suite_of(prepared))
    work = asked.work_of(prepared, job.model, suite, rows)
    started = time.perf_counter()
    suite.ask(job.model, rows, silent, "")
    read = max(time.perf_counter() - started, 1e-6)
    if prepared.settings.evaluate.generated_rows and rows[0].context:
        first, seventh = (_writing(prepared, job, rows[0], tokens) for tokens in (1, 7))
        narrow = max((seventh - first) / 6, narrow / 2)  # an answer may end sooner; reading its prompt is counted apart
    return size.forward(work) / read, narrow


def _writing(prepared: Prepared, job: Job, row: Example, tokens: int) -> float:
    """Seconds of an answer of so many tokens, its prompt included."""
    started = time.perf_counter()
    list(job.model.family.generate(job.model, [row], tokens, prepared.encode))
    return time.perf_counter() - started


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
        position = _size(job).width * weight.element_size()
        spared, kept = 0.0, 0
        for rows, passes in job.repeated():
            tokens = sum(row.length for row in within(rows, position, job.settings.stored_gb * 1e9 - kept))
            spared, kept = spared + (passes - 1) * tokens, kept + position * tokens
        return cls(every - spared, kept)


def _size(job: Job) -> Size:
    size = Size.of(job.model, sum(p.numel() for p in job.method.trained(job.model).values()))
    half = job.products is not None or next(job.model.module.parameters()).dtype == torch.bfloat16
    return replace(size, number_bytes=job.number_bytes, half_attention=half and job.model.packs)


@dataclass(frozen=True, slots=True)
class _Counted:
    """What training computes."""

    steps: Work
    validation: Work
    """All passes."""
    updates: int
    frozen: int
    """Weights of the frozen layers at the bottom."""
    frozen_layers: int
    stored: _Stored
    share: float
    """Of the passes over rows, in which the frozen layers are computed: what is stored is computed once."""
    mixed: bool
    """Whether training multiplies in another precision than what comes after it."""

    @classmethod
    def of(cls, job: Job, layers: Sequence[nn.Module]) -> _Counted:
        stored = _Stored.of(job, layers)
        frozen = sum(p.numel() for layer in layers for p in layer.parameters())
        once = of_validation(job, validation_batches(job)) if job.validations else Work()
        share = stored.tokens_below / max(1.0, _Stored.of(job, ()).tokens_below)
        return cls(
            of_steps(job),
            once.times(job.validations),
            job.steps,
            frozen,
            len(layers),
            stored,
            share,
            job.products is not None,
        )

    def step_operations(self, size: Size, work: Work, share: float) -> float:
        """Forward and backward, with what each micro-batch costs beside; frozen layers without backward, and in a share
        of the passes."""
        work = work + Work(positions=_FIXED * work.forwards)
        return size.forward(work) + size.backward(work) - 2 * self.frozen * work.positions * (2 - share)

    def seconds(self, size: Size, rates: Rates) -> float:
        """Of all steps, updates and validations."""
        steps = self.step_operations(size, self.steps, self.share) / rates.training
        below = 2 * self.frozen * self.validation.positions * (1 - self.share)
        update = _UPDATE * size.trained / _BYTES_A_SECOND
        reading = rates.training * _READING / _STEPPING if self.mixed else rates.evaluation
        return steps + self.updates * update + (size.forward(self.validation) - below) / reading


def _evaluation_seconds(
    prepared: Prepared, size: Size, parts: dict[str, Work], training: _Counted, rates: Rates
) -> float:
    every = sum(parts.values(), Work())
    twin = asked.scratch_operations(prepared, size, training.steps) / rates.training
    return size.forward(every) / rates.evaluation + every.narrow * rates.narrow + twin


def _forecast(
    job: Job, training: _Counted, parts: dict[str, Work], seconds: tuple[float, float, float], basis: str
) -> Forecast:
    """From what was counted, and seconds of training, of evaluation, and that are over already."""
    size, every = _size(job), sum(parts.values(), Work())
    around = _AROUND + _AROUND_A_BYTE * size.weight_bytes
    memory = _memory(size, training, every, job.settings.processes)
    if basis == "dry step":  # what it has freed since may stay with the process
        memory = max(memory, peak_memory(), held_memory() + _compared(size) - size.weight_bytes)
    return Forecast(
        round(sum(seconds) + around, 1),
        round(seconds[0], 1),
        round(seconds[1], 1),
        memory,
        4 * size.trained * (1 + 1 + 3 * job.settings.save_total_limit),
        job.steps,
        basis,
        training.stored.bytes,
        {
            name: round(w.positions)
            for name, w in {"training": training.steps, "validation": training.validation, **parts}.items()
        },
    )


def _memory(size: Size, training: _Counted, evaluation: Work, processes: int) -> int:
    """The largest of: a training step; the trained and the reopened model answering; the two compared."""
    activations = size.activations(training.steps, training.frozen_layers)
    worker = LIBRARIES + size.weight_bytes + 12 * size.trained + activations
    step = (processes - 1) * worker + size.weight_bytes + 16 * size.trained + activations
    answering = 2 * size.weight_bytes + size.logits(evaluation)
    return int(LIBRARIES + max(step, answering, _compared(size)))


def _compared(size: Size) -> int:
    """Bytes of the trained model and, side by side, the reopened one or the one that another library opens."""
    return 2 * size.weight_bytes + 16 * size.trained
