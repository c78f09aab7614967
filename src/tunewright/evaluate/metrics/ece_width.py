"""Expected calibration error over bins of equal width (Guo et al. 2017, section 2)."""

from __future__ import annotations

import numpy as np

from tunewright.evaluate.contracts import Floats
from tunewright.evaluate.metrics._calibration import CalibrationError


class EceWidth(CalibrationError):
    """How far stated confidence is from how often it is right, averaged over bins of equal width."""

    def summarise(self, records: Floats, weights: Floats) -> Floats:
        """[resamples] sum over bins of |right - confidence|, by mass; a bin holds its upper edge, not its lower one."""
        # A confidence that rounding put just above an edge still belongs to the bin below it.
        place = np.clip(np.ceil(records[:, 0] * self.bins - 1e-9).astype(int) - 1, 0, self.bins - 1)
        gap = np.zeros((len(records), self.bins))
        gap[np.arange(len(records)), place] = records[:, 1] - records[:, 0]
        total = weights.sum(axis=1)
        summed = np.abs(weights @ gap).sum(axis=1)
        return np.asarray(np.divide(summed, total, out=np.full_like(total, np.nan), where=total > 0))
