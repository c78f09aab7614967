"""Which runs a plan asks for inside its own: other seeds, fewer rows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tunewright.core.settings import PlanSettings
from tunewright.evaluate.learning_curve import SHARES

FEWEST = 8
"""Training rows below which a quarter of them is no set to train on."""


@dataclass(frozen=True, slots=True)
class Child:
    """A run inside a run."""

    name: str
    """Of its folder below `children/`."""
    why: str
    """Where its changed settings came from."""
    changed: Mapping[str, Any]
    """Dotted key of the plan -> value."""


def children_of(settings: PlanSettings, train_rows: int) -> list[Child]:
    """The runs that a plan asks for beside its own."""
    held_out = settings.seed if settings.data.split_seed is None else settings.data.split_seed
    found = [
        Child(f"seed-{seed}", f"derived: seeds {settings.seeds}", {"seed": seed, "data.split_seed": held_out})
        for seed in range(settings.seed + 1, settings.seed + settings.seeds)
    ]
    if settings.evaluate.learning_curve and train_rows >= FEWEST:
        for share in SHARES:
            rows, train = math.ceil(share * train_rows), settings.train
            changed: dict[str, Any] = {"data.max_train_rows": rows}
            # What is counted in steps shrinks with them; else the smaller sets would be trained by another schedule.
            counted = {name: getattr(train, name) for name in ("max_steps", "warmup_steps", "eval_steps")}
            changed |= {f"train.{name}": math.ceil(share * steps) for name, steps in counted.items() if steps}
            found.append(Child(f"rows-{rows}", "derived: evaluate.learning_curve", changed))
    return found


def further_lines(settings: PlanSettings, train_rows: int, seconds: float) -> list[str]:
    """What the runs inside will cost, in a line; nothing where there are none.

    Args:
        settings: The plan.
        train_rows: Of the run itself.
        seconds: Its own training.
    """
    children = children_of(settings, train_rows)
    if not children:
        return []
    share = sum(child.changed.get("data.max_train_rows", train_rows) / train_rows for child in children)
    names = ", ".join(child.name for child in children)
    more = "1 more run" if len(children) == 1 else f"{len(children)} more runs"
    return [f"Beside it {more} ({names}): about {share * seconds / 60:.1f} minutes more of training, and evaluation."]
