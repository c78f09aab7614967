"""Whether the right label is among the most probable ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from pydantic import Field

from tunewright.core.plugins import Plugin
from tunewright.evaluate.contracts import Floats, Need, Outcome
from tunewright.evaluate.metrics._closed import truth, usable
from tunewright.evaluate.metrics._ratio import mean


class TopK(Plugin):
    """Share of rows whose right label is among the k most probable ones: `top_k`, `top_k(k=3)`."""

    needs: ClassVar[Need] = "choices"
    higher_is_better: ClassVar[bool] = True
    closed_set: ClassVar[bool] = True
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)
    k: int = Field(5, ge=1)

    def record(self, outcome: Outcome, labels: Sequence[str]) -> tuple[float, ...] | None:
        """(1 or 0,); None when labels were not scored, NaN when their scores do not rank."""
        if outcome.choices is None:
            return None
        if not usable(outcome.choices):
            return (math.nan,)
        # As for the first place, the earlier one of equals is ranked higher.
        best = np.argsort(-outcome.choices, kind="stable")[: self.k]
        return (float(truth(outcome, labels) in best),)

    def summarise(self, records: Floats, weights: Floats) -> Floats:
        """[resamples] weighted share."""
        return mean(records, weights)
