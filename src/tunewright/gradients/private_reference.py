"""Private gradients unit by unit: slow, and what the fast ones must equal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import ClassVar

import torch
from torch import nn

from tunewright.core.errors import UserError
from tunewright.gradients._noise import Clipped, ClippedSum
from tunewright.gradients._rules import mixing
from tunewright.gradients._units import require_gradients, unit_losses
from tunewright.models.contracts import Batch, LoadedModel, Loss
from tunewright.models.per_unit import Units, wide


class PrivateReference(Clipped):
    """As `private`, by one backward pass for each unit: the definition written out, many times slower."""

    private: ClassVar[bool] = True

    @contextmanager
    def begin(self, model: LoadedModel, trained: Mapping[str, nn.Parameter], secret: str) -> Iterator[Looped]:
        """Leaves the model as it is.

        Raises:
            UserError: The model mixes rows.
        """
        faults = mixing(model.module)
        if faults:
            raise UserError(faults)
        yield Looped(self, trained, secret)


class Looped(ClippedSum):
    """A clipped sum of units that are taken one by one."""

    def accumulate(self, loss: Loss, count: float, batch: Batch) -> None:
        """One backward pass a unit, clipped, added."""
        weights = list(self.trained.values())
        for one in unit_losses(loss, Units.of(batch)):
            grads = torch.autograd.grad(one, weights, retain_graph=True, materialize_grads=True)
            square = torch.stack([wide(grad).double().square().sum() for grad in grads]).sum()
            require_gradients(square[None], one[None])
            factor = self.how.factors(square[None])[0]
            for name, grad in zip(self.trained, grads, strict=True):
                self.add(name, wide(grad) * factor.to(wide(grad).dtype))
