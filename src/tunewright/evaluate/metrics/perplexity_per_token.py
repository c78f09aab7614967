"""Perplexity a token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from tunewright.evaluate.contracts import Floats, Metric, Need, Outcome
from tunewright.evaluate.metrics._ratio import answer_nats, counts, ratio


class PerplexityPerToken(Metric):
    """Among how many equally likely tokens the model seems to choose: exp of nll, so that long answers cost no more."""

    needs: ClassVar[Need] = "answer"
    higher_is_better: ClassVar[bool] = False
    closed_set: ClassVar[bool] = False
    multiplicative: ClassVar[bool] = True

    def record(self, outcome: Outcome, labels: Sequence[str]) -> tuple[float, ...] | None:
        """(nats, tokens); None when the answer was not scored."""
        return answer_nats(outcome)

    def summarise(self, records: Floats, weights: Floats) -> Floats:
        """[resamples] exp of all nats over all tokens."""
        return np.exp(ratio(records, weights))

    def sizes(self, records: Floats) -> Floats:
        """[n] tokens: how much each example counts."""
        return counts(records)
