"""Where differences of a figure are normal."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from tunewright.evaluate.contracts import Metric

_MOST = 700.0  # the largest number that exp can take


@dataclass(frozen=True, slots=True)
class Scale:
    """Where differences are normal: the figure itself, or its logarithm for what is told in ratios."""

    reference: float
    """The figure that changes are changes of; only ratios look at it."""
    ratios: bool

    @classmethod
    def of(cls, metric: Metric, reference: float) -> Scale:
        """That of a metric."""
        return cls(reference, metric.multiplicative)

    @property
    def least(self) -> float:
        """The size of numbers below which rounding is not looked for."""
        return 1.0 if self.ratios else 0.0

    def into(self, value: Any) -> Any:
        """A figure, or an array of them, where its differences are normal."""
        return np.log(value) if self.ratios else value

    def change(self, difference: float) -> float:
        """A difference there as a difference of the figure, from the reference on."""
        return self.reference * math.expm1(min(difference, _MOST)) if self.ratios else difference
