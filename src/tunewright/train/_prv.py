"""Privacy random variables with an exact mean: prv-accountant's own integral can step over where one begins.

The library integrates the distribution function from afar and misses its beginning at log(1 - q) when that lies close
to a border of its intervals; it notices and refuses. Here the beginning is a border.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
from prv_accountant.accountant import PRVAccountant, compute_safe_domain_size
from prv_accountant.composers import Heterogeneous
from prv_accountant.discretisers import CellCentred
from prv_accountant.domain import Domain
from prv_accountant.privacy_random_variables import PoissonSubsampledGaussianMechanism, PrivacyRandomVariableTruncated
from scipy import integrate

_JUST = 1e-9
_NEAR = [10.0**power for power in range(-6, 2)]


class _Exact(PrivacyRandomVariableTruncated):  # type: ignore[misc]
    """The same variable; only its mean is computed from other borders."""

    def mean(self) -> float:
        """Mean over the truncated range, by parts: the sum of [t F(t)] less the integral of F."""
        begins = math.log1p(-float(self.prv.p)) if self.prv.p < 1 else -math.inf  # F is 0 up to there
        first = max(self.t_min, begins + _JUST)
        marks = {mark + sign * near for mark in (0.0, begins) for near in _NEAR for sign in (-1, 1)} | {0.0}
        borders = [first, *sorted(mark for mark in marks if first < mark < self.t_max), self.t_max]
        total = 0.0
        for low, high in pairwise(borders):
            area, _ = integrate.quad(self.cdf, low, high, limit=500)
            total += float(high * self.cdf(high) - low * self.cdf(low)) - area
        return total


def _mechanism(q: float, sigma: float) -> Any:
    return PoissonSubsampledGaussianMechanism(sampling_probability=q, noise_multiplier=sigma)


def _grid(noisy: Any, steps: int, errors: tuple[float, float]) -> tuple[float, float]:
    """How far the losses of privacy reach, and in what steps they are counted (theorem 5.5)."""
    reach = compute_safe_domain_size([noisy], [steps], eps_error=errors[0], delta_error=errors[1])
    return float(reach), float(errors[0] / np.sqrt(steps / 2 * np.log(12 / errors[1])))


def points(q: float, sigma: float, steps: int, errors: tuple[float, float]) -> float:
    """How many numbers `Prv` would hold of each of its arrays."""
    reach, mesh = _grid(_mechanism(q, sigma), steps, errors)
    return 2 * reach / mesh


class Prv(PRVAccountant):  # type: ignore[misc]
    """Gopi, Lee and Wutschitz 2021, "Numerical Composition of Differential Privacy", for one repeated mechanism."""

    def __init__(self, q: float, sigma: float, steps: int, errors: tuple[float, float]) -> None:
        noisy = _mechanism(q, sigma)
        self.eps_error, self.delta_error = errors
        self.prvs, self.max_self_compositions = [noisy], [steps]
        reach, mesh = _grid(noisy, steps, errors)
        domain = Domain.create_aligned(-reach, reach, mesh)
        cut = _Exact(noisy, domain.t_min(), domain.t_max())
        self.composer = Heterogeneous([CellCentred().discretise(cut, domain)])

    def epsilon(self, delta: float, steps: int) -> float:
        """The upper bound on epsilon at a delta."""
        return float(self.compute_epsilon(delta, [steps])[2])
