"""Calibration error that is left after Platt scaling."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import expit

from tunewright.core.seeds import key
from tunewright.evaluate.closed import stated_and_right, usable
from tunewright.evaluate.contracts import Floats, Outcome
from tunewright.evaluate.metrics._calibration import CalibrationError
from tunewright.evaluate.metrics._curve import equal_mass_gap

_PULL = 1e-6
_BOUND = 30.0
"""Of log-odds: beyond it a probability is 1 to the last digit."""
_STEPS, _HALVINGS, _EXACT = 30, 8, 1e-7
"""Newton steps at most, how often one that climbs is halved, and when to stop."""
_AS_STATED = np.array([1.0, 0.0])


class EcePlatt(CalibrationError):
    """Calibration error once confidence is rescaled: fitted on one half of the rows, measured on the other."""

    def record(self, outcome: Outcome, labels: Sequence[str]) -> tuple[float, ...] | None:
        """(log-odds of the chosen label within the set, how right it is, 1 for the half that is fitted on).

        The half is the parity of a hash of the unit, or of the row where it has none: rows of one person or patient
        are never on both sides, and neither the order of rows nor a model moves them. None when labels were not scored.
        """
        found = stated_and_right(outcome, labels)
        if found is None or outcome.choices is None:
            return None
        owner = outcome.example.unit or outcome.example.id
        return _log_odds(outcome.choices), found[1], float(key("platt", owner) % 2)

    def sizes(self, records: Floats) -> Floats:
        """[n] 1 for a row that is measured, 0 for one that is fitted on."""
        return np.asarray(1 - records[:, 2])

    def summarise(self, records: Floats, weights: Floats) -> Floats:
        """[resamples] the error on the one half under the scaling fitted, anew in each resample, on the other."""
        fitted = records[:, 2] == 1
        slope, shift = platt(records[fitted, 0], records[fitted, 1], weights[:, fitted])
        odds, right = records[~fitted, 0], records[~fitted, 1]
        figures = [
            equal_mass_gap(np.column_stack([expit(a * odds + b), right]), row[None], self.bins)[0]
            if len(odds) and np.isfinite(a)
            else np.nan
            for a, b, row in zip(slope, shift, weights[:, ~fitted], strict=True)
        ]
        return np.asarray(figures)


def platt(odds: Floats, right: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """[resamples] slope and shift of the log-odds that make them most likely (Platt 1999), by Newton's method.

    A faint pull to (1, 0), that is to what was stated, keeps them finite where all answers, or none, are right.

    Args:
        odds: [n] stated log-odds.
        right: [n] 1, 0, or between for a tie.
        weights: [resamples, n]; where a resample has none of these rows its slope is NaN.
    """
    total = weights.sum(axis=1, keepdims=True)
    share = np.divide(weights, total, out=np.full_like(weights, np.nan), where=total > 0)
    inputs = np.column_stack([odds, np.ones_like(odds)])
    squares = np.column_stack([odds**2, odds, np.ones_like(odds)])
    found = np.zeros((len(weights), 2))  # where the curve bends most, so that Newton's first step is not a leap
    loss = _loss(found, inputs, right, share)
    for _ in range(_STEPS):
        said = expit(found @ inputs.T)
        slope = (share * (said - right)) @ inputs + _PULL * (found - _AS_STATED)
        bend = (share * said * (1 - said)) @ squares + np.array([_PULL, 0.0, _PULL])
        known = bend[:, 0] * bend[:, 2] - bend[:, 1] ** 2
        turned = [
            bend[:, 2] * slope[:, 0] - bend[:, 1] * slope[:, 1],
            bend[:, 0] * slope[:, 1] - bend[:, 1] * slope[:, 0],
        ]
        step = np.column_stack(turned) / known[:, None]
        for _ in range(_HALVINGS):
            lower = _loss(found - step, inputs, right, share)
            worse = lower > loss
            if not worse.any():
                break
            step[worse] /= 2
        found, loss = found - step, lower
        if not np.nanmax(np.abs(step), initial=0.0) > _EXACT:
            break
    return found[:, 0], found[:, 1]


def _loss(found: Floats, inputs: Floats, right: Floats, share: Floats) -> Floats:
    """[resamples] nats a row, with the pull."""
    said = found @ inputs.T
    pulled = _PULL / 2 * ((found - _AS_STATED) ** 2).sum(axis=1)
    with np.errstate(invalid="ignore"):  # a resample that drew no row to fit on has no slope
        return np.asarray((share * (np.logaddexp(0, said) - right * said)).sum(axis=1) + pulled)


def _log_odds(choices: Floats) -> float:
    """Of the most probable label against all others, bounded; from scores, where 1 - p would be 0."""
    if not usable(choices):
        return math.nan
    best = int(np.argmax(choices))
    others = np.delete(choices, best)
    rest = float(np.logaddexp.reduce(others)) if len(others) else -math.inf
    return float(np.clip(choices[best] - rest, -_BOUND, _BOUND))
