"""The loss of each unit of a micro-batch, and what must hold of its gradient."""

from __future__ import annotations

from torch import Tensor

from tunewright.core.errors import UserError
from tunewright.models.contracts import Loss
from tunewright.models.per_unit import Units, wide


def unit_losses(loss: Loss, units: Units) -> Tensor:
    """[units] mean over the unit's own targets, so that clipping weighs units alike whatever their length.

    Raises:
        UserError: A row's loss depends on other rows, or is made without any weight that trains.
    """
    if not loss.separable:
        raise UserError(
            "privacy: the objective's loss is not separable: what a row adds depends on other rows, so no unit has a "
            "gradient of its own. Use objective next_token."
        )
    row_S = units.row_S.to(loss.sum_S.device)
    zero_U = wide(loss.sum_S).new_zeros(len(units.names))
    sum_U = zero_U.index_add(0, row_S, wide(loss.sum_S))
    count_U = zero_U.index_add(0, row_S, wide(loss.count_S).detach())
    if not sum_U.requires_grad:
        raise UserError(_UNREACHED)
    return sum_U / count_U.clamp(min=1e-12)


def require_gradients(square_U: Tensor, loss_U: Tensor) -> None:
    """What is clipped must be each unit's gradient: one that got lost would count as nothing, and nobody would notice.

    Args:
        square_U: [units] squared norm over all trained weights together.
        loss_U: [units] the losses that they are the gradients of.

    Raises:
        UserError: A unit's gradient is not finite, or a unit with a loss has none.
    """
    if not bool(square_U.isfinite().all()):
        raise UserError("privacy: a unit's gradient is not finite; lower train.learning_rate.")
    if bool(((square_U == 0) & (loss_U.detach() != 0)).any()):
        raise UserError(_UNREACHED)


_UNREACHED = (
    "privacy: a unit has a loss but no gradient reached a trained weight, so nothing could be promised of it. "
    "Use method lora or norm."
)
