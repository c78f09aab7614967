"""Twins of a run: trained again inside it, alike but for a few settings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tunewright.core.config import Plan, override
from tunewright.core.progress import Progress, under
from tunewright.core.store import Run
from tunewright.evaluate.gates import INCREASES
from tunewright.pipeline.machine import multiplied_in
from tunewright.pipeline.prepare import reread_rows
from tunewright.pipeline.reopen import reopen
from tunewright.pipeline.train import set_up, train_stage
from tunewright.runs.opening import forget_noise_key

_ALONE: dict[str, Any] = {
    "seeds": 1, "evaluate.learning_curve": False, "evaluate.probes": [], **{f"gates.{gate}": None for gate in INCREASES}
}  # fmt: skip
"""A twin has no runs inside it, and no probe is asked of it."""


def twin_of(run: Run, name: str, changes: Mapping[str, Any], progress: Progress) -> Run:
    """The twin in `children/<name>`, trained; one that is there is gone on with, or used as it is.

    Args:
        run: The run whose plan, rows, threads and precision it takes.
        name: Of the folder.
        changes: Dotted plan keys -> what is different.
        progress: Told what is going on.
    """
    child = run.child(name)
    tell = under(progress, f"{name} twin")
    if child.model.is_dir():
        forget_noise_key(child)  # it may have been stopped between saving and deleting
        return child
    if child.plan_file.is_file():
        prepared = reopen(child, (), tell)
        with child.writing():
            train_stage(prepared, child, tell, None)
        return child
    found = run.must_read("info.json")
    plan = override(
        Plan.load(run.plan_file), [f"{key}={json.dumps(value)}" for key, value in {**_ALONE, **changes}.items()]
    )
    own = {"train.precision": multiplied_in(found), "train.threads": found["threads"]}
    plan = plan.changed(own, "as the run's own")
    with set_up(reread_rows(plan, tell), child.folder, "train", tell) as (prepared, child):
        train_stage(prepared, child, tell, None)
    return child
