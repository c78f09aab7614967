"""The interval of a paired difference against the definition of the score test, by brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tunewright.evaluate.proportions import paired_difference

Z = float(stats.norm.ppf(0.975))


def cases(gained: int, lost: int, both: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    base = [0] * gained + [1] * lost + [1] * both + [0] * neither
    tuned = [1] * gained + [0] * lost + [1] * both + [0] * neither
    return np.array(base, float), np.array(tuned, float)


def brute_score(gained: int, lost: int, n: int, delta: float) -> float:
    """(gained - lost - n delta) / its standard error, with the likeliest q of those that allow delta, by search."""
    lowest, highest = max(0.0, -delta) + 1e-12, (1 - delta) / 2
    for _ in range(6):
        q = np.linspace(lowest, highest, 4001)
        p = q + delta
        rest = np.clip(1 - p - q, 1e-300, None)
        loglik = gained * np.log(np.clip(p, 1e-300, None)) + lost * np.log(q) + (n - gained - lost) * np.log(rest)
        best, step = int(np.argmax(loglik)), (highest - lowest) / 4000
        lowest, highest = max(lowest, q[best] - 2 * step), min(highest, q[best] + 2 * step)
    likeliest = q[best]
    return (gained - lost - n * delta) / np.sqrt(n * (2 * likeliest + delta - delta * delta))


@pytest.mark.parametrize(("gained", "lost", "same"), [(7, 2, 31), (1, 0, 23), (0, 5, 60), (12, 12, 6), (30, 1, 9)])
def test_at_its_bounds_the_score_test_is_just_not_significant(gained, lost, same):
    n = gained + lost + same
    difference, low, high = paired_difference(*cases(gained, lost, same, 0))
    assert difference == pytest.approx((gained - lost) / n)
    assert brute_score(gained, lost, n, low) == pytest.approx(Z, abs=2e-3)
    assert brute_score(gained, lost, n, high) == pytest.approx(-Z, abs=2e-3)


@pytest.mark.parametrize("n", [1, 24, 200])
def test_where_no_case_turned_the_interval_stays_open(n):
    difference, low, high = paired_difference(*cases(0, 0, n, 0))
    assert (difference, -low, high) == (0, pytest.approx(Z**2 / (n + Z**2)), pytest.approx(Z**2 / (n + Z**2)))


def test_two_hundred_requests_of_which_none_turned_pass_a_limit_of_two_points():
    assert paired_difference(*cases(0, 0, 180, 20))[2] < 0.02


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 40), st.integers(0, 40))
def test_it_holds_the_difference_and_turns_with_the_models(gained, lost, both, neither):
    if gained + lost + both + neither == 0:
        with pytest.raises(ValueError, match="no case"):
            paired_difference(*cases(0, 0, 0, 0))
        return
    base, tuned = cases(gained, lost, both, neither)
    difference, low, high = paired_difference(base, tuned)
    assert -1 <= low <= difference <= high <= 1
    assert paired_difference(tuned, base) == pytest.approx((-difference, -high, -low), abs=1e-6)


def test_intervals_cover_the_truth():
    draw, covered = np.random.default_rng(0), 0
    for _ in range(400):
        base = draw.random(40) < 0.5
        tuned = np.where(base, draw.random(40) < 0.9, draw.random(40) < 0.3)  # true difference 0.1
        _, low, high = paired_difference(base.astype(float), tuned.astype(float))
        covered += low <= 0.1 <= high
    assert 0.92 <= covered / 400 <= 0.985
