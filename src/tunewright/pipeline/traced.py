"""The attack from inside: a private run's steps watched, and its canaries found again in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tunewright.core import plugins
from tunewright.core.batches import batches
from tunewright.core.progress import Progress
from tunewright.core.records import unit_of
from tunewright.core.seeds import key
from tunewright.core.store import Run
from tunewright.data.encoder import Encoded
from tunewright.evaluate.contracts import Floats
from tunewright.evaluate.in_batch import Floats32, scores, step_ratios
from tunewright.models.contracts import LoadedModel
from tunewright.models.opening import open_model
from tunewright.models.per_unit import squares_of
from tunewright.pipeline.prepare import Prepared
from tunewright.runs import trace
from tunewright.train.job import Job
from tunewright.train.order import MICRO_TOKENS

MOST_OTHERS = 1_000
"""Real units whose gradients are told from those of canaries; more are taken for noise."""
_TRACE_BYTES, _GRADIENT_BYTES, _PART_BYTES = 2e9, 1e9, 1e9


@dataclass(frozen=True, slots=True)
class Inside:
    """What watching a run told of its canaries."""

    score_C: Floats
    """[canaries] how surely each was trained on."""
    steps: int
    """How many were watched."""
    noise: float | None
    """Standard deviation of the noise that was found, over the promised one; None = it could not be told."""


def traced(job: Job, prepared: Prepared, run: Run) -> Job:
    """The same job, with a trace of its steps for the audit if it is private and has canaries."""
    if not (job.private and prepared.canaries.coins):
        return job
    if prepared.settings.privacy.mode == "reference":
        run.note("With privacy.mode=reference no step is kept, so the audit sees the result alone.")
        return job
    size = sum(weight.numel() for weight in job.method.trained(job.model).values())
    kept = min(prepared.settings.audit.steps, int(_TRACE_BYTES / (8 * size)))
    if not kept:
        run.note(f"Its {size:,} trained weights are too many to keep steps of, so the audit sees the result alone.")
        return job
    return replace(job, gradients=trace.Traced(job.gradients, run.folder, trace.chosen(job.steps, kept)))


def look_inside(prepared: Prepared, run: Run, canaries: Sequence[Encoded], progress: Progress) -> Inside | None:
    """How surely each canary was in a run, from its trace; None for a run without one.

    Args:
        prepared: The run prepared again; its model is left as it is.
        run: Its folder.
        canaries: All of them, in and out.
        progress: Told what is going on.
    """
    files, promised = trace.steps_in(run.folder), run.read("privacy.json")
    if not files or not promised:
        return None
    units = [*canaries, *_others(prepared.train)]
    watcher = _Watcher.of(prepared, promised, len(units))
    claimed = watcher.private.sigma * watcher.private.sensitivity
    found: list[tuple[Floats, float | None]] = []
    for path in files:
        seen = trace.read(path)
        released = {name: _flat(seen.gradients[name] * promised["expected_units"]) for name in watcher.names}
        found.append(step_ratios(watcher.gradients(seen, units), released, claimed, promised["q"]))
        progress("watching steps", len(found), len(files))
    ratio_TC = np.array([ratio_U[: len(canaries)] for ratio_U, _ in found])
    noises = [noise / claimed for _, noise in found if noise is not None]
    return Inside(scores(ratio_TC, promised["q"]), len(files), float(np.median(noises)) if noises else None)


def _others(rows: Sequence[Encoded]) -> list[Encoded]:
    """One piece of each real unit; of many units the first, which are any of them."""
    first: dict[str, Encoded] = {}
    for row in rows:
        if not row.example.id.startswith("canary-") and len(first) < MOST_OTHERS:
            first.setdefault(unit_of(row.example), row)
    return [*first.values()]


@dataclass(frozen=True, slots=True)
class _Watcher:
    """Makes the gradients that units would have given at a step, clipped as the run promised."""

    prepared: Prepared
    model: LoadedModel
    trained: Mapping[str, nn.Parameter]
    private: Any
    names: tuple[str, ...]
    """The weights that are looked at: all, or as many as memory holds."""

    @classmethod
    def of(cls, prepared: Prepared, promised: Mapping[str, Any], units: int) -> _Watcher:
        opened = open_model(prepared.model.origin, prepared.dtype)
        alike = replace(opened, packs=prepared.model.packs, apart=True)
        model = prepared.method.attach(alike, prepared.settings.seed)
        model.module.eval()
        trained = prepared.method.trained(model)
        fields = {"sigma": promised["sigma"], "clip": promised["clip"], "expected": promised["expected_units"]}
        private = plugins.build("gradients", {"name": "private", **fields})
        return cls(prepared, model, trained, private, _that_fit(trained, units))

    def gradients(self, seen: trace.Seen, units: Sequence[Encoded]) -> dict[str, Floats32]:
        """For each weight [units, coordinates]."""
        with torch.no_grad():
            for name, weight in self.trained.items():
                weight.copy_(seen.weights[name])
        found = {name: np.empty((len(units), self.trained[name].numel()), np.float32) for name in self.names}
        seed = key(self.prepared.settings.seed, "audit")
        with self.private.begin(self.model, self.trained, "") as making:
            start = 0
            for part in self._parts(units):
                batch = self.model.family.collate(self.model, part)
                loss = self.prepared.objective.loss(self.model, batch, seed)
                _, by_weight = making.by_unit(loss, batch)
                factor_U = self.private.factors(squares_of(by_weight.values()))
                for name in self.names:
                    value_UD = by_weight[id(self.trained[name])].dense().value_UW.flatten(1)
                    found[name][start : start + len(part)] = (value_UD * factor_U[:, None]).numpy()
                start += len(part)
        return found

    def _parts(self, units: Sequence[Encoded]) -> Iterator[list[Encoded]]:
        """So many at a time that their activations, and the gradients of all weights, fit into memory."""
        written = sum(weight.numel() for weight in self.trained.values())
        most = max(1, int(_PART_BYTES / (4 * written)))
        for chunk in batches(units, attrgetter("length"), MICRO_TOKENS, padded=not self.model.packs):
            yield from (chunk[start : start + most] for start in range(0, len(chunk), most))


def _that_fit(trained: Mapping[str, nn.Parameter], units: int) -> tuple[str, ...]:
    """Names of weights, any of them, whose gradients for all units fit into memory; the smallest if none does."""
    room, names = _GRADIENT_BYTES / (4 * units), list[str]()
    for name in sorted(trained, key=lambda name: key("watched", name)):
        if trained[name].numel() <= room:
            names.append(name)
            room -= trained[name].numel()
    return tuple(names) or (min(trained, key=lambda name: trained[name].numel()),)


def _flat(values: Tensor) -> Floats32:
    return np.asarray(values.flatten().float().numpy(), np.float32)
