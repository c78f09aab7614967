"""The model of a run, opened from what was saved."""

from __future__ import annotations

import shutil
from dataclasses import replace

import torch

from tunewright.core import plugins
from tunewright.core.config import Plan
from tunewright.core.errors import UserError
from tunewright.core.settings import PlanSettings
from tunewright.core.store import Run
from tunewright.core.words import command
from tunewright.models.contracts import LoadedModel, Origin
from tunewright.models.embedded import resolve_model
from tunewright.models.opening import open_model
from tunewright.runs.made import require_as_made


def open_tuned(run: Run, dtype: torch.dtype, base: LoadedModel | None = None) -> LoadedModel:
    """The tuned model as it is to be asked, in evaluation mode; see `open_trained`."""
    return serve(open_trained(run, dtype, base), Plan.load(run.plan_file).settings)


def open_trained(run: Run, dtype: torch.dtype, base: LoadedModel | None = None) -> LoadedModel:
    """The tuned model without what mitigations put around it when it is asked, in evaluation mode.

    Args:
        run: A run whose training is finished.
        dtype: Of the frozen weights.
        base: The base model if it is open already; it is turned into the tuned one.

    Raises:
        UserError: The run has no model yet, its base is another one now, or the key of a private run's noise cannot be
            deleted; or plan.yaml was edited since.
    """
    forget_noise_key(run)  # it may have been stopped between saving and deleting
    plan = Plan.load(run.plan_file)
    if not run.model.is_dir():
        raise UserError(f"{run.folder} has no model yet. Finish it: {command('resume', run.folder)}")
    require_as_made(run, plan.settings)
    origin = base.origin if base else resolve_model(plan.settings.model)
    require_same_model(run, origin, plan.settings.model)
    method = plugins.build("methods", plan.settings.method)
    opened: LoadedModel = method.load(base or open_model(origin, dtype), run.model)
    opened.module.eval()
    return as_answered(run, opened)


def as_answered(run: Run, model: LoadedModel) -> LoadedModel:
    """The model with answers begun, and rows laid out, as those of a run: base and tuned are asked alike."""
    packs = model.packs and Plan.load(run.plan_file).settings.train.packing
    return replace(model, opens=bool(run.must_read("info.json").get("opens", True)), packs=packs)


def require_same_model(run: Run, origin: Origin, name: str) -> None:
    """A run's base is the one that it was trained on, or a sentence says that it is not.

    Raises:
        UserError: Other weights, or another tokenizer or chat template, stand under its name.
    """
    known = run.must_read("info.json")["model"]
    # Runs of an older version knew no hash of the tokenizer.
    if (origin.digest, origin.reading) != (known["digest"], known.get("reading", origin.reading)):
        what = "The model" if origin.digest != known["digest"] else "The tokenizer or chat template of the model"
        raise UserError(
            f"{what} '{name}' is another one than {run.folder} was trained on. "
            "Bring the old one back, or start a new run."
        )


def forget_noise_key(run: Run) -> None:
    """Deletes what holds the key of a finished private run's noise; does nothing for any other run.

    Raises:
        UserError: It is still there.
    """
    if not run.model.is_dir() or run.read("privacy.json") is None:
        return
    shutil.rmtree(run.checkpoints, ignore_errors=True)
    if run.checkpoints.exists():
        raise UserError(
            f"{run.checkpoints} could not be deleted. It holds the key of the noise, with which the promise is void. "
            f"Delete that folder, then go on: {command('resume', run.folder)}"
        )


def delete_control(run: Run) -> None:
    """Deletes the twin without privacy that an audit which was killed left; does nothing where there is none.

    Raises:
        UserError: It is still there.
    """
    control = run.control
    shutil.rmtree(control, ignore_errors=True)
    if control.exists():
        raise UserError(
            f"{control} could not be deleted. It was trained without privacy on rows that are promised it: delete that "
            "folder yourself."
        )


def serve(model: LoadedModel, settings: PlanSettings) -> LoadedModel:
    """A tuned model as the plan's mitigations want it asked."""
    for word in settings.train.mitigations:
        model = plugins.build("mitigations", word).serve(model)
    return model
