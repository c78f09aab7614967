"""How the model of a run was made, kept with it: a plan that was edited afterwards does not say it any more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunewright.core.errors import UserError
from tunewright.core.plan_text import flatten
from tunewright.core.plugins import build
from tunewright.core.settings import PlanSettings
from tunewright.core.store import Run

ASKING = ("evaluate", "gates")
"""Sections of a plan that say what is asked of a model, not how it is made."""


def as_made(settings: PlanSettings) -> dict[str, Any]:
    """What a model was made under, as plain values, for info.json."""
    return settings.model_dump(mode="json")


_FREE = (
    *ASKING,
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


def require_as_made(run: Run, settings: PlanSettings) -> None:
    """Whether a finished model's plan still says how it was made; one of an older version recorded nothing.

    Raises:
        UserError: plan.yaml was changed since.
    """
    found = run.must_read("info.json")
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
