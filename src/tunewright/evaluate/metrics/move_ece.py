"""Is the stated probability of a move right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field

from tunewright.core.plugins import Plugin
from tunewright.evaluate.contracts import Floats, Need, Outcome
from tunewright.evaluate.metrics._curve import equal_mass_gap
from tunewright.evaluate.metrics._moves import move


class MoveEce(Plugin):
    """How far the stated probability that the title changes is from how often it does, in bins of equal mass."""

    needs: ClassVar[Need] = "choices"
    higher_is_better: ClassVar[bool] = False
    # The share of moves among all rows is calibrated by construction: there is no trivial score to beat.
    closed_set: ClassVar[bool] = False
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)
    bins: int = Field(10, ge=1)

    def record(self, outcome: Outcome, labels: Sequence[str]) -> tuple[float, ...] | None:
        """(probability of a change, 1 or 0 for changed); None where there is no title before."""
        return move(outcome, labels)

    def summarise(self, records: Floats, weights: Floats) -> Floats:
        """[resamples] sum over bins of |changed - stated|, by mass."""
        return equal_mass_gap(records, weights, self.bins)
