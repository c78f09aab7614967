"""The bound on epsilon: published values, exact small cases, and mechanisms whose epsilon is known."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq

from tunewright.evaluate.one_run_audit import ERROR, audit, lower_bound, negligible, p_value, thresholds


@pytest.mark.parametrize(
    ("canaries", "guesses", "correct", "delta", "wanted"),
    [
        (1000, 100, 100, 1e-5, 3.4654),
        (1000, 100, 95, 1e-5, 2.1652),
        (1000, 100, 80, 1e-5, 0.9553),
        (1000, 1000, 600, 1e-5, 0.2972),
        (1000, 1000, 520, 1e-5, 0.0),
        (500, 50, 50, 1e-5, 2.7705),
        (200, 40, 40, 1e-5, 2.5482),
        (100, 20, 20, 0.0, 1.8227),
        (100, 20, 18, 0.0, 0.9315),
        (1000, 200, 200, 1e-5, 4.1665),
    ],
)
def test_known_values(canaries: int, guesses: int, correct: int, delta: float, wanted: float) -> None:
    assert lower_bound(canaries, guesses, correct, delta) == pytest.approx(wanted, abs=1e-3)


def test_without_delta_it_is_the_binomial_tail_summed_by_hand() -> None:
    for guesses, correct, epsilon in itertools.product((1, 4, 7), (0, 1, 4, 7), (0.0, 0.5, 2.0)):
        if correct > guesses:
            continue
        right = math.exp(epsilon) / (1 + math.exp(epsilon))
        chance = math.fsum(
            right ** sum(way) * (1 - right) ** (guesses - sum(way))
            for way in itertools.product((0, 1), repeat=guesses)
            if sum(way) >= correct
        )
        assert p_value(epsilon, 50, guesses, correct, 0.0) == pytest.approx(chance, rel=1e-9)


def test_a_delta_weakens_and_all_right_closed_form() -> None:
    # All r right: p = sigmoid(epsilon)^r, so epsilon = logit(0.05^(1/r)).
    share = ERROR ** (1 / 30)
    assert lower_bound(100, 30, 30, 0.0) == pytest.approx(math.log(share / (1 - share)), abs=1e-6)
    assert lower_bound(100, 30, 30, 1e-3) < lower_bound(100, 30, 30, 1e-5) < lower_bound(100, 30, 30, 0.0)


@pytest.mark.parametrize("canaries", [40, 80, 500])
def test_near_one_over_the_rows_delta_hides_every_leak_and_a_negligible_one_none(canaries: int) -> None:
    coins = np.arange(canaries) % 2 == 0
    by_heart = coins.astype(float)
    found, exact = (audit(by_heart, coins, delta) for delta in (negligible(canaries), 0.0))
    assert found.epsilon == found.most == pytest.approx(exact.epsilon, abs=0.02)
    spoilt = audit(by_heart, coins, 0.0024 * 80 / canaries).epsilon
    assert spoilt < exact.epsilon / 2, "all right, and little is proven"
    guessed = audit(np.zeros(canaries), coins, negligible(canaries))
    assert guessed.epsilon < guessed.most == found.most


@given(st.integers(1, 120), st.data())
def test_more_right_guesses_prove_no_less(guesses: int, data: st.DataObject) -> None:
    correct = data.draw(st.integers(0, guesses))
    delta = data.draw(st.sampled_from((0.0, 1e-5, 1e-2)))
    found = lower_bound(200, guesses, correct, delta)
    assert found >= 0
    if correct < guesses:
        assert lower_bound(200, guesses, correct + 1, delta) >= found - 1e-9
    if found:
        assert p_value(found * 0.999, 200, guesses, correct, delta) < ERROR


def _answers(draw: np.random.Generator, coins: np.ndarray, epsilon: float) -> np.ndarray:
    """Randomised response: the coin itself with probability e^eps / (1 + e^eps), pure epsilon-private and tight."""
    honest = draw.random(len(coins)) < 1 / (1 + math.exp(-epsilon))
    return np.where(honest, coins, ~coins).astype(float) + draw.normal(0, 1e-6, len(coins))


@pytest.mark.parametrize("epsilon", [0.0, 0.5, 2.0])
def test_randomised_response_is_hardly_ever_bounded_above_its_epsilon(epsilon: float) -> None:
    draw = np.random.default_rng(int(epsilon * 10))
    bounds = []
    for _ in range(100):
        coins = draw.random(200) < 0.5
        bounds.append(audit(_answers(draw, coins, epsilon), coins, 0.0).epsilon)
    assert np.mean(np.array(bounds) > epsilon) <= ERROR
    if epsilon == 2:
        assert np.median(bounds) > epsilon / 2  # and it is not sound by proving nothing


def _gaussian_delta(epsilon: float, sigma: float) -> float:
    """The delta of a Gaussian mechanism of sensitivity 1 (Balle and Wang 2018, theorem 8)."""
    cdf = lambda x: 0.5 * (1 + math.erf(x / math.sqrt(2)))  # noqa: E731
    return cdf(0.5 / sigma - epsilon * sigma) - math.exp(epsilon) * cdf(-0.5 / sigma - epsilon * sigma)


def test_gaussian_noise_is_hardly_ever_bounded_above_its_epsilon() -> None:
    sigma, delta = 1.0, 1e-6
    epsilon = brentq(lambda found: _gaussian_delta(found, sigma) - delta, 0, 20)
    draw = np.random.default_rng(1)
    bounds = []
    for _ in range(100):
        coins = draw.random(400) < 0.5
        bounds.append(audit(coins + draw.normal(0, sigma, 400), coins, delta).epsilon)
    assert np.mean(np.array(bounds) > epsilon) <= ERROR
    assert np.median(bounds) > 0.3


def test_a_leak_far_above_the_claim_is_seen() -> None:
    draw = np.random.default_rng(2)
    coins = draw.random(200) < 0.5
    bound = audit(coins * 10.0 + draw.normal(0, 1, 200), coins, 1e-5)
    assert bound.epsilon > 2.5
    assert (bound.canaries, bound.correct) == (200, bound.guesses)


def test_thresholds_depend_on_the_number_of_canaries_alone_and_are_fit_to_prove() -> None:
    assert thresholds(4) == []
    assert thresholds(100) == [(50, 50), (25, 25), (12, 12), (6, 6), (50, 0), (25, 0), (12, 0)]
    for count in (16, 101, 500):
        assert all(8 <= top + bottom <= count for top, bottom in thresholds(count))


def test_too_few_canaries_prove_nothing_and_a_score_that_is_none_is_refused() -> None:
    coins = np.array([True, False, True, False])
    assert audit(coins.astype(float), coins, 0.0).epsilon == 0
    with pytest.raises(ValueError, match="NaN"):
        audit(np.array([1.0, np.nan, 0.0, 0.0]), coins, 0.0)


def test_equal_scores_tell_nothing() -> None:
    coins = np.random.default_rng(3).random(400) < 0.5
    assert audit(np.zeros(400), coins, 0.0).epsilon == 0
