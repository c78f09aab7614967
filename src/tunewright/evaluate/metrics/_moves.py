"""What metrics of moves share: how probable a move was, and whether there was one."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tunewright.evaluate.closed import probabilities, usable
from tunewright.evaluate.contracts import Outcome
from tunewright.evaluate.history import previous


def move(outcome: Outcome, labels: Sequence[str]) -> tuple[float, float] | None:
    """(probability that the title changes, 1 or 0 for changed); None without labels or a title before."""
    before = previous(outcome.example)
    if outcome.choices is None or before is None or before not in labels:
        return None
    moved = float(outcome.example.answer.text != before)
    if not usable(outcome.choices):
        return math.nan, moved
    return float(1 - probabilities(outcome.choices)[labels.index(before)]), moved
