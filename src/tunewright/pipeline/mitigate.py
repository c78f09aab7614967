"""Mitigations in a run: checked before it, rows mixed in, weights projected, the model served; each with its cost."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tunewright.core import plugins
from tunewright.core.errors import UserError
from tunewright.core.settings import PlanSettings
from tunewright.core.store import Run
from tunewright.data.encoded_rows import lengths
from tunewright.data.encoder import Encoded, Encoder, Unencodable
from tunewright.data.sequences import Joined
from tunewright.evaluate.contracts import Progress
from tunewright.mitigations._base import Effect, Mitigation
from tunewright.models.contracts import LoadedModel, Objective
from tunewright.models.reference import Reference
from tunewright.train.loop import Job, validation_loss

FILE = "mitigations.json"


def planned(settings: PlanSettings) -> list[Mitigation]:
    """The mitigations of a plan."""
    return [plugins.build("mitigations", word) for word in settings.train.mitigations]


def faults(
    settings: PlanSettings, examples: Sequence[Any], model: LoadedModel, method: Any, objective: Any
) -> list[str]:
    """What stands in the way of the planned mitigations, and of an objective that holds to the untrained model."""
    name, every = method.plugin_name(), planned(settings)
    found = [fault for one in every for fault in one.check(examples, model, name)]
    if settings.privacy.on:
        found += [
            f"train.mitigations: {one.plugin_name()} trains on what a row says a second time, as another row, so the "
            "promise for one row would not hold. Leave it out under privacy."
            for one in every
            if one.doubles
        ]
        if hasattr(objective, "against"):
            found.append(
                f"objective: '{objective.plugin_name()}' keeps what the untrained model says of every row; under "
                "privacy nothing made of private rows is kept on disk. Use next_token."
            )
    return found


def with_more(
    settings: PlanSettings, examples: Sequence[Any], rows: Sequence[Encoded], encoder: Encoder
) -> Joined[Encoded]:
    """The training rows, and after them the rows that mitigations add.

    Raises:
        UserError: An added row cannot be encoded.
    """
    more: list[Encoded] = []
    for one in planned(settings):
        for example in one.more_rows(examples):
            try:
                more += encoder.encode(example)
            except Unencodable as error:
                raise UserError(f"{example.source}: {error}. Raise train.max_length, or give shorter rows.") from None
    return Joined[Encoded](rows, more)


def held(job: Job, objective: Objective, run: Run, progress: Progress) -> Job:
    """The job with an objective that knows what the untrained model said of its rows, where it needs that."""
    if not hasattr(objective, "against"):
        return job
    started = time.perf_counter()
    reference = Reference.of(job.model, run.folder / "reference")
    total = len(job.train) + len(job.valid)
    for done in reference.fill([job.train, job.valid]):
        progress("what the model says before training", min(done, total), total)
    kept = sum(path.stat().st_size for path in reference.stored.folder.glob("*.safetensors"))
    seconds = time.perf_counter() - started
    _tell(run, "reference", Effect(
        f"What the model said of {total} rows before training was kept in {seconds:.1f} s ({kept / 1e6:.1f} MB).",
        {"seconds": round(seconds, 2), "bytes": kept},
    ))  # fmt: skip
    return replace(job, objective=objective.against(reference))


def protect(job: Job, settings: PlanSettings, run: Run) -> None:
    """Projects the trained weights by the planned mitigations, and records what they did and what that cost."""
    if job.woven and job.private:  # their share of the tokens would tell of the rows
        _tell(run, "rows", Effect(f"{job.woven} rows were mixed in, drawn as the others.", {"rows": job.woven}))
    elif job.woven:
        added = int(lengths(job.train)[len(job.train) - job.woven :].sum())
        share = added / max(1, int(lengths(job.train).sum()) - added)
        _tell(run, "rows", Effect(
            f"{job.woven} rows were mixed in evenly in every epoch: {share:.1%} more tokens a pass.",
            {"rows": job.woven, "token_share": share},
        ))  # fmt: skip
    for one in planned(settings):
        if price := one.price(job.model):
            _tell(run, one.plugin_name(), price)
        started, before = time.perf_counter(), _loss(job)
        effect = one.project(job.model)
        if effect is None:
            continue
        cost = {"seconds": round(time.perf_counter() - started, 2), "validation_loss": [before, _loss(job)]}
        _tell(run, one.plugin_name(), Effect(f"{effect.sentence}{_worth(cost)}", {**effect.facts, **cost}))


def _loss(job: Job) -> float | None:
    if not job.valid or job.private:
        return None
    total, count = validation_loss(job)
    return total / count


def _worth(cost: dict[str, Any]) -> str:
    before, after = cost["validation_loss"]
    return "" if before is None else f" The validation loss went from {before:.3f} to {after:.3f}."


def _tell(run: Run, name: str, effect: Effect) -> None:
    """Into the notes once, and into `mitigations.json`."""
    found = run.read(FILE) or {}
    if name not in found:
        run.note(effect.sentence)
    run.write(FILE, {**found, name: {"sentence": effect.sentence, **effect.facts}})
