"""The model of a run, opened from what was saved."""

from __future__ import annotations

import torch

from tunewright.core import plugins
from tunewright.core.config import Plan
from tunewright.core.errors import UserError
from tunewright.core.settings import PlanSettings
from tunewright.core.store import Run
from tunewright.models.contracts import LoadedModel
from tunewright.models.embedded import resolve_model
from tunewright.models.opening import open_model


def open_tuned(run: Run, dtype: torch.dtype, base: LoadedModel | None = None) -> LoadedModel:
    """The tuned model, in evaluation mode.

    Args:
        run: A run whose training is finished.
        dtype: Of the frozen weights.
        base: The base model if it is open already; it is turned into the tuned one.

    Raises:
        UserError: The run has no model yet.
    """
    plan = Plan.load(run.plan_file)
    if not run.model.is_dir():
        raise UserError(f"{run.folder} has no model yet. Finish it: tunewright resume {run.folder}")
    method = plugins.build("methods", plan.settings.method)
    opened: LoadedModel = method.load(base or open_model(resolve_model(plan.settings.model), dtype), run.model)
    opened.module.eval()
    return serve(opened, plan.settings)


def serve(model: LoadedModel, settings: PlanSettings) -> LoadedModel:
    """A tuned model as the plan's mitigations want it asked."""
    for word in settings.train.mitigations:
        model = plugins.build("mitigations", word).serve(model)
    return model
