"""Membership inference: how well rows that were trained on are told from rows that were not, by their loss.

Yeom et al. 2018 (the loss itself) and Watson et al. 2022 (the loss against that of a reference model, here the base).
What counts is not the average alone but how many members are found at a low rate of false alarms (Carlini et al. 2022,
"Membership Inference Attacks From First Principles", section III).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest, norm, rankdata

from tunewright.evaluate.contracts import Floats

_LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Share:
    """A figure between 0 and 1 with its 95 % interval."""

    value: float
    low: float
    high: float


def auc(member_M: Floats, other_N: Floats) -> Share:
    """Chance that a member scores above a non-member, ties half (0.5 = nothing is told).

    The interval is that of DeLong et al. 1988 on the logit scale. Where its variance is 0 (all members above all
    others), it is the exact binomial one over as many disjoint pairs as there are.

    Args:
        member_M: [members] scores, higher = more likely seen; independent of one another.
        other_N: [others] scores of rows that were not trained on.

    Raises:
        ValueError: One of the two is empty, or a score is NaN.
    """
    members, others = len(member_M), len(other_N)
    if not members or not others or np.isnan(member_M).any() or np.isnan(other_N).any():
        raise ValueError("needs members and others, all with a score")
    rank_A = rankdata(np.concatenate([member_M, other_N]))
    above_M = (rank_A[:members] - rankdata(member_M)) / others
    above_N = 1 - (rank_A[members:] - rankdata(other_N)) / members
    value = float(above_M.mean())
    variance = _variance(above_M) + _variance(above_N)
    if variance == 0 or value in (0.0, 1.0):
        pairs = min(members, others)
        exact = binomtest(round(value * pairs), pairs).proportion_ci(_LEVEL, "exact")
        return Share(value, float(min(exact.low, value)), float(max(exact.high, value)))
    logit = np.log(value / (1 - value))
    reach = norm.ppf(0.5 + _LEVEL / 2) * np.sqrt(variance) / (value * (1 - value))
    low, high = 1 / (1 + np.exp(-(logit - reach))), 1 / (1 + np.exp(-(logit + reach)))
    return Share(value, float(low), float(high))


def found_at(member_M: Floats, other_N: Floats, false_alarms: float) -> Share | None:
    """Share of members above a threshold that an unseen row passes at most so often.

    The threshold is the k-th largest of the others, so that one more of them would lie above it k times in one more
    than there are. The interval is Clopper and Pearson's, given the threshold.

    Returns:
        None when there are too few others for so low a rate: nothing could be told.
    """
    place = int(np.floor((len(other_N) + 1) * false_alarms + 1e-9))
    if place < 1 or not len(member_M):
        return None
    threshold = np.sort(other_N)[-place]
    return share_of(int((member_M > threshold).sum()), len(member_M))


def share_of(found: int, count: int) -> Share:
    """A share with its exact interval (Clopper and Pearson 1934)."""
    exact = binomtest(found, count).proportion_ci(_LEVEL, "exact")
    return Share(found / count, float(exact.low), float(exact.high))


def _variance(component: Floats) -> float:
    return float(component.var(ddof=1) / len(component)) if len(component) > 1 else 0.0
