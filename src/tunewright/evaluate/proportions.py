"""Shares of one sample, asked twice: the interval of their difference."""

from __future__ import annotations

import math

from scipy import optimize, stats

from tunewright.evaluate.bootstrap import LEVEL
from tunewright.evaluate.contracts import Floats


def paired_difference(base_N: Floats, tuned_N: Floats) -> tuple[float, float, float]:
    """(difference, low, high) of two shares over the same cases, 95 %.

    Tango 1998, "Equivalence test and confidence interval for the difference in proportions for the paired-sample
    design", eq. 8-11: a score interval. Unlike a bootstrap it stays open when no case turned, so that few cases never
    prove that nothing changed.

    Args:
        base_N: [cases] 0 or 1.
        tuned_N: [cases] 0 or 1, the same cases.

    Raises:
        ValueError: There is no case.
    """
    n = len(base_N)
    if not n:
        raise ValueError("no case to compare")
    gained = int(((tuned_N == 1) & (base_N == 0)).sum())
    lost = int(((tuned_N == 0) & (base_N == 1)).sum())
    difference = (gained - lost) / n
    z = float(stats.norm.ppf((1 + LEVEL) / 2))

    def above(delta: float, level: float) -> float:
        return _score(gained, lost, n, delta) - level

    edge = 1 - 1e-12
    low = -1.0 if difference <= -1 else float(optimize.brentq(above, -edge, difference, args=(z,), xtol=1e-10))
    high = 1.0 if difference >= 1 else float(optimize.brentq(above, difference, edge, args=(-z,), xtol=1e-10))
    return difference, low, high


def _score(gained: int, lost: int, n: int, delta: float) -> float:
    """Tango's statistic at a supposed difference; it falls as that rises."""
    half = 2 * n
    linear = -gained - lost + (2 * n - gained + lost) * delta
    constant = -lost * delta * (1 - delta)
    q = (math.sqrt(max(0.0, linear * linear - 4 * half * constant)) - linear) / (2 * half)
    variance = n * (2 * q + delta * (1 - delta))
    above = gained - lost - n * delta
    if variance <= 0:
        return 0.0 if above == 0 else math.copysign(math.inf, above)
    return above / math.sqrt(variance)
