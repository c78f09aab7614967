"""The objective's own loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from tunewright.evaluate.contracts import Need, Outcome
from tunewright.evaluate.metrics._ratio import Cost


class ObjectiveLoss(Cost):
    """The objective's own loss per count, for models without token probabilities."""

    needs: ClassVar[Need] = "loss"

    def record(self, outcome: Outcome, labels: Sequence[str]) -> tuple[float, ...] | None:
        """(loss sum, count); None when the loss was not asked for or counts nothing."""
        if outcome.loss_sum is None or outcome.loss_count <= 0:
            return None
        return outcome.loss_sum, outcome.loss_count
