"""Whose rows are: by number, and how many units rows are worth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tunewright.core.records import unit_of
from tunewright.evaluate.contracts import Floats, Outcome


def units_of(outcomes: Sequence[Outcome]) -> NDArray[np.intp]:
    """[rows] the number of each row's unit."""
    return np.unique([unit_of(outcome.example) for outcome in outcomes], return_inverse=True)[1]


def effective(of_row: NDArray[np.intp], weights: Floats) -> float:
    """How many units of equal weight tell as much as those of these rows, each of its own weight (Kish 1965)."""
    totals = np.bincount(of_row, weights=weights)
    return float(totals.sum() ** 2 / (totals**2).sum()) if totals.any() else 0.0
