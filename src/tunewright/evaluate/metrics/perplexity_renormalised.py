"""Perplexity within the closed set."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from tunewright.evaluate.closed import truth, usable
from tunewright.evaluate.contracts import Floats, Metric, Need, Outcome
from tunewright.evaluate.metrics._ratio import mean


class PerplexityRenormalised(Metric):
    """As perplexity, with probabilities that sum to 1 over the label list: K labels that are equally likely give K."""

    needs: ClassVar[Need] = "choices"
    higher_is_better: ClassVar[bool] = False
    closed_set: ClassVar[bool] = True
    multiplicative: ClassVar[bool] = True

    def record(self, outcome: Outcome, labels: Sequence[str]) -> tuple[float, ...] | None:
        """(nats of the right label within the set,); None without scores, infinite when not listed."""
        if outcome.choices is None:
            return None
        if not usable(outcome.choices):
            return (math.nan,)
        right = truth(outcome, labels)
        if right == len(labels):
            return (math.inf,)
        return (float(np.logaddexp.reduce(outcome.choices) - outcome.choices[right]),)

    def summarise(self, records: Floats, weights: Floats) -> Floats:
        """[resamples] exp of the weighted mean."""
        return np.exp(mean(records, weights))
