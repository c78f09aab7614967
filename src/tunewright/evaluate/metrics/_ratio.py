"""Ratio of two weighted sums: the figure of every metric that is a mean or a rate."""

from __future__ import annotations

import numpy as np

from tunewright.evaluate.contracts import Floats


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
