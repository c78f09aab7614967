"""Is the stated probability of a move right."""

from __future__ import annotations

from collections.abc import Sequence

from tunewright.evaluate.contracts import Outcome
from tunewright.evaluate.metrics._calibration import CalibrationError
from tunewright.evaluate.metrics._moves import move


class MoveEce(CalibrationError):
    """How far the stated probability that the title changes is from how often it does, in bins of equal mass."""

    # The share of moves among all rows is calibrated by construction too: there is no trivial score to beat.

    def record(self, outcome: Outcome, labels: Sequence[str]) -> tuple[float, ...] | None:
        """(probability of a change, 1 or 0 for changed); None where there is no title before."""
        return move(outcome, labels)
