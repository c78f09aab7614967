"""Brier score over a closed set of labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from tunewright.evaluate.closed import probabilities, truth, usable
from tunewright.evaluate.contracts import Floats, Metric, Need, Outcome
from tunewright.evaluate.metrics._ratio import mean


class Brier(Metric):
    """Squared distance of the stated probabilities from the truth: 0 is perfect, 2 is certain and wrong."""

    needs: ClassVar[Need] = "choices"
    higher_is_better: ClassVar[bool] = False
    closed_set: ClassVar[bool] = True
    bounds: ClassVar[tuple[float, float]] = (0.0, 2.0)

    def record(self, outcome: Outcome, labels: Sequence[str]) -> tuple[float, ...] | None:
        """(sum over labels of (probability - 1 for the right one) squared,), as in Brier 1950, equation 2.

        Of two labels it is twice the figure that is usual for yes and no. None when labels were not scored.
        """
        if outcome.choices is None:
            return None
        if not usable(outcome.choices):
            return (math.nan,)
        wanted = np.append(probabilities(outcome.choices), 0.0)  # the last: a label that the list lacks
        wanted[truth(outcome, labels)] -= 1.0
        return (float(wanted @ wanted),)

    def summarise(self, records: Floats, weights: Floats) -> Floats:
        """[resamples] weighted mean."""
        return mean(records, weights)
