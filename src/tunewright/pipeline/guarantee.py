"""The guarantee of a private run: the noise that its target needs, and what the run says about it."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tunewright.core import plugins
from tunewright.core.errors import UserError
from tunewright.core.records import Example, unit_of
from tunewright.core.settings import PrivacySettings
from tunewright.core.store import Run
from tunewright.core.words import rounded_up
from tunewright.data.encoder import Encoded
from tunewright.data.pool import POOL
from tunewright.pipeline.prepare import Prepared
from tunewright.train import accountant
from tunewright.train.job import Job
from tunewright.train.poisson import Poisson, poisson

_PROVEN_UNITS = 2
_ROWS_EACH = 2
_LOOKED_AT = 100
"""Rows, or more until there are two units, among which further ones of theirs are looked for."""
_AGREE = {torch.float32: 1e-3, torch.float64: 1e-6}
"""How far a weight's gradients may lie apart, as a share of their size."""
_AGREE_ROUNDED = 3e-2
"""Beside a rounded base (bfloat16)."""
_APART = 5.0
"""Times that, for units alone against units together."""
_NOTHING = 1e-2
"""Share of that, of the largest gradient of all, under which a difference is rounding alone."""
_STIR = 0.05
_ORIGINAL = "original_max_position_embeddings"
_CHANGING = ("dynamic", "longrope")
"""Kinds of rotation that a long row changes for the others of its batch."""
_FEWEST = 20
"""Units below which no useful noise hides one."""


def private_job(job: Job, privacy: PrivacySettings, held_out: Iterable[Example] = ()) -> Job:
    """The same job with units drawn by Poisson, clipped gradients, and the noise that the target needs.

    Args:
        job: Without privacy.
        privacy: What is promised to whom.
        held_out: Validation and test rows, which nobody of the training rows may be of.

    Raises:
        UserError: The rows cannot keep the promise; the sentence names the nearest that they can.
    """
    settings = job.settings
    _one_unit_each(job, privacy, held_out)
    _one_rotation(job)
    rows_a_step = settings.per_device_train_batch_size * settings.gradient_accumulation_steps
    most = privacy.rows_per_unit or settings.per_device_train_batch_size
    drawn = poisson(job.train, rows_a_step, most)
    sampler = replace(drawn, padded=not job.model.packs, micro_tokens=job.micro_tokens)
    job = replace(job, model=replace(job.model, apart=True), sampler=sampler)
    delta = delta_of(privacy, sampler.units)
    sigma = _sigma(privacy, delta, sampler, job.steps)
    name = {"packed": "private", "reference": "private_reference"}[privacy.mode]
    fields = {
        "name": name,
        "sigma": sigma,
        "clip": privacy.clip,
        "expected": sampler.expected_units,
        "noise_seed": privacy.noise_seed,
    }
    return replace(job, gradients=plugins.build("gradients", fields))


def guarantee(job: Job, prepared: Prepared) -> dict[str, Any]:
    """What RUN/privacy.json holds of a private job: everything that an epsilon needs beside it to be checked."""
    privacy = prepared.settings.privacy
    woven = {unit_of(job.train[row].example) for row in range(len(job.train) - job.woven, len(job.train))}
    sampler, gradients = job.sampler, job.gradients
    assert sampler is not None  # a private job has one
    delta, sigma = delta_of(privacy, sampler.units), gradients.sigma  # type: ignore[attr-defined]
    spent = accountant.spent(sampler.q, sigma, job.steps, delta)
    given = privacy.noise_seed is not None
    return {
        "private": not given,
        "why_not": "privacy.noise_seed was given, so the noise can be drawn again" if given else "",
        "target_epsilon": privacy.target_epsilon,
        "epsilon": {"prv": spent.prv, "rdp": spent.rdp},
        "delta": delta,
        "sigma": sigma,
        "clip": privacy.clip,
        "q": sampler.q,
        "steps": job.steps,
        "units": sampler.units,
        "made_up_units": sum(prepared.canaries.coins) + len(woven),
        "unit": privacy.unit,
        "rows_per_unit": sampler.most,
        "expected_units": sampler.expected_units,
        "sampler": "poisson",
        "accountant": accountant.name(),
        "trained": sum(weight.numel() for weight in job.method.trained(job.model).values()),
        "method": job.method.plugin_name(),
        "base_run": _made_by(prepared.model.origin.folder),
    }


def _made_by(model: Path) -> str:
    """Name of the run whose result a model folder is; empty for any other, and for a copy elsewhere."""
    run = Run(model.resolve().parent)
    return run.name if model.name == run.model.name and run.plan_file.is_file() else ""


def privacy_lines(g: dict[str, Any]) -> list[str]:
    """A guarantee in a line or two, before training."""
    made_up = f" and {g['made_up_units']} made-up ones" if g["made_up_units"] else ""
    prv, rdp, delta = (rounded_up(value, 3) for value in (g["epsilon"]["prv"], g["epsilon"]["rdp"], g["delta"]))
    lines = [
        f"Privacy: epsilon {prv:.3g} at delta {delta:.3g} for each {g['unit']} of "
        f"{g['units'] - g['made_up_units']}{made_up} (RDP: {rdp:.3g}); noise {g['sigma']:.3g}, "
        f"sampling rate {g['q']:.3g}, {g['steps']} steps of {g['expected_units']:.3g} units on average, "
        f"{g['trained']:,} trained coordinates."
    ]
    if not g["private"]:
        lines = [f"This run will NOT be private: {g['why_not']}. {lines[0]}"]
    if g["base_run"]:
        lines.append(
            f"The base model is the result of the run {g['base_run']}: what that run learned from its rows is not "
            "covered."
        )
    return lines


def delta_of(privacy: PrivacySettings, units: int) -> float:
    """The plan's delta, or 1/n^1.1.

    Raises:
        UserError: It is too small to be computed with, or so large that a unit could be published as it is and still
            keep the promise.
    """
    auto = float(units**-1.1)
    if privacy.delta == "auto":
        return auto
    if privacy.delta < accountant.LEAST_DELTA:
        raise UserError(
            f"privacy.delta: found {privacy.delta:g}; below {accountant.LEAST_DELTA:g} no epsilon can be computed. Use "
            f"auto, which is {auto:.2g}, or {accountant.LEAST_DELTA:g} or more."
        )
    if privacy.delta >= 1 / units:
        raise UserError(
            f"privacy.delta: found {privacy.delta:g}, too large for {units} units: from 1/{units} = {1 / units:.2g} "
            f"on, publishing one of them as it is would keep the promise. Use auto, which is {auto:.2g}."
        )
    return privacy.delta


def prove(job: Job) -> None:
    """Compares the units' gradients of a few training rows with the definition, on this very model.

    The definition shares the forward pass, so first units together are compared with each unit alone: else both ways
    would agree about what no unit gave by itself. With `privacy.mode: reference` that is all there is to compare.

    Raises:
        UserError: They differ: some weight is used in a way that its rule does not see, or rows influence one another.
    """
    rows, trained = _of_two_units(job.train), job.method.trained(job.model)
    alone: dict[str, list[Encoded]] = {}
    for row in rows:
        alone.setdefault(unit_of(row.example), []).append(row)
    job.wake()  # as a step finds it
    with _awake(trained.values()):
        slow = _gradients(job, [rows], "private_reference")
        _require_apart(job, slow, _gradients(job, [*alone.values()], "private_reference"))
        if job.gradients.plugin_name() == "private_reference":
            return
        try:
            fast = _gradients(job, [rows], "private")
        except ValueError as error:
            raise UserError(
                f"privacy: the units' gradients cannot be told apart ({error}): the objective "
                f"'{job.objective.plugin_name()}' reads more than the batch, or a trained weight works on "
                "something else than the rows' positions. Use privacy.mode=reference (slow); or objective next_token, "
                "and method lora."
            ) from None
    agree = _agree(job)
    nothing = agree * _NOTHING * max(float(grad.abs().max()) for grad in slow.values())
    apart = [
        name
        for name, grad in slow.items()
        if float((fast[name] - grad).abs().max()) > agree * float(grad.abs().max()) + nothing
    ]
    if apart:
        raise UserError(
            f"privacy: the per-unit gradients of {apart[0]} are not those of the definition ({len(apart)} such "
            "weights), so nothing could be promised. Use privacy.mode=reference (slow), or method lora or norm."
        )


def _agree(job: Job) -> float:
    return _AGREE.get(next(job.model.module.parameters()).dtype, _AGREE_ROUNDED)


def _require_apart(job: Job, together: Mapping[str, Tensor], alone: Mapping[str, Tensor]) -> None:
    """Gradients of all weights as one vector, since rounding differs where rows lie otherwise.

    Raises:
        UserError: Units that share a forward pass have other gradients than alone.
    """
    apart = sum(float((together[name] - grad).double().square().sum()) for name, grad in alone.items())
    size = sum(float(grad.double().square().sum()) for grad in alone.values())
    if math.sqrt(apart) > _APART * _agree(job) * math.sqrt(size):
        raise UserError(
            "privacy: rows of a batch influence one another (their gradients are not those that each unit has alone), "
            "so no unit has a gradient of its own and nothing could be promised. Use a model whose rows are computed "
            "by themselves."
        )


def _of_two_units(rows: Sequence[Encoded]) -> list[Encoded]:
    """A few rows of the first two units: rows of one alone would not show whether units are told apart."""
    found: dict[str, list[Encoded]] = {}
    for number, row in enumerate(rows):
        name = unit_of(row.example)
        if name not in found and len(found) < _PROVEN_UNITS:
            found[name] = []
        if name in found and len(found[name]) < _ROWS_EACH:
            found[name].append(row)
        if len(found) == _PROVEN_UNITS and number >= _LOOKED_AT:
            break
    return [row for kept in found.values() for row in kept]


@contextmanager
def _awake(weights: Iterable[nn.Parameter]) -> Iterator[None]:
    """Within it weights that begin at zero (half of an adapter) do not, since they hide the other half's gradient."""
    drawn, asleep = torch.Generator().manual_seed(0), [weight for weight in weights if not bool(weight.any())]
    with torch.no_grad():
        for weight in asleep:
            weight.copy_(_STIR * torch.randn(weight.shape, generator=drawn))
    try:
        yield
    finally:
        with torch.no_grad():
            for weight in asleep:
                weight.zero_()


def _gradients(job: Job, batches: Iterable[Sequence[Encoded]], name: str) -> dict[str, Tensor]:
    """What a step on these micro-batches, without noise, leaves in the weights; nothing stays there."""
    trained = job.method.trained(job.model)
    making = plugins.build("gradients", {"name": name, "sigma": 0.0, "clip": "automatic", "expected": 1.0})
    with making.begin(job.model, trained, "") as one:
        torch.manual_seed(0)
        for rows in batches:
            batch = job.model.family.collate(job.model, rows)
            one.accumulate(job.objective.loss(job.model, batch, 0), 1.0, batch)
        one.finish(0)
    found = {name: weight.grad.clone() for name, weight in trained.items() if weight.grad is not None}
    for weight in trained.values():
        weight.grad = None
    return found


_ZEROS_AND_SPACES = re.compile(r"\s+|(?<!\d)0+(?=\d)")


def _one_unit_each(job: Job, privacy: PrivacySettings, held_out: Iterable[Example]) -> None:
    # Rows that a mitigation adds are nobody's.
    examples = (job.train[index].example for index in range(len(job.train) - job.woven))
    if privacy.unit != "row":
        names = [example.unit for example in examples]
        if nameless := names.count(None):
            raise UserError(
                f"privacy.unit: {nameless} training rows have nothing in column '{privacy.unit}', so nobody knows whom "
                "to protect. Fill it in, or delete these rows."
            )
        elsewhere = {example.unit for example in held_out if example.unit}
        _spelt_one_way(privacy.unit, {name for name in names if name}, elsewhere)
        return
    rows: dict[str, set[str]] = {}
    for example in examples:
        if example.unit is not None:
            rows.setdefault(example.unit, set()).add(example.id)
    count = sum(map(len, rows.values()))
    if count > len(rows):
        raise UserError(
            f"privacy.unit: found row, but {count} rows belong to {len(rows)} units, so a promise for "
            "single rows would not hold for those whom they belong to. Set privacy.unit to the column that names them."
        )


def _spelt_one_way(column: str, names: set[str], elsewhere: set[str]) -> None:
    """Somebody spelt in two ways would be two units: twice the budget, and in training and test at once.

    So would somebody who stands in the pool too, where names bear a mark. What only held-out rows spell in two ways
    costs nothing.
    """
    spelt = {name: _ZEROS_AND_SPACES.sub("", name.removeprefix(f"{POOL}/").casefold()) for name in names | elsewhere}
    alike, trained = Counter(spelt.values()), {spelt[name] for name in names}
    twice = sum(count for plain, count in alike.items() if count > 1 and plain in trained)
    if twice:
        raise UserError(
            f"privacy.unit: {twice} names in column '{column}' differ from another one in case, spaces or leading "
            "zeros alone, or stand in data.pool as well, so one person may count as two. Write each person one way; "
            "give different people names that differ otherwise, in the pool too."
        )


def _one_rotation(job: Job) -> None:
    """Refuses positions whose rotation depends on the longest row of a batch: then units see one another.

    Raises:
        UserError: Such rows may come.
    """
    config: Any = getattr(job.model.module, "config", None)
    given = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    for rope in [given, *(part for part in given.values() if isinstance(part, dict))]:
        kind = rope.get("rope_type", rope.get("type"))
        stated = (rope.get(_ORIGINAL), getattr(config, _ORIGINAL, None), getattr(config, "max_position_embeddings", 0))
        known = int(next(length for length in (*stated, 0) if length is not None))
        if kind in _CHANGING and job.settings.max_length > known:
            raise UserError(
                f"train.max_length: found {job.settings.max_length}; the model's positions ({kind}) are turned "
                f"otherwise for all rows of a batch as soon as one is longer than {known}, so no unit has a gradient "
                f"of its own. Under privacy set train.max_length to {known} or less."
            )


def _sigma(privacy: PrivacySettings, delta: float, sampler: Poisson, steps: int) -> float:
    epsilon = privacy.target_epsilon
    assert epsilon is not None  # asked by the caller
    if sampler.units < _FEWEST:
        raise UserError(
            f"privacy: found {sampler.units} training units; noise that hides one of so few leaves nothing to learn. "
            f"Give {_FEWEST} or more, better some hundreds."
        )
    most = sampler.expected_units
    if most < accountant.SIGMAS[0]:
        raise UserError(
            f"privacy: a step has {most:.3g} units on average, too few to outweigh any noise that hides one. Give more "
            "rows, or larger steps (train.gradient_accumulation_steps)."
        )
    try:
        sigma = accountant.sigma_for(epsilon, delta, sampler.q, steps)
        needs = f"needs noise of {sigma:.3g} times the clipping norm"
    except accountant.Unreachable:
        sigma, needs = math.inf, f"needs noise of more than {accountant.SIGMAS[1]:g} times the clipping norm"
    except UserError as error:
        raise UserError([f"privacy.target_epsilon: {problem}" for problem in error.problems]) from None
    if sigma <= most:
        return sigma
    strictest = accountant.strictest(sampler.q, min(most, accountant.SIGMAS[1]), steps, delta)
    raise UserError(
        f"privacy.target_epsilon: {epsilon:g} over {steps} steps {needs}; a step has {most:.3g} units on average to "
        f"outweigh it. The strictest here is {strictest:g}; or give more rows, fewer steps, or larger steps."
    )
