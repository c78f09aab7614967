"""Macro-averaged F1 over a closed set of labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from tunewright.evaluate.closed import chosen, truth
from tunewright.evaluate.contracts import Floats, Outcome
from tunewright.evaluate.metrics._label_share import LabelShare


class MacroF1(LabelShare):
    """F1 averaged over labels, each counting the same however rare (labels neither true nor chosen left out)."""

    of_rows: ClassVar[bool] = False

    def record(self, outcome: Outcome, labels: Sequence[str]) -> tuple[float, ...] | None:
        """(index of the true label, index of the chosen one); None when labels were not scored."""
        if outcome.choices is None:
            return None
        choice = chosen(outcome)
        return float(truth(outcome, labels)), math.nan if choice is None else float(choice)

    def summarise(self, records: Floats, weights: Floats) -> Floats:
        """[resamples] the figure that scikit-learn's `f1_score(average="macro")` gives on the weighted rows."""
        true, said = records[:, 0].astype(int), records[:, 1].astype(int)
        classes = np.unique(np.concatenate([true, said]))
        is_true = (true[:, None] == classes).astype(float)
        is_said = (said[:, None] == classes).astype(float)
        hits = weights @ (is_true * is_said)
        seen = weights @ (is_true + is_said)
        f1 = np.divide(2 * hits, seen, out=np.zeros_like(hits), where=seen > 0)
        return np.asarray(f1.sum(axis=1) / np.maximum((seen > 0).sum(axis=1), 1))
