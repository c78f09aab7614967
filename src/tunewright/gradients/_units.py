"""The loss of each unit of a micro-batch."""

from __future__ import annotations

from torch import Tensor

from tunewright.models.contracts import Loss
from tunewright.models.per_unit import Units, wide


def unit_losses(loss: Loss, units: Units) -> Tensor:
    """[units] mean over the unit's own targets, so that clipping weighs units alike whatever their length.

    Raises:
        ValueError: A row's loss depends on other rows, so it has no gradient of its own.
    """
    if not loss.separable:
        raise ValueError("the objective's loss is not separable, so no unit has a gradient of its own")
    row_S = units.row_S.to(loss.sum_S.device)
    zero_U = wide(loss.sum_S).new_zeros(len(units.names))
    sum_U = zero_U.index_add(0, row_S, wide(loss.sum_S))
    count_U = zero_U.index_add(0, row_S, wide(loss.count_S).detach())
    return sum_U / count_U.clamp(min=1e-12)
