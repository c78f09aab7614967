"""A lower bound on epsilon from one training run with canaries.

Steinke, Nasr and Jagielski 2023, "Privacy Auditing with One (1) Training Run": each canary is put in or left out by its
own fair coin; whoever sees the model, or watched its training, guesses the coins of those it is surest of. Were the run
(epsilon, delta)-private, right guesses could not be more frequent than theorem 5.2 (algorithm 1) allows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import binom

from tunewright.evaluate.contracts import Floats

ERROR = 0.05
"""Chance that the bound of a run that keeps its promise lies above its epsilon; at most that."""
_SHARES = (1, 2, 4, 8, 16)
"""A side's guesses are half of all canaries, divided by these."""
_FEWEST = 8
"""With fewer guesses not even all right ones prove anything once the error is shared out."""
_STEP, _MOST = 0.25, 60.0
_NEGLIGIBLE = 1e-3
"""What delta may add to a chance that is compared with a share of `ERROR`."""


@dataclass(frozen=True, slots=True)
class Bound:
    """What the best of the tried thresholds proves."""

    epsilon: float
    """Epsilon is at least this, with 95 % confidence over all thresholds together; 0 = nothing is proven."""
    canaries: int
    guesses: int
    """Of the threshold that proves most; on the other canaries it abstains."""
    correct: int
    thresholds: int
    """How many were tried; the error is shared out among them (Bonferroni)."""
    most: float = 0.0
    """What would be proven had every guess been right: a larger epsilon cannot be refuted by so few canaries."""


def audit(score_C: Floats, included_C: NDArray[np.bool_], delta: float) -> Bound:
    """The lower bound of a run.

    Args:
        score_C: [canaries] how surely the model has seen each: higher is surer. What decides between equal scores is
            the canary's number, which knows nothing of the coins.
        included_C: [canaries] the coins.
        delta: The delta of the claim that is tested.

    Raises:
        ValueError: A score is not a number, or the arrays do not fit together.
    """
    if score_C.shape != included_C.shape or np.isnan(score_C).any():
        raise ValueError("every canary needs one score and one coin, and no score may be NaN")
    sure_first_C = included_C[np.argsort(-score_C, kind="stable")]
    count, sides = len(sure_first_C), thresholds(len(sure_first_C))
    error, most = ERROR / max(1, len(sides)), provable(count, delta)
    best = Bound(0.0, count, 0, 0, len(sides), most)
    for top, bottom in sides:
        correct = int(sure_first_C[:top].sum() + (~sure_first_C[count - bottom :]).sum())
        found = lower_bound(count, top + bottom, correct, delta, error)
        if best.guesses == 0 or found > best.epsilon:
            best = Bound(found, count, top + bottom, correct, len(sides), most)
    return best


def provable(canaries: int, delta: float) -> float:
    """The bound had every guess been right."""
    sides = thresholds(canaries)
    return max((lower_bound(canaries, sum(one), sum(one), delta, ERROR / len(sides)) for one in sides), default=0.0)


def negligible(canaries: int) -> float:
    """A delta that takes nothing from a bound by so many canaries: theorem 5.2 adds twice it for each of them."""
    return _NEGLIGIBLE / (2 * canaries)


def thresholds(canaries: int) -> list[tuple[int, int]]:
    """How many are guessed "in" and "out" at each threshold that is tried: it depends on the number of canaries alone.

    Both sides alike, from all canaries down to a sixteenth; and the surest alone, since what a model has seen stands
    out more clearly than what it has not.
    """
    sizes = [size for share in _SHARES if (size := canaries // 2 // share)]
    sides = [(size, size) for size in sizes] + [(size, 0) for size in sizes]
    return list(dict.fromkeys(side for side in sides if sum(side) >= _FEWEST))


def lower_bound(canaries: int, guesses: int, correct: int, delta: float, error: float = ERROR) -> float:
    """The largest epsilon up to which so many right guesses are too unlikely; 0 if they are not.

    Args:
        canaries: All of them, those without a guess too.
        guesses: How many were guessed, fixed before looking at the coins.
        correct: How many guesses were right.
        delta: Of the claim.
        error: The p-value below which an epsilon is excluded.
    """

    def excess(epsilon: float) -> float:
        return p_value(epsilon, canaries, guesses, correct, delta) - error

    if excess(0.0) >= 0:
        return 0.0
    # In small steps up to the first that stands, since with a delta the p-value need not rise everywhere.
    for low in np.arange(0.0, _MOST, _STEP).tolist():
        if excess(low + _STEP) >= 0:
            return float(brentq(excess, low, low + _STEP, xtol=1e-9))
    return _MOST


def p_value(epsilon: float, canaries: int, guesses: int, correct: int, delta: float) -> float:
    """The greatest chance of so many right guesses, or more, in an (epsilon, delta)-private run."""
    share = 1 / (1 + np.exp(-epsilon))
    beta = float(binom.sf(correct - 1, guesses, share))
    if not delta or not correct:
        return min(1.0, beta)
    fewer_I = np.arange(1, correct + 1)
    alpha = float(((binom.sf(correct - fewer_I - 1, guesses, share) - beta) / fewer_I).max())
    return min(1.0, beta + alpha * delta * 2 * canaries)
