"""Outcomes over a closed set of labels: the true and the chosen one, probabilities over the set."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence

import numpy as np

from tunewright.evaluate.contracts import Floats, Outcome


def truth(outcome: Outcome, labels: Sequence[str]) -> int:
    """Index of the true label; one past the last when the label list lacks it, so that no answer is right."""
    wanted = outcome.example.answer.text
    if wanted in labels:
        return labels.index(wanted)
    wanted = unicodedata.normalize("NFC", wanted)
    return next((i for i, label in enumerate(labels) if unicodedata.normalize("NFC", label) == wanted), len(labels))


def chosen(outcome: Outcome) -> int | None:
    """Index of the label ranked first (the earlier one of equals); None without usable scores."""
    scores = outcome.choices
    if scores is None or not usable(scores):
        return None
    return int(np.argmax(scores))


def probabilities(choices: Floats) -> Floats:
    """[labels] softmax over the set."""
    raised = np.exp(choices - np.max(choices))
    return np.asarray(raised / raised.sum(), dtype=np.float64)


def share_right(outcome: Outcome, labels: Sequence[str], k: int) -> float | None:
    """How surely the true label is among the k most probable: 1 or 0, and between where it ties for the last places.

    Whoever ranks equals by lot has it there with that chance, so the order of the label list decides nothing. None
    when labels were not scored, NaN when their scores do not rank.
    """
    if outcome.choices is None:
        return None
    if not usable(outcome.choices):
        return math.nan
    true = truth(outcome, labels)
    if true >= len(outcome.choices):
        return 0.0
    above = int((outcome.choices > outcome.choices[true]).sum())
    alike = int((outcome.choices == outcome.choices[true]).sum())
    return min(1.0, max(0.0, (k - above) / alike))


def usable(choices: Floats) -> bool:
    """Whether the scores rank: no NaN, none infinitely likely, and at least one finite (-inf = impossible)."""
    return bool(choices.size and not np.isnan(choices).any() and np.isfinite(choices.max()))


def stated_and_right(outcome: Outcome, labels: Sequence[str]) -> tuple[float, float] | None:
    """(probability of the chosen label within the set, 1 or 0 for right).

    Where several labels are equally probable, one is chosen by lot: then right is the chance that it is the true one.
    None when labels were not scored, NaN when their scores do not rank.
    """
    right = share_right(outcome, labels, 1)
    choice = chosen(outcome)
    if outcome.choices is None or right is None:
        return None
    return (math.nan, right) if choice is None else (float(probabilities(outcome.choices)[choice]), right)
