"""Expected calibration error over bins of equal width."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from pydantic import Field

from tunewright.core.plugins import Plugin
from tunewright.evaluate.contracts import Floats, Need, Outcome
from tunewright.evaluate.metrics._closed import stated_and_right


class EceWidth(Plugin):
    """How far stated confidence is from how often it is right, averaged over bins of equal width."""

    needs: ClassVar[Need] = "choices"
    higher_is_better: ClassVar[bool] = False
    # The prior is calibrated by construction, so there is no trivial score that a good model must beat.
    closed_set: ClassVar[bool] = False
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)
    bins: int = Field(10, ge=1)
    """As in Guo et al. 2017, section 2: a bin holds its upper edge, not its lower one."""

    def record(self, outcome: Outcome, labels: Sequence[str]) -> tuple[float, ...] | None:
        """(probability of the chosen label within the set, 1 or 0 for right); None when labels were not scored."""
        return stated_and_right(outcome, labels)

    def summarise(self, records: Floats, weights: Floats) -> Floats:
        """[resamples] sum over bins of |right - confidence|, by mass."""
        # A confidence that rounding put just above an edge still belongs to the bin below it.
        place = np.clip(np.ceil(records[:, 0] * self.bins - 1e-9).astype(int) - 1, 0, self.bins - 1)
        gap = np.zeros((len(records), self.bins))
        gap[np.arange(len(records)), place] = records[:, 1] - records[:, 0]
        total = weights.sum(axis=1)
        summed = np.abs(weights @ gap).sum(axis=1)
        return np.asarray(np.divide(summed, total, out=np.full_like(total, np.nan), where=total > 0))
