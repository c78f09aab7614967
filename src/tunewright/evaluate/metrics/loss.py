"""The objective's own loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from tunewright.core.plugins import Plugin
from tunewright.evaluate.contracts import Floats, Need, Outcome
from tunewright.evaluate.metrics._ratio import ratio


class ObjectiveLoss(Plugin):
    """The objective's own loss per count, for models without token probabilities."""

    needs: ClassVar[Need] = "loss"
    higher_is_better: ClassVar[bool] = False
    closed_set: ClassVar[bool] = False

    def record(self, outcome: Outcome, labels: Sequence[str]) -> tuple[float, ...] | None:
        """(loss sum, count); None when the loss was not asked for or counts nothing."""
        if outcome.loss_sum is None or outcome.loss_count <= 0:
            return None
        return outcome.loss_sum, outcome.loss_count

    def summarise(self, records: Floats, weights: Floats) -> Floats:
        """[resamples] summed loss over summed count."""
        return ratio(records, weights)

    def sizes(self, records: Floats) -> Floats:
        """[n] counts: how much each example counts."""
        return np.asarray(records[:, 1])
