"""The gradient of the mean loss of the step."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import nn

from tunewright.core.plugins import Plugin
from tunewright.models.contracts import Loss


class Plain(Plugin):
    """Adds each micro-batch's loss, divided by the count of the whole step, so that 8 x 1 equals 1 x 8."""

    def accumulate(self, loss: Loss, count: float) -> None:
        """Adds the gradient of one micro-batch to the trained weights.

        Args:
            loss: Sums of this micro-batch, per segment.
            count: Count of the whole optimiser step.

        Raises:
            ValueError: The count is not a positive number.
        """
        if not (math.isfinite(count) and count > 0):
            raise ValueError(f"the step's count must be positive and finite, found {count}")
        (loss.sum_S.sum() / count).backward()  # type: ignore[no-untyped-call]

    def finish(self, trained: Sequence[nn.Parameter]) -> None:
        """Nothing is left to do."""
