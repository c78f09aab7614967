"""What measures of calibration share: how sure the chosen label was said to be, and whether it was right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field

from tunewright.evaluate.closed import stated_and_right
from tunewright.evaluate.contracts import Floats, Metric, Need, Outcome
from tunewright.evaluate.metrics._curve import equal_mass_gap


class CalibrationError(Metric):
    """How far what is stated is from how often it is right; of the chosen label, in bins of equal mass."""

    needs: ClassVar[Need] = "choices"
    higher_is_better: ClassVar[bool] = False
    # The prior is calibrated by construction, so there is no trivial score that a good model must beat.
    closed_set: ClassVar[bool] = False
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)
    of_rows: ClassVar[bool] = False
    bins: int = Field(10, ge=1)

    def record(self, outcome: Outcome, labels: Sequence[str]) -> tuple[float, ...] | None:
        """(probability of the chosen label within the set, 1 or 0 for right); None when labels were not scored."""
        return stated_and_right(outcome, labels)

    def summarise(self, records: Floats, weights: Floats) -> Floats:
        """[resamples] sum over bins of |right - stated|, by mass."""
        return equal_mass_gap(records, weights, self.bins)
