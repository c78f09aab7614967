"""A run prepared again from its folder, by whoever goes on with it, judges it, attacks it or helps it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tunewright.core.config import Plan, override
from tunewright.core.errors import UserError
from tunewright.core.progress import Progress
from tunewright.core.settings import PlanSettings
from tunewright.core.store import Run
from tunewright.data.canaries import Canaries
from tunewright.pipeline.discretion import same_rows
from tunewright.pipeline.machine import fix_threads, multiplied_in
from tunewright.pipeline.prepare import Prepared, prepare, reread_rows
from tunewright.runs.made import ASKING, require_as_made
from tunewright.runs.opening import forget_noise_key, require_same_model


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
    require_as_made(run, plan.settings)
    _require_there(run, plan.settings)
    if overrides:
        plan = _judged_otherwise(plan, overrides)
    fix_threads(found["threads"])
    plan = plan.changed({"train.precision": multiplied_in(found)}, "as the run began")
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
    others = [root for root in was if root not in ASKING and was[root] != now[root]]
    if others:
        raise UserError(
            f"--set: found {', '.join(others)}; a finished model is judged, not made again. Allowed: keys of "
            f"{' and '.join(ASKING)}. For another model start a new run: tunewright tune"
        )
    return changed
