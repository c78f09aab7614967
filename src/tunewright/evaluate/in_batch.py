"""Whether a unit was in a step's batch, told from the noisy sum of gradients that the step released.

Whoever sees a step of private training, and knows whose rows there may be, knows the gradient that each of them would
have given. The released sum is y = sum over units of a_u g_u + noise, with a_u = 1 for those that came and 0 for the
others. With normal variables of the same second moment in their place, each a_u has a likelihood ratio in closed form:
the other units' gradients are interference, filtered out together with the noise (the linear detector of least mean
square error, Verdu 1998, "Multiuser Detection", section 6.2). It is worked out weight by weight and added up, so that a
layer whose scale is not what was promised stands out, where in one vector it would drown the rest.

How good the model is decides how much an audit proves, never whether it is right: any score will do for that.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from tunewright.evaluate.contracts import Floats

Floats32 = NDArray[np.float32]
_SPARE = 1.25
"""A weight shows the noise when it has so many times more coordinates than there are units."""
_TINY = 1e-6
_SURE = 4.0
"""Standard deviations above its mean from which a squared length is not taken for noise."""


def step_ratios(
    gradients: Mapping[str, Floats32], released: Mapping[str, Floats32], claimed: float, rate: float
) -> tuple[Floats, float | None]:
    """Log-likelihood ratio of having come in one step against not, and the noise that was found.

    Args:
        gradients: For each weight [units, coordinates], what each unit would have given, clipped as promised.
        released: For each weight [coordinates], the noisy sum.
        claimed: Standard deviation of the noise as promised.
        rate: Chance that a unit came.

    Returns:
        [units] the ratios; the standard deviation of the noise, None where every weight is too small to tell.
    """
    grams = {name: (one_UD @ one_UD.T).astype(np.float64) for name, one_UD in gradients.items()}
    largest = max(gradients, key=lambda name: gradients[name].shape[1])
    found = _noise(gradients[largest], released[largest], grams[largest])
    noise = claimed if found is None else found
    parts = [
        _ratios(grams[name], gradients[name] @ released[name], _scale(grams[name], released[name], noise, rate),
                (noise, rate))
        for name in gradients
        if grams[name].any()  # a weight to which nobody would have given anything tells nothing of anybody
    ]  # fmt: skip
    return np.sum([np.zeros(len(grams[largest])), *parts], axis=0), found


def scores(ratio_TU: Floats, rate: float) -> Floats:
    """[units] log-likelihood ratio of being among the rows: such a unit comes into each step with the chance `rate`."""
    return np.asarray(np.logaddexp(np.log1p(-min(rate, 1 - _TINY)), np.log(rate) + ratio_TU).sum(0))


def _noise(gradient_UD: Floats32, released_D: Floats32, gram_UU: Floats) -> float | None:
    """What no combination of the units' gradients explains, a coordinate."""
    units, size = gradient_UD.shape
    if size < _SPARE * units:
        return None
    if not gram_UU.any():  # no unit would have given anything to this weight: all that is there is noise
        return float(np.sqrt(released_D.astype(np.float64) @ released_D / size))
    explained_U = _solved(gram_UU, _TINY * gram_UU.trace() / units, (gradient_UD @ released_D).astype(np.float64))
    left_D = (released_D - explained_U.astype(np.float32) @ gradient_UD).astype(np.float64)
    return float(np.sqrt(left_D @ left_D / (size - units)))


def _scale(gram_UU: Floats, released_D: Floats32, noise: float, rate: float) -> float:
    """How many times larger than promised the units' gradients came: 1 unless the sum is too large to be noise."""
    square, size = float(released_D.astype(np.float64) @ released_D), len(released_D)
    excess = square - noise**2 * (size + _SURE * np.sqrt(2 * size))
    return max(1.0, float(np.sqrt(max(0.0, excess) / (rate * max(gram_UU.trace(), 1e-300)))))


def _ratios(gram_UU: Floats, match_U: Floats32, scale: float, noise_rate: tuple[float, float]) -> Floats:
    """[units] from one weight, for a_u = scale against a_u = 0.

    With power v = scale^2 rate and A = (G G' + noise^2 / v I)^-1 the estimate of a is A G y. Taking unit u's own part
    out of the covariance (Sherman and Morrison) leaves scale (a_u - scale s_u / 2) / (noise^2 A_uu), where
    s_u = 1 - noise^2 / v A_uu is the share of a_u that can be seen.
    """
    noise, rate = noise_rate
    power = scale**2 * rate
    ridge = max(noise, 1e-30) ** 2 / power
    inverse_UU = _solved(gram_UU, ridge, np.eye(len(gram_UU)))
    own_U = np.clip(np.diag(inverse_UU), _TINY / ridge, 1 / ridge)
    seen_U = 1 - ridge * own_U
    came_U = inverse_UU @ match_U.astype(np.float64)
    return np.asarray(scale * (came_U - scale * seen_U / 2) / (power * ridge * own_U))


def _solved(gram_UU: Floats, ridge: float, right: Floats) -> Floats:
    floor = 1e-10 * gram_UU.trace() / len(gram_UU)  # float32 products are no more exact
    return np.asarray(cho_solve(cho_factor(gram_UU + (ridge + floor) * np.eye(len(gram_UU)), lower=True), right))
