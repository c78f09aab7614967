"""Membership inference and exposure against brute force and by coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from tunewright.evaluate.exposure import chance, exposures, extracted, own_ranks, ranks
from tunewright.evaluate.membership import auc, found_at, share_of

_SCORES = st.lists(st.integers(-3, 3), min_size=1, max_size=12)


@given(_SCORES, _SCORES)
def test_auc_equals_the_count_over_all_pairs(members: list[int], others: list[int]) -> None:
    pairs = [(m > o) + 0.5 * (m == o) for m in members for o in others]
    found = auc(np.array(members, float), np.array(others, float))
    assert found.value == pytest.approx(np.mean(pairs))
    assert 0 <= found.low <= found.value + 1e-12
    assert found.value - 1e-12 <= found.high <= 1


def test_the_interval_of_auc_covers_the_truth() -> None:
    draw = np.random.default_rng(0)
    for shift in (0.0, 1.0):
        truth = norm.cdf(shift / math.sqrt(2))
        found = [auc(draw.normal(shift, 1, 60), draw.normal(0, 1, 80)) for _ in range(400)]
        covered = np.mean([one.low <= truth <= one.high for one in found])
        assert 0.92 <= covered <= 0.98


def test_complete_separation_is_not_told_without_doubt() -> None:
    found = auc(np.arange(10, 20.0), np.arange(10.0))
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(0.025 ** (1 / 10))


@given(st.lists(st.floats(-5, 5), min_size=20, max_size=60), st.lists(st.floats(-5, 5), min_size=1, max_size=30))
def test_no_more_others_than_allowed_lie_above_the_threshold(others: list[float], members: list[float]) -> None:
    found = found_at(np.array(members), np.array(others), 0.1)
    wanted = min(
        sum(m > t for m in members) for t in others if sum(o > t for o in others) <= 0.1 * len(others)
    )  # a lower threshold finds more, so the best allowed one finds most
    best = max(sum(m > t for m in members) for t in others if sum(o > t for o in others) <= 0.1 * len(others))
    assert found is not None
    assert wanted <= round(found.value * len(members)) <= best


def test_a_rate_that_so_few_others_cannot_show_is_not_measured() -> None:
    assert found_at(np.ones(5), np.zeros(50), 0.01) is None
    assert found_at(np.ones(5), np.zeros(99), 0.01) == share_of(5, 5)


@pytest.mark.parametrize(("others", "rate"), [(99, 0.01), (100, 0.01), (72, 0.1), (250, 0.01)])
def test_without_a_leak_no_more_members_are_found_than_the_rate_says(others: int, rate: float) -> None:
    draw = np.random.default_rng(0)
    share = [found_at(draw.normal(size=40), draw.normal(size=others), rate) for _ in range(4000)]
    assert np.mean([one.value for one in share if one]) <= rate + 0.002


def test_exposure_of_the_first_is_the_log_of_all_and_equal_ranks_give_the_chance() -> None:
    others = np.arange(1023.0)
    assert exposures(np.array([2000.0, -1.0]), others) == pytest.approx([10.0, 0.0])
    every = exposures(np.arange(1024) - 0.5, others)  # one included canary at each rank
    assert every.mean() == pytest.approx(chance(1024))
    assert chance(2**14) == pytest.approx(1 / math.log(2), abs=0.01)
    assert exposures(np.zeros(1), np.zeros(7))[0] == pytest.approx(math.log2(8 / 4.5))


def test_ranks_count_those_above_and_half_of_equals() -> None:
    others = np.array([5.0, 3.0, 3.0, 1.0])
    assert ranks(np.array([9.0, 4.0, 3.0, 0.0]), others).tolist() == [1, 2, 3, 5]
    assert own_ranks(others).tolist() == [1, 2.5, 2.5, 4]
    assert ranks(np.array([2.0]), np.array([])).tolist() == [1]
    alone = [ranks(others[[at]], np.delete(others, at))[0] for at in range(4)]
    assert own_ranks(others).tolist() == alone


def test_a_secret_counts_only_when_said_whole() -> None:
    found = extracted(["12 34 56", "98 76 54"], ["it is 123456, yes", "98 76 5"])
    assert (found.value, round(found.low, 3)) == (0.5, 0.013)
