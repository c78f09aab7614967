"""Area under the ROC curve, one label against the rest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from tunewright.evaluate.closed import probabilities, truth, usable
from tunewright.evaluate.contracts import Floats, Outcome
from tunewright.evaluate.metrics._label_share import LabelShare

_PAIRED = 512
"""Rows of a label that are held against all others at a time: bounds the memory."""


class Auroc(LabelShare):
    """Chance that a row of a label gets more probability of it than a row of another label, averaged over labels."""

    of_rows: ClassVar[bool] = False

    def record(self, outcome: Outcome, labels: Sequence[str]) -> tuple[float, ...] | None:
        """(index of the true label, probability of each label ...); None when labels were not scored."""
        if outcome.choices is None:
            return None
        if not usable(outcome.choices):
            return (math.nan,) * (1 + len(labels))
        return float(truth(outcome, labels)), *map(float, probabilities(outcome.choices))

    def summarise(self, records: Floats, weights: Floats) -> Floats:
        """[resamples] mean over labels that some rows have and others have not; equal probabilities count half.

        The pairs (row of the label, row of another) are weighed by a matrix product, so the cost is that of all pairs
        of rows, however many labels there are (Mann & Whitney 1947).
        """
        true, scores = records[:, 0].astype(int), records[:, 1:]
        summed, counted = np.zeros(len(weights)), np.zeros(len(weights))
        for label in np.unique(true[true < scores.shape[1]]):
            inside, outside = np.flatnonzero(true == label), np.flatnonzero(true != label)
            of_label, of_rest = weights[:, inside], weights[:, outside]
            won = np.zeros(len(weights))
            for start in range(0, len(inside), _PAIRED):
                rows = inside[start : start + _PAIRED]
                ahead = np.sign(scores[rows, label] - scores[outside, label][:, None]) / 2 + 0.5
                won += np.einsum("rp,rp->r", of_rest @ ahead, weights[:, rows])
            pairs = of_label.sum(axis=1) * of_rest.sum(axis=1)
            there = pairs > 0
            summed[there] += won[there] / pairs[there]
            counted += there
        return np.asarray(np.divide(summed, counted, out=np.full_like(summed, np.nan), where=counted > 0))
