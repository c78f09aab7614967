"""Perplexity of the whole answer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from tunewright.evaluate.closed import truth
from tunewright.evaluate.contracts import Floats, Metric, Need, Outcome
from tunewright.evaluate.metrics._ratio import mean


class Perplexity(Metric):
    """Among how many equally likely answers the model seems to choose: exp of the mean loss of a whole answer."""

    needs: ClassVar[Need] = "answer"
    higher_is_better: ClassVar[bool] = False
    closed_set: ClassVar[bool] = True
    multiplicative: ClassVar[bool] = True

    def record(self, outcome: Outcome, labels: Sequence[str]) -> tuple[float, ...] | None:
        """(nats of the whole answer, the stop token included,); None when neither answer nor labels were scored.

        What the model gives to texts outside the label list counts against it; `perplexity_renormalised` forgives it.
        """
        if outcome.answer_log_prob is not None and outcome.answer_tokens > 0:
            return (-outcome.answer_log_prob,)
        if outcome.choices is None:
            return None
        return (-float(np.append(outcome.choices, -math.inf)[truth(outcome, labels)]),)

    def summarise(self, records: Floats, weights: Floats) -> Floats:
        """[resamples] exp of the weighted mean."""
        return np.exp(mean(records, weights))
