"""What privacy asks of a plan, before any row is read."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tunewright.core import plugins
from tunewright.core.errors import UserError
from tunewright.core.settings import DataSettings, PlanSettings, PrivacySettings

OF_METHOD: dict[str, dict[str, tuple[Any, str]]] = {
    "full": {"method.tied": ("freeze", "a table with two uses has no gradient for each unit")},
}
"""Method -> its own fields -> the value that each has under privacy, and why."""
_UNFITTED = ("majority", "prior", "uniform")
"""Baselines that need no training row; the first two are then the best constant answer to the test rows."""


def derived(method: str, baselines: Sequence[str]) -> dict[str, tuple[Any, str]]:
    """Key -> the value that it has under privacy where the plan says nothing itself, and why.

    Args:
        method: Name of the method.
        baselines: What the recipe compares with.
    """
    kept = tuple(name for name in baselines if name in _UNFITTED)
    return {
        "train.early_stopping_patience": (0, "validation rows must not steer training"),
        "train.stored_gb": (0.0, "nothing made of private rows is kept on disk"),
        "evaluate.baselines": (kept, "others are fitted to the private rows without noise"),
        **OF_METHOD.get(method, {}),
    }


def faults(settings: PlanSettings) -> Iterator[str]:
    """A sentence for each setting that privacy cannot have, with the nearest that it can."""
    privacy = settings.privacy
    if not privacy.on:
        usual = PrivacySettings()
        for name in PrivacySettings.model_fields:
            if getattr(privacy, name) != getattr(usual, name):
                yield (
                    f"privacy.{name}: is set, but no privacy.target_epsilon, so nothing would be promised. Set it (3 "
                    "is usual), or leave this out; whose a row is can be said with data.unit."
                )
        return
    yield from _own(privacy)
    if settings.train.early_stopping_patience:
        yield (
            f"train.early_stopping_patience: found {settings.train.early_stopping_patience}; under privacy validation "
            "rows must not decide when training stops. Set 0, or leave it out."
        )
    if settings.train.stored_gb:
        yield "train.stored_gb: under privacy nothing made of private rows is kept on disk. Set 0, or leave it out."
    method = {} if isinstance(settings.method, str) else settings.method
    if _among_the_rows(method.get("public"), settings.data):
        yield (
            f"method.public: {method['public']} is among the private rows, and what it chooses is released "
            "without noise. Name rows that nobody has to be protected from, or use policy magnitude or random."
        )
    for rows in _rows_of_mitigations(settings):
        if _among_the_rows(rows, settings.data):
            yield (
                f"train.mitigations: {rows} is among the private rows, and what a mitigation adds counts as "
                "nobody's. Name a file that nobody has to be protected from, or leave rows out."
            )
    if method.get("lora_dropout"):
        yield (
            f"method.lora_dropout: found {method['lora_dropout']}; under privacy dropout is off, since its "
            "masks tie a unit's gradient to who else came. Set 0, or leave it out."
        )
    fitted = [name for name in settings.evaluate.baselines or () if name not in _UNFITTED]
    if fitted:
        yield (
            f"evaluate.baselines: {', '.join(fitted)} would be fitted to the private rows without noise. Allowed under "
            f"privacy: {', '.join(_UNFITTED)}."
        )
    if settings.seeds > 1 or settings.evaluate.learning_curve:
        yield (
            f"seeds: found {settings.seeds} (evaluate.learning_curve {settings.evaluate.learning_curve}); each further "
            "run on private rows spends a budget of its own. Under privacy set seeds 1 and leave the curve out."
        )
    if (year := settings.data.options.get("test_from")) is not None:
        yield (
            f"data.options.test_from: found {year}; then the people of the test stand in the training rows too, and "
            "what is measured on them is exact. Under privacy leave it out: the rows are split by person."
        )
    unit = privacy.unit
    if unit != "row" and settings.data.unit != unit:
        yield f"data.unit: found '{settings.data.unit}', but privacy.unit is '{unit}'. Name the same column."


def _rows_of_mitigations(settings: PlanSettings) -> Iterator[Any]:
    """The files that mitigations read; what is no mitigation is told elsewhere."""
    for word in settings.train.mitigations:
        with suppress(UserError):
            yield getattr(plugins.build("mitigations", word), "rows", None)


def _among_the_rows(public: Any, data: DataSettings) -> bool:
    """Whether a public file is read from where the rows are, or a public folder has them in it."""
    if not public or not isinstance(public, str):
        return False
    file, *places = (Path(os.path.expanduser(given)).resolve() for given in (public, data.path, data.pool) if given)
    return any(place in (file, *file.parents) or file in place.parents for place in places)


def _own(privacy: PrivacySettings) -> Iterator[str]:
    epsilon, delta = privacy.target_epsilon, privacy.delta
    if epsilon is None or not (math.isfinite(epsilon) and epsilon > 0):
        yield f"privacy.target_epsilon: found {epsilon}; must be above 0. Strict is 1, usual 3, loose 8."
    elif epsilon > MOST_EPSILON:
        yield (
            f"privacy.target_epsilon: found {epsilon:g}; above {MOST_EPSILON:g} nothing is promised that matters. "
            f"The loosest allowed is {MOST_EPSILON:g}; to train without privacy leave the section out."
        )
    if delta != "auto" and not 0 < float(delta) < 1:
        yield f"privacy.delta: found {delta}; must lie between 0 and 1. Use auto, which is 1/n^1.1 over n units."
    if privacy.clip != "automatic" and not (math.isfinite(float(privacy.clip)) and float(privacy.clip) > 0):
        yield f"privacy.clip: found {privacy.clip}; must be a norm above 0, or automatic."
    if privacy.sampler != "poisson":
        yield (
            f"privacy.sampler: found '{privacy.sampler}'; the epsilon that is computed holds for Poisson sampling, and "
            "is too low for shuffled rows. Set poisson, or leave it out."
        )


MOST_EPSILON = 50.0
