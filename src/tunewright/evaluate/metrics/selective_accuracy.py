"""Accuracy on the surest part of the rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from pydantic import Field

from tunewright.evaluate.closed import stated_and_right
from tunewright.evaluate.contracts import Floats, Outcome
from tunewright.evaluate.metrics._curve import running_sums
from tunewright.evaluate.metrics._label_share import LabelShare


class SelectiveAccuracy(LabelShare):
    """Accuracy of the surest share of rows, the others left to a person: `selective_accuracy(coverage=0.5)`."""

    of_rows: ClassVar[bool] = False
    coverage: float = Field(0.8, gt=0, le=1)
    """Share of rows that are answered."""

    def record(self, outcome: Outcome, labels: Sequence[str]) -> tuple[float, ...] | None:
        """(probability of the chosen label within the set, 1 or 0 for right); None when labels were not scored."""
        return stated_and_right(outcome, labels)

    def summarise(self, records: Floats, weights: Floats) -> Floats:
        """[resamples] right mass over mass; equally sure rows at the edge are taken in proportion."""
        mass, right = running_sums(-records[:, 0], records[:, 1:], weights)
        figures = [
            np.interp(self.coverage * m[-1], m, r) / (self.coverage * m[-1]) if m[-1] > 0 else np.nan
            for m, r in zip(mass, right, strict=True)
        ]
        return np.asarray(figures)
