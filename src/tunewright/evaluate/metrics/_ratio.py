"""Ratio of two weighted sums: the figure of every metric that is a mean or a rate."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from tunewright.evaluate.contracts import Floats, Metric, Outcome


def ratio(records: Floats, weights: Floats) -> Floats:
    """[resamples] sum of weighted first numbers over sum of weighted second numbers; NaN where that sum is 0.

    Args:
        records: [n, 2] numerator and denominator of each example.
        weights: [resamples, n].
    """
    top, bottom = (weights @ records).T
    figures: Floats = np.divide(top, bottom, out=np.full_like(top, np.nan), where=bottom > 0)
    return figures


def mean(records: Floats, weights: Floats) -> Floats:
    """[resamples] weighted mean of the only number of each example."""
    return ratio(np.column_stack([records[:, 0], np.ones(len(records))]), weights)


def counts(records: Floats) -> Floats:
    """[n] the second number of each example: how much it counts."""
    return np.asarray(records[:, 1])


def answer_nats(outcome: Outcome) -> tuple[float, float] | None:
    """(nats, tokens) of the answer, its stop token included; None when it was not scored."""
    if outcome.answer_log_prob is None or outcome.answer_tokens <= 0:
        return None
    return -outcome.answer_log_prob, float(outcome.answer_tokens)


class Cost(Metric):
    """What rows cost over what they count: a record is (cost, count)."""

    higher_is_better: ClassVar[bool] = False
    closed_set: ClassVar[bool] = False

    def summarise(self, records: Floats, weights: Floats) -> Floats:
        """[resamples] all cost over all counts."""
        return ratio(records, weights)

    def sizes(self, records: Floats) -> Floats:
        """[n] how much each example counts."""
        return counts(records)
