"""Mitigations in a run: checked before it, rows mixed in, weights projected, the model served; each with its cost."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import median
from typing import Any

import numpy as np
import torch

from tunewright.core import plugins
from tunewright.core.errors import UserError
from tunewright.core.progress import Progress
from tunewright.core.records import Example
from tunewright.core.seeds import key
from tunewright.core.settings import PlanSettings
from tunewright.core.store import Run, each_event
from tunewright.data.encoded_rows import lengths
from tunewright.data.encoder import Encoded, Encoder, Unencodable
from tunewright.data.sequences import Joined
from tunewright.mitigations._base import Effect, Mitigation
from tunewright.models.contracts import LoadedModel, Method, Objective, ReadsBeside
from tunewright.models.encoding import plain_ids
from tunewright.models.reference import Reference, Refers
from tunewright.train.job import Job
from tunewright.train.loop import validation_loss

FILE = "mitigations.json"
_REFERENCE = "reference"
"""Folder in a run: what the untrained model said of its rows."""
_MEASURED = 5
"""Steps, the first ones, on which it is measured what an objective reads beside the rows."""


def planned(settings: PlanSettings) -> list[Mitigation]:
    """The mitigations of a plan."""
    return [plugins.build("mitigations", word) for word in settings.train.mitigations]


def faults(
    settings: PlanSettings, examples: Sequence[Any], model: LoadedModel, method: Method, objective: Objective
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
        if isinstance(objective, Refers):
            found.append(
                f"objective: '{objective.plugin_name()}' keeps what the untrained model says of every row; under "
                "privacy nothing made of private rows is kept on disk. Use next_token."
            )
    return found


def served_note(settings: PlanSettings) -> list[str]:
    """A sentence where mitigations put something around the finished model, which the base is asked without."""
    names = [one.plugin_name() for one in planned(settings) if type(one).serve is not Mitigation.serve]
    if not names:
        return []
    return [
        f"Tuned is asked as {', '.join(names)} serves it, base without that: what changed is of both, the training and "
        "what stands around it."
    ]


def with_more(
    settings: PlanSettings, examples: Sequence[Any], rows: Sequence[Encoded], encoder: Encoder
) -> tuple[Joined[Encoded], tuple[str, ...]]:
    """The training rows and after them the rows that mitigations add; and of each of these, which one added it.

    Raises:
        UserError: An added row cannot be encoded.
    """
    more, by = list[Encoded](), list[str]()
    for one in planned(settings):
        for example in one.more_rows(examples):
            try:
                more += encoder.encode(example)
            except Unencodable as error:
                raise UserError(f"{example.source}: {error}. Raise train.max_length, or give shorter rows.") from None
        by += [one.plugin_name()] * (len(more) - len(by))
    return Joined[Encoded](rows, more), tuple(by)


def held(job: Job, objective: Objective, run: Run, progress: Progress) -> Job:
    """The job with an objective that knows what the untrained model said of its rows, where it needs that."""
    if not isinstance(objective, Refers):
        return job
    started, total = time.perf_counter(), len(job.train) + len(job.valid)
    found = referred(job, run, progress)
    kept = sum(path.stat().st_size for path in (run.folder / _REFERENCE).glob("*.safetensors"))
    seconds = time.perf_counter() - started
    _tell(run, "reference", Effect(
        f"What the model said of {total} rows before training was kept in {seconds:.1f} s ({kept / 1e6:.1f} MB).",
        {"seconds": round(seconds, 2), "bytes": kept},
    ))  # fmt: skip
    return found


def referred(job: Job, run: Run, progress: Progress) -> Job:
    """As `held`, without a word: a worker finds what the first process kept."""
    objective = job.objective
    if not isinstance(objective, Refers):
        return job
    reference, total = Reference.of(job.model, run.folder / _REFERENCE), len(job.train) + len(job.valid)
    for done in reference.fill([job.train, job.valid]):
        progress("what the model says before training", min(done, total), total)
    return replace(job, objective=objective.against(reference))


def protect(job: Job, settings: PlanSettings, examples: Sequence[Example], run: Run) -> None:
    """Projects the trained weights by the planned mitigations, and records what these and the objective cost."""
    if job.woven:
        short = {one.plugin_name(): one.shortfall(examples) for one in planned(settings)}
        _tell(run, "rows", _mixed_in(job, {name: sentence for name, sentence in short.items() if sentence}))
    if isinstance(job.objective, ReadsBeside):
        steps = sum(1 for _ in each_event(run, "step"))
        _tell(run, job.objective.plugin_name(), _read_beside(job, job.objective, steps))
    for one in planned(settings):
        if price := one.price(job.model):
            _tell(run, one.plugin_name(), price)
        if type(one).project is Mitigation.project:
            continue
        before, started = _loss(job), time.perf_counter()
        effect = one.project(job.model)
        seconds = round(time.perf_counter() - started, 2)
        if effect is None:
            continue
        cost = {"seconds": seconds, "validation_loss": [before, _loss(job)]}
        _tell(run, one.plugin_name(), Effect(f"{effect.sentence}{_worth(cost)}", {**effect.facts, **cost}))


def _mixed_in(job: Job, short: Mapping[str, str]) -> Effect:
    """What the added rows cost, together and by the mitigation that added them; which of these added too few."""
    length_R, own = lengths(job.train), len(job.train) - job.woven
    tokens = max(1, int(length_R[:own].sum()))
    places = {
        name: [own + place for place, whose in enumerate(job.woven_by) if whose == name]
        for name in dict.fromkeys(job.woven_by)
    }
    fewer = {name: {"shortfall": sentence} for name, sentence in short.items()}
    rows: dict[str, dict[str, Any]] = {name: {"rows": len(lie), **fewer.get(name, {})} for name, lie in places.items()}
    why = "".join(f" {sentence}" for sentence in short.values())
    if job.discreet:  # their share of the tokens would tell of the rows
        each = _each([f"{name}: {len(lie)}" for name, lie in places.items()])
        facts = {"rows": job.woven, "by_mitigation": rows}
        return Effect(f"{job.woven} rows were mixed in{each}, drawn as the others.{why}", facts)
    shares = {name: int(length_R[lie].sum()) / tokens for name, lie in places.items()}
    share = int(length_R[own:].sum()) / tokens
    each = _each([f"{name}: {len(lie)} rows, {shares[name]:.1%}" for name, lie in places.items()])
    return Effect(
        f"{job.woven} rows were mixed in evenly in every epoch: {share:.1%} more tokens a pass{each}.{why}",
        {
            "rows": job.woven,
            "token_share": share,
            "by_mitigation": {name: {**rows[name], "token_share": shares[name]} for name in places},
        },
    )


def _each(parts: Sequence[str]) -> str:
    """In brackets what each did, where there are several."""
    return f" ({'; '.join(parts)})" if len(parts) > 1 else ""


def _read_beside(job: Job, objective: ReadsBeside, steps: int) -> Effect:
    """What it costs that the objective reads prompts beside the rows; they alone are timed, forward and backward.

    Weights stay as they are. Timed after training, when nothing is done for the first time.
    """
    name, prompts = job.objective.plugin_name(), len(objective.beside(["one"], 0))
    if job.discreet:  # a step's prompts and time would tell how many came
        return Effect(f"{name} read {prompts} short prompts more with every row.", {"prompts_a_row": prompts})
    found = [_one_step(job, objective, step) for step in range(max(1, min(steps, _MEASURED)))]
    own, count, tokens, _ = np.mean(found, axis=0).tolist()
    seconds = median(step[-1] for step in found)
    return Effect(
        f"{name} read {round(count, 1):g} short prompts more a step: {tokens / own:.1%} more tokens and about "
        f"{seconds:.2f} s a step, {seconds * steps:.1f} s in {steps} steps (measured on {len(found)}).",
        {
            "prompts_a_row": prompts,
            "prompts_a_step": count,
            "tokens_a_step": tokens,
            "token_share": tokens / own,
            "seconds_a_step": round(seconds, 4),
            "seconds": round(seconds * steps, 2),
        },
    )


def _one_step(job: Job, objective: ReadsBeside, step: int) -> tuple[int, int, int, float]:
    """Of a step: tokens of its rows, prompts that were read beside them, their tokens, seconds for these alone."""
    seed = key(job.seed, "step", step)  # as the loop draws them
    micro = [[job.train[i].example.id for i in rows] for rows in job.order.micro_batches(step, job.micro_rows)]
    prompts = [prompt for ids in micro for prompt in objective.beside(ids, seed)]
    job.model.module.train()
    started = time.perf_counter()
    for ids in micro:
        with job.multiplying():
            apart = objective.apart(job.model, ids, seed).sum()
        torch.autograd.backward(apart)
    seconds = time.perf_counter() - started
    for weight in job.method.trained(job.model).values():
        weight.grad = None
    tokens = sum(len(plain_ids(job.model.tokenizer, prompt)) for prompt in prompts)
    return int(lengths(job.train)[job.order.step(step)].sum()), len(prompts), tokens, seconds


def _loss(job: Job) -> float | None:
    if not job.valid or job.discreet:
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
