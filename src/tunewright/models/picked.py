"""Log-probabilities of single tokens, with a gradient that holds the logits' size once beside them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

_ROWS = 512
"""Rows whose log-sum-exp is taken at once where no gradient is kept, to bound memory."""


class _Picked(Function):
    @staticmethod
    def forward(ctx: Any, logits_KV: Tensor, row_T: Tensor, target_T: Tensor) -> Tensor:
        if not ctx.needs_input_grad[0]:  # nothing of the logits' size is needed beside them
            total_K = torch.cat([part.logsumexp(-1) for part in torch.split(logits_KV, _ROWS)])
            return logits_KV[row_T, target_T] - total_K[row_T]
        log_prob_KV = logits_KV.log_softmax(-1)
        ctx.save_for_backward(log_prob_KV, row_T, target_T)
        return log_prob_KV[row_T, target_T]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """d log p(t) / d logits = [target is t] - p; summed over the targets that read a row."""
        (gradient_T,) = gradients
        log_prob_KV, row_T, target_T = ctx.saved_tensors
        of_row_K = gradient_T.new_zeros(len(log_prob_KV)).index_add(0, row_T, gradient_T)
        gradient_KV = log_prob_KV.exp().mul_(-of_row_K[:, None])
        return gradient_KV.index_put_((row_T, target_T), gradient_T, accumulate=True), None, None


def picked_log_probs(logits_KV: Tensor, row_T: Tensor, target_T: Tensor) -> Tensor:
    """[T] log-probability of each target in its row; several targets may read one row.

    Taken apart into softmax and picking, the library would fill a tensor of the logits' size with zeros and make
    another of it.

    Args:
        logits_KV: [rows, vocabulary], float32 or float64.
        row_T: [targets] which row each target reads.
        target_T: [targets] its token.
    """
    picked: Tensor = _Picked.apply(logits_KV, row_T, target_T)  # type: ignore[no-untyped-call]
    return picked
