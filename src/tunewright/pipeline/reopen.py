"""A run prepared again from its folder, by whoever goes on with it, judges it, attacks it or helps it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tunewright.core.config import Plan, override
from tunewright.core.errors import UserError
from tunewright.core.plan_text import flatten
from tunewright.core.plugins import build
from tunewright.core.progress import Progress
from tunewright.core.settings import PlanSettings
from tunewright.core.store import Run
from tunewright.data.canaries import Canaries
from tunewright.pipeline.discretion import same_rows
from tunewright.pipeline.machine import fix_threads
from tunewright.pipeline.prepare import Prepared, prepare, reread_rows
from tunewright.runs.opening import forget_noise_key, require_same_model

_ASKING = ("evaluate", "gates")
"""Sections of a plan that `evaluate` may set otherwise."""


def reopen(run: Run, overrides: Sequence[str], progress: Progress) -> Prepared:
    """A run prepared again: the same rows, threads and precision, or a sentence on what changed."""
    forget_noise_key(run)
    plan = Plan.load(run.plan_file)
    if run.read("privacy.json") is not None and not plan.settings.privacy.on:
        raise UserError(
            f"{run.folder} was begun under privacy, and its plan.yaml now has none: nothing done from here would be "
            "covered by its promise. Put privacy.target_epsilon back, or start a new run."
        )
    found = run.must_read("info.json")
    _require_as_made(run, plan.settings, found)
    _require_there(run, plan.settings)
    if overrides:
        plan = _judged_otherwise(plan, overrides)
    fix_threads(found["threads"])
    plan = plan.changed({"train.precision": found["precision"]}, "as the run began")
    rows = reread_rows(plan, progress)
    if not same_rows(run, rows.dataset.fingerprint):
        raise UserError(
            f"The rows in {plan.settings.data.path} have changed since {run.folder} was made. Put the old file back, "
            "or start a new run with `tunewright tune`."
        )
    canaries = Canaries.read(run.folder) if plan.settings.audit.canaries else Canaries()
    prepared = prepare(rows, progress, canaries)
    require_same_model(run, prepared.model.origin, plan.settings.model)
    return prepared


def as_made(settings: PlanSettings) -> dict[str, Any]:
    """What a model was made under, as plain values, for info.json."""
    return settings.model_dump(mode="json")


_FREE = (
    *_ASKING,
    "model",
    "seeds",
    "data.path",
    "data.pool",
    "data.use",
    "train.precision",
    "train.threads",
    "train.processes",
)
"""Keys of a plan that may be others once a model is made: what is asked or told of it, and what a run has its own
record of."""
_WHOLE = ("data.map", "data.options")
"""Keys whose values are the user's own words, compared as they are."""


def _require_as_made(run: Run, settings: PlanSettings, found: Mapping[str, Any]) -> None:
    """Whether a finished model's plan still says how it was made; one of an older version recorded nothing.

    Raises:
        UserError: plan.yaml was changed since.
    """
    if "settings" not in found or not run.model.is_dir():
        return
    was, now = _compared(found["settings"]), _compared(as_made(settings))
    # A key that only one of them has came or went with a version.
    changed = [key for key in now if key in was and was[key] != now[key] and not _is_free(key)]
    if changed:
        told = "; ".join(f"{key} is {now[key]}, and was {was[key]}" for key in changed)
        raise UserError(
            f"{run.plan_file} was changed since the model was made: {told}. Put it back; for a model made otherwise "
            "start a new run."
        )


def _compared(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys -> values; a plugin as a whole, since its name alone means its defaults."""
    plugins_of = {"method": "methods", "objective": "objectives"}
    found = {key: build(kind, settings[key]).written() for key, kind in plugins_of.items()}
    found |= {key: settings["data"][key.partition(".")[2]] for key in _WHOLE}
    others = flatten({key: value for key, value in settings.items() if key not in plugins_of})
    return found | {key: value for key, value in others if not key.startswith(_WHOLE)}


def _is_free(key: str) -> bool:
    return any(key == free or key.startswith(f"{free}.") for free in _FREE)


def _require_there(run: Run, settings: PlanSettings) -> None:
    """Whether rows and model still lie where the plan says.

    Raises:
        UserError: Something was moved.
    """
    named = {"data.path": settings.data.path, "data.pool": settings.data.pool, "model": settings.model}
    gone = {key: name for key, name in named.items() if name and Path(name).is_absolute() and not Path(name).exists()}
    if gone:
        raise UserError([
            f"{key}: {name} is not there any more. Put it back, or write its new place under resolved in "
            f"{run.plan_file}; that it is the same is checked by its hash."
            for key, name in gone.items()
        ])  # fmt: skip


def _judged_otherwise(plan: Plan, overrides: Sequence[str]) -> Plan:
    """The plan with other questions; how the model was made is past.

    Raises:
        UserError: Something else was to be set.
    """
    changed = override(plan, overrides)
    was, now = (one.settings.model_dump() for one in (override(plan, ()), changed))  # both with today's defaults
    others = [root for root in was if root not in _ASKING and was[root] != now[root]]
    if others:
        raise UserError(
            f"--set: found {', '.join(others)}; a finished model is judged, not made again. Allowed: keys of "
            f"{' and '.join(_ASKING)}. For another model start a new run: tunewright tune"
        )
    return changed
