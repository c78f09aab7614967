"""What objectives on single tokens share: from each target's log-probability to the loss of its row."""

from __future__ import annotations

import torch
from torch import Tensor

from tunewright.models.contracts import Batch, LoadedModel, Loss


def log_probs(model: LoadedModel, batch: Batch) -> Tensor:
    """[targets] log-probabilities in float32 (float64 if they are), differentiable."""
    log_prob_T = model.family.token_log_probs(model, batch)
    return log_prob_T.to(torch.promote_types(log_prob_T.dtype, torch.float32))


def likelihood_loss(batch: Batch, log_prob_T: Tensor, held_T: Tensor | None = None) -> Loss:
    """Weighted negative log-probability summed over each segment's targets.

    Args:
        batch: Whose targets these are.
        log_prob_T: [targets].
        held_T: [targets] a further factor of each target's loss, which does not count; None = 1.

    Returns:
        `sum_S` and `count_S` [segments]; `count_S` is the sum of the targets' own weights.
    """
    weight_T, segment_T = batch.targets.weight_T.to(log_prob_T), batch.targets.segment_T.to(log_prob_T.device)
    zero_S = log_prob_T.new_zeros(len(batch.segments))
    factor_T = weight_T if held_T is None else weight_T * held_T
    return Loss(
        sum_S=zero_S.index_add(0, segment_T, -factor_T * log_prob_T),
        count_S=zero_S.index_add(0, segment_T, weight_T),
    )
