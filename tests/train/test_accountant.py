"""Epsilon against published vectors, and the noise for an epsilon."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunewright.core.errors import UserError
from tunewright.train import accountant
from tunewright.train.accountant import LEAST_DELTA, _computable, sigma_for, spent

VECTORS = [  # q, sigma, steps, delta, RDP, PRV: computed once by Opacus 1.5.4
    (0.01, 1.0, 1000, 1e-5, 2.1014, 1.8384),
    (0.01, 1.0, 10000, 1e-5, 6.7127, 6.1980),
    (256 / 60000, 1.1, 14040, 1e-5, 2.5944, 2.3897),
    (1024 / 50000, 2.0, 2450, 1e-5, 2.4176, 2.2285),
    (64 / 2000, 1.0, 310, 5e-4, 3.0539, 2.6091),
    (256 / 2000, 1.5, 80, 5e-4, 3.4726, 3.0227),
    (128 / 1000, 2.0, 160, 1e-3, 3.1180, 2.7279),
    (1.0, 10.0, 100, 1e-5, 4.7285, 4.3874),
]


@pytest.mark.parametrize(("q", "sigma", "steps", "delta", "rdp", "prv"), VECTORS)
def test_both_accountants_give_the_published_figures(q, sigma, steps, delta, rdp, prv):
    found = spent(q, sigma, steps, delta)
    assert found.prv == pytest.approx(prv, abs=0.02)
    assert found.rdp == pytest.approx(rdp, abs=1e-3)


def gaussian_delta(epsilon, mu):
    """Delta of a Gaussian mechanism in closed form (Balle and Wang 2018, theorem 8)."""
    normal = lambda x: 0.5 * math.erfc(-x / math.sqrt(2))  # noqa: E731
    return normal(mu / 2 - epsilon / mu) - math.exp(epsilon) * normal(-mu / 2 - epsilon / mu)


@pytest.mark.parametrize(("sigma", "steps"), [(10.0, 100), (4.0, 10), (1.5, 1)])
def test_without_sampling_it_is_the_gaussian_mechanism_in_closed_form(sigma, steps):
    delta = gaussian_delta(spent(1.0, sigma, steps, 1e-4).prv, math.sqrt(steps) / sigma)
    assert 0.8e-4 < delta <= 1e-4  # an upper bound, and a tight one


def test_close_to_its_beginning_the_distribution_is_not_missed():
    """There the library's own mean is wrong, and it refuses."""
    assert spent(0.114, 0.8, 36, 4.4e-3).prv == pytest.approx(4.094, abs=0.02)


@settings(max_examples=6, deadline=None)
@given(st.floats(0.5, 10), st.sampled_from([0.02, 0.1, 0.5]), st.sampled_from([10, 100]))
def test_the_noise_for_an_epsilon_keeps_it_and_hardly_more(epsilon, q, steps):
    found = spent(q, sigma_for(epsilon, 1e-3, q, steps), steps, 1e-3)
    assert epsilon * 0.99 <= found.prv <= epsilon
    assert found.rdp >= found.prv


def test_a_delta_lost_in_rounding_is_refused_with_the_least_that_is_not():
    with pytest.raises(UserError, match="delta: found 1e-15; must lie between 1e-12"):
        spent(0.01, 1.0, 1000, 1e-15)
    assert spent(0.01, 1.0, 1000, LEAST_DELTA).prv == pytest.approx(3.924, abs=0.02)


def test_noise_whose_epsilon_would_take_all_memory_is_refused_with_the_least_that_would_not():
    with pytest.raises(UserError, match=r"sigma: found 0\.1; must be 0\.2 or more"):
        spent(0.5, 0.1, 1000, 1e-5)
    with pytest.raises(UserError, match="too little noise for its epsilon") as told:
        spent(0.5, 0.2, 1000, 1e-5)
    least = float(str(told.value).split("about ")[1].split(";")[0])
    assert 0.2 < least < 2
    assert _computable(0.5, least, 1000, 1e-5)
    assert not _computable(0.5, least * 0.98, 1000, 1e-5)
    with pytest.raises(UserError, match="Give fewer steps"):
        spent(1.0, 1.0, 10**9, 1e-5)
    with pytest.raises(UserError, match=r"about 6|Give fewer"):  # there rounding, not memory, is what stops it
        spent(0.5, 5.0, 10_000, 1e-12)


def test_a_claim_above_the_second_opinion_is_not_made(monkeypatch):
    found = {"prv": 2.0, "rdp": 1.9}
    monkeypatch.setattr(accountant, "_epsilon", lambda name, *_: found[name])
    with pytest.raises(UserError, match=r"accountants disagree: PRV, the tighter one, finds 2 and RDP 1\.9"):
        spent(0.031, 1.0, 77, 1e-5)


def test_bad_values_are_told_all_at_once():
    with pytest.raises(UserError) as told:
        spent(0.0, -1.0, 0, 2.0)
    assert len(told.value.problems) == 4
    with pytest.raises(UserError, match="above 0"):
        sigma_for(-1.0, 1e-5, 0.1, 10)
    with pytest.raises(UserError, match="not reached"):
        sigma_for(1e-6, 1e-5, 1.0, 1000)


@pytest.mark.parametrize(("q", "delta", "epsilon"), [(0.01, 1e-5, 0.008), (0.05, 1e-3, 0.005)])
def test_a_target_under_what_can_be_claimed_is_refused_with_what_can(q, delta, epsilon):
    with pytest.raises(UserError, match=r"the least that can be claimed here is 0\.0") as told:
        sigma_for(epsilon, delta, q, 100)
    least = float(str(told.value).rsplit(" ", 1)[1].rstrip("."))
    assert spent(q, sigma_for(least * 1.1, delta, q, 100), 100, delta).prv <= least * 1.1


def test_the_noise_has_four_digits_so_that_another_solver_finds_the_same():
    sigma = sigma_for(3, 1e-5, 0.02, 200)
    assert sigma == float(f"{sigma:.4g}")
