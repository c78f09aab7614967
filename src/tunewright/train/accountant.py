"""What a run's noise is worth: epsilon from noise and steps, and the noise for an epsilon; by prv-accountant."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version

import numpy as np
from scipy.optimize import brentq

from tunewright.core.errors import UserError
from tunewright.core.words import rounded_up

SIGMAS = (0.2, 1000.0)
"""Noise multipliers that are looked at."""
LEAST_DELTA = 1e-12
"""Smaller ones are lost in the rounding of what is added up."""
_POINTS = 1e7
"""Most numbers in an array of PRV: some hundred MB in all, and about a minute."""
_SLACK = 0.005
"""The noise is chosen so that epsilon lies at most this share under its target, and never above."""
_DIGITS = 4
"""Of the noise, rounded up: another version of a solver finds the same, so an interrupted run goes on with its own."""
_ORDERS = [1 + n / 10 for n in range(1, 100)] + [*range(12, 64), 80, 128, 256, 512, 1024]
"""Of RDP; the large ones serve strict targets."""
_ERROR = 0.01
"""How far the claimed bound lies above PRV's own estimate."""


class Unreachable(UserError):
    """No noise that is looked at reaches the target."""


class TooLittleNoise(UserError):
    """Epsilon is so large, or delta so small, that it can't be computed."""


@dataclass(frozen=True, slots=True)
class Spent:
    """Epsilon at a delta by two accountants: both are upper bounds, PRV is the tighter one and is claimed."""

    prv: float
    rdp: float


def name() -> str:
    """What computes epsilon, with its version."""
    return f"prv-accountant {version('prv-accountant')}: PRV (Gopi et al. 2021), beside it RDP (Mironov et al. 2019)"


@lru_cache(maxsize=64)
def spent(q: float, sigma: float, steps: int, delta: float) -> Spent:
    """Epsilon of Poisson-sampled noisy sums.

    Args:
        q: Chance of a unit to come into a step.
        sigma: Noise over clipping norm.
        steps: Steps in all.
        delta: Chance that the guarantee fails.

    Raises:
        UserError: A value is out of its range; all at once. Or the accountants contradict one another.
    """
    _check(q, sigma, steps, delta)
    found = Spent(_epsilon("prv", q, sigma, steps, delta), _epsilon("rdp", q, sigma, steps, delta))
    if not found.prv <= found.rdp + 2 * _ERROR:
        raise UserError(
            f"epsilon: the accountants disagree: PRV, the tighter one, finds {found.prv:.4g} and RDP {found.rdp:.4g} "
            f"(q {q:g}, sigma {sigma:g}, {steps} steps, delta {delta:g}), so neither is claimed. Please report it, "
            f"with these figures and {name()}."
        )
    return found


@lru_cache(maxsize=64)
def sigma_for(epsilon: float, delta: float, q: float, steps: int) -> float:
    """The least noise whose epsilon (PRV) is at most the target, to half a percent.

    Raises:
        UserError: A value is out of its range, or no noise that is looked at reaches the target.
    """
    _check(q, 1.0, steps, delta)
    reached = _epsilon("prv", q, SIGMAS[1], steps, delta)
    least = f"the least that can be claimed here is {rounded_up(reached, 2):g}."
    if not (math.isfinite(epsilon) and epsilon > 0):
        raise UserError(f"epsilon: found {epsilon:g}; must be above 0; {least}")
    if reached > epsilon:
        raise Unreachable(
            f"epsilon {epsilon:g}: not reached with any noise up to {SIGMAS[1]:g} times the clipping norm; {least}"
        )
    ratio = 1.0  # of RDP to PRV: nearly the same wherever one looks, so few of the slow answers are needed
    for _ in range(6):
        sigma = _by_rdp(epsilon * ratio * (1 - _SLACK / 2), delta, q, steps)
        found = _epsilon("prv", q, sigma, steps, delta)
        if sigma == SIGMAS[0] or epsilon * (1 - _SLACK) <= found <= epsilon:
            break
        ratio = _epsilon("rdp", q, sigma, steps, delta) / max(found, 1e-9)
    if _epsilon("prv", q, sigma, steps, delta) > epsilon:
        sigma = _by_halves(epsilon, delta, q, steps, sigma)
    return min(SIGMAS[1], rounded_up(sigma, _DIGITS))


def strictest(q: float, sigma: float, steps: int, delta: float) -> float:
    """The least target, in hundredths, for which no more than this noise is chosen."""
    return math.ceil(100 * _epsilon("prv", q, sigma, steps, delta) * (1 + 2 * _SLACK)) / 100


def _by_halves(epsilon: float, delta: float, q: float, steps: int, low: float) -> float:
    """The least noise above `low`, where the accountants' ratio does not lead there."""
    high = SIGMAS[1]
    while high > low * (1 + _SLACK / 5):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if _epsilon("prv", q, middle, steps, delta) > epsilon else (low, middle)
    return high


def _by_rdp(epsilon: float, delta: float, q: float, steps: int) -> float:
    low, high = (math.log(sigma) for sigma in SIGMAS)

    def above(log_sigma: float) -> float:
        return math.log(max(_epsilon("rdp", q, math.exp(log_sigma), steps, delta), 1e-9) / max(epsilon, 1e-9))

    if above(low) <= 0:
        return SIGMAS[0]
    return SIGMAS[1] if above(high) >= 0 else math.exp(float(brentq(above, low, high, xtol=1e-4)))


@lru_cache(maxsize=256)
def _epsilon(accountant: str, q: float, sigma: float, steps: int, delta: float) -> float:
    from prv_accountant.other_accountants import RDP
    from prv_accountant.privacy_random_variables import PoissonSubsampledGaussianMechanism

    from tunewright.train._prv import Prv

    if accountant == "prv":
        if not _computable(q, sigma, steps, delta):
            raise _too_much(q, sigma, steps, delta)
        return Prv(q, sigma, steps, (_ERROR, delta / 1000)).epsilon(delta, steps)
    noisy = PoissonSubsampledGaussianMechanism(sampling_probability=q, noise_multiplier=sigma)
    return max(0.0, float(RDP([noisy], _ORDERS).compute_epsilon(delta, [steps])[2]))


def _computable(q: float, sigma: float, steps: int, delta: float) -> bool:
    """Whether PRV fits into memory, and its rounding into delta."""
    from tunewright.train._prv import points

    most = min(_POINTS, 0.9 * delta / float(np.finfo(np.longdouble).eps))
    return points(q, sigma, steps, (_ERROR, delta / 1000)) <= most


def _too_much(q: float, sigma: float, steps: int, delta: float) -> TooLittleNoise:
    """Says which noise is enough, where any is."""
    low, high = math.log(sigma), math.log(SIGMAS[1])
    if not _computable(q, SIGMAS[1], steps, delta):
        most = "Give fewer steps, or a larger delta."
    else:
        while high - low > 0.005:
            middle = (low + high) / 2
            low, high = (low, middle) if _computable(q, math.exp(middle), steps, delta) else (middle, high)
        least = rounded_up(math.exp(high), 3)
        most = f"The least here is about {least:g}; or give fewer steps, a smaller q, or a larger delta."
    return TooLittleNoise(
        f"sigma: found {sigma:.3g}; with q {q:.3g} over {steps} steps at delta {delta:.2g} that is too little noise "
        f"for its epsilon to be computed. {most}"
    )


def _check(q: float, sigma: float, steps: int, delta: float) -> None:
    faults = []
    if not 0 < q <= 1:
        faults.append(f"q: found {q:g}; the sampling rate must lie above 0 and at most at 1.")
    if not (math.isfinite(sigma) and sigma >= SIGMAS[0]):
        faults.append(f"sigma: found {sigma:g}; must be {SIGMAS[0]:g} or more: less noise hides nobody.")
    if steps < 1:
        faults.append(f"steps: found {steps}; must be 1 or more.")
    if not LEAST_DELTA <= delta < 1:
        faults.append(
            f"delta: found {delta:g}; must lie between {LEAST_DELTA:g} and 1, well below 1 over the number of units."
        )
    if faults:
        raise UserError(faults)
