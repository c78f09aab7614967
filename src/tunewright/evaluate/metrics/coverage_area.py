"""Area under the accuracy-coverage curve."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from tunewright.evaluate.closed import stated_and_right
from tunewright.evaluate.contracts import Floats, Outcome
from tunewright.evaluate.metrics._curve import running_sums
from tunewright.evaluate.metrics._label_share import LabelShare


class CoverageArea(LabelShare):
    """Accuracy of the surest share of rows, averaged over every share: whether it knows when it is right."""

    of_rows: ClassVar[bool] = False

    def record(self, outcome: Outcome, labels: Sequence[str]) -> tuple[float, ...] | None:
        """(probability of the chosen label within the set, 1 or 0 for right); None when labels were not scored."""
        return stated_and_right(outcome, labels)

    def summarise(self, records: Floats, weights: Floats) -> Floats:
        """[resamples] the integral of accuracy over coverage from 0 to 1, exact: equally sure rows are one group.

        Within a group the right mass grows in a straight line r = a + s c, so its part is s (c1 - c0) + a ln(c1 / c0).
        """
        mass, right = running_sums(-records[:, 0], records[:, 1:], weights)
        total = mass[:, -1:]
        coverage, correct = (np.divide(x, total, out=np.full_like(x, np.nan), where=total > 0) for x in (mass, right))
        width = np.diff(coverage, axis=1)
        slope = np.divide(np.diff(correct, axis=1), width, out=np.zeros_like(width), where=width > 0)
        start = correct[:, :-1] - slope * coverage[:, :-1]
        grows = (coverage[:, :-1] > 0) & (width > 0)
        growth = np.divide(coverage[:, 1:], coverage[:, :-1], out=np.ones_like(width), where=grows)
        return np.asarray((slope * width + start * np.log(growth)).sum(axis=1) + 0.0 * coverage[:, -1])
