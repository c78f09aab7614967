"""The gradient of the mean loss of the step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from tunewright.core.plugins import Plugin
from tunewright.models.contracts import Batch, LoadedModel, Loss


class Plain(Plugin):
    """Adds each micro-batch's loss, divided by the count of the whole step, so that 8 x 1 equals 1 x 8."""

    private: ClassVar[bool] = False

    def fresh_secret(self) -> str:
        """None: nothing here must be secret."""
        return ""

    def begin(
        self, model: LoadedModel, trained: Mapping[str, nn.Parameter], secret: str
    ) -> AbstractContextManager[Adding]:
        """There is nothing to prepare."""
        return nullcontext(Adding(trained))


@dataclass(frozen=True, slots=True)
class Adding:
    """Gradients that add up where autograd leaves them."""

    trained: Mapping[str, nn.Parameter]

    def accumulate(self, loss: Loss, count: float, batch: Batch | None = None) -> None:
        """Adds the gradient of one micro-batch to the trained weights.

        Args:
            loss: Sums of this micro-batch, per segment.
            count: Count of the whole optimiser step.
            batch: Not looked at.

        Raises:
            ValueError: The count is not a positive number.
        """
        if not (math.isfinite(count) and count > 0):
            raise ValueError(f"the step's count must be positive and finite, found {count}")
        (loss.sum_S.sum() / count).backward()  # type: ignore[no-untyped-call]

    def finish(self, step: int) -> None:
        """Nothing is left to do."""

    def taken(self) -> dict[str, Tensor]:
        """The gradients so far; the weights have none after it."""
        found = {name: weight.grad for name, weight in self.trained.items() if weight.grad is not None}
        for name in found:
            self.trained[name].grad = None
        return found

    def add(self, name: str, part: Tensor) -> None:
        """Adds a gradient to what a weight has."""
        weight = self.trained[name]
        weight.grad = part.to(weight.dtype) if weight.grad is None else weight.grad.add_(part)
