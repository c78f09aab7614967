"""What a model's output head says of a few tokens, read off its last hidden states.

The head's product is the widest there is: its result, [positions, vocabulary], is far larger than any cache and is
written and read again for the softmax. A slice of the vocabulary at a time stays in the cache, is summed up as it comes
(the online softmax of Milakov and Gimelshein 2018, arXiv:1805.02867) and is gone. The gradient needs no second pass:
d log p(t) / d hidden = w_t - sum_v p(v) w_v, and that mean of the head's rows is summed up beside the normaliser, as
attention does with its values (Dao et al. 2022, algorithm 1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

from tunewright.models.contracts import LoadedModel
from tunewright.models.picked import picked_log_probs

SLICE = 512
"""Words whose logits are made at a time (measured: benchmarks/notes.md)."""

FEW = 16
"""Rows up to which the whole product, words in front, is fastest (measured: benchmarks/notes.md)."""


def picked(model: LoadedModel, logits: Callable[[], Tensor], row_T: Tensor, target_T: Tensor) -> Tensor:
    """[T] float32 or float64 log-probability of each target in its row; several targets may read one row.

    Args:
        model: The model that is asked.
        logits: Asks it: [rows, vocabulary].
        row_T: [targets] which row each target reads.
        target_T: [targets] its token.
    """
    head = sliced_head(model)
    if head is None:
        return picked_log_probs(_accurate(logits()), row_T, target_T)
    with _passing(head):
        hidden_KH = logits()
    found: Tensor = _Sliced.apply(hidden_KH.to(head.weight.dtype), head, row_T, target_T)  # type: ignore[no-untyped-call]
    return found


def best(model: LoadedModel, logits: Callable[[], Tensor]) -> Tensor:
    """[rows] the likeliest token of each row of the logits, the first of equals; without gradient."""
    head = sliced_head(model)
    if head is None:
        return logits().argmax(-1)
    with _passing(head):
        hidden_KH = logits().to(head.weight.dtype)
    if len(hidden_KH) <= FEW:
        logits_VK = head.weight.detach() @ hidden_KH.detach().t()
        return (logits_VK if head.bias is None else logits_VK + head.bias.detach()[:, None]).argmax(0)
    most_K = hidden_KH.new_full((len(hidden_KH),), float("-inf"))
    token_K = torch.zeros(len(hidden_KH), dtype=torch.long)
    for start, logits_KS in _slices(head, hidden_KH):
        value_K, place_K = logits_KS.max(-1)
        token_K = torch.where(value_K > most_K, place_K + start, token_K)
        most_K = torch.maximum(value_K, most_K)
    return token_K


def answers_by_head(module: Any) -> bool:
    """Whether a model's logits are what its output head says, nothing done to them afterwards."""
    head = module.get_output_embeddings()
    if type(head) is not nn.Linear:
        return False
    said: list[Tensor] = []
    handle = head.register_forward_hook(lambda _, __, output: said.append(output))
    try:
        with torch.inference_mode():
            logits = module(input_ids=torch.arange(1, 4)[None], use_cache=False).logits
    finally:
        handle.remove()
    if (
        len(said) != 1
        or said[0].shape != logits.shape
        or torch.promote_types(said[0].dtype, logits.dtype) != logits.dtype
    ):
        return False
    return torch.equal(said[0].to(logits.dtype), logits)


def sliced_head(model: LoadedModel) -> nn.Linear | None:
    """The head when it may be read slice by slice: nothing is attached to it, and it gets no gradient."""
    if not model.answers_by_head or not hasattr(model.module, "get_output_embeddings"):
        return None
    head = model.module.get_output_embeddings()
    attached = "forward" in vars(head) or head._forward_hooks or head._forward_pre_hooks
    learns = torch.is_grad_enabled() and any(weight.requires_grad for weight in head.parameters())
    return None if type(head) is not nn.Linear or attached or learns else head


@contextmanager
def _passing(head: nn.Linear) -> Iterator[None]:
    """Within it the head gives on what it is given, so the model answers with hidden states."""
    head.forward = lambda input: input  # type: ignore[method-assign]
    try:
        yield
    finally:
        del head.forward


def _accurate(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()


def _slices(head: nn.Linear, hidden_KH: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Logits [rows, slice] of consecutive slices with their first word; one's memory is the next one's."""
    weight_VH, hidden_KH = head.weight.detach(), hidden_KH.detach()
    if torch.is_autocast_enabled("cpu"):  # which leaves a product alone that is told where to put its result
        weight_VH, hidden_KH = (one.to(torch.get_autocast_dtype("cpu")) for one in (weight_VH, hidden_KH))
    room_KS = hidden_KH.new_empty(len(hidden_KH) * SLICE)
    for start in range(0, len(weight_VH), SLICE):
        weight_SH = weight_VH[start : start + SLICE]
        logits_KS = room_KS[: len(hidden_KH) * len(weight_SH)].view(len(hidden_KH), len(weight_SH))
        torch.mm(hidden_KH, weight_SH.t(), out=logits_KS)
        if head.bias is not None:
            logits_KS += head.bias.detach()[start : start + SLICE]
        yield start, logits_KS


class _Sliced(Function):
    @staticmethod
    def forward(ctx: Any, hidden_KH: Tensor, head: nn.Linear, row_T: Tensor, target_T: Tensor) -> Tensor:
        weight_VH, learns = head.weight.detach(), ctx.needs_input_grad[0]
        order_T = target_T.argsort(stable=True)
        starts = torch.arange(0, len(weight_VH) + SLICE, SLICE)
        edges = torch.searchsorted(target_T[order_T], starts).tolist()
        most_K = _accurate(hidden_KH.new_full((len(hidden_KH),), float("-inf")))
        total_K = torch.zeros_like(most_K)
        mean_KH = most_K.new_zeros(hidden_KH.shape) if learns else None
        wanted_T = most_K.new_empty(len(target_T))
        for number, (start, logits) in enumerate(_slices(head, hidden_KH)):
            logits_KS = _accurate(logits)
            here = order_T[edges[number] : edges[number + 1]]
            wanted_T[here] = logits_KS[row_T[here], target_T[here] - start]
            before_K, most_K = most_K, torch.maximum(most_K, logits_KS.amax(-1))
            shrunk_K = (before_K - most_K).exp_()
            share_KS = logits_KS.sub_(most_K[:, None]).exp_()
            total_K = total_K.mul_(shrunk_K).add_(share_KS.sum(-1))
            if mean_KH is not None:
                weight_SH = weight_VH[start : start + SLICE]
                mean_KH.mul_(shrunk_K[:, None]).add_(share_KS.to(weight_SH.dtype) @ weight_SH)
        if mean_KH is not None:
            ctx.save_for_backward(mean_KH.div_(total_K[:, None]), row_T, target_T, weight_VH)
        return wanted_T - most_K[row_T] - total_K.log()[row_T]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        """d log p(t) / d hidden = w_t - mean; summed over the targets that read a row."""
        (gradient_T,) = gradients
        mean_KH, row_T, target_T, weight_VH = ctx.saved_tensors
        of_row_K = gradient_T.new_zeros(len(mean_KH)).index_add(0, row_T, gradient_T)
        wanted_TH = weight_VH[target_T].to(gradient_T.dtype).mul_(gradient_T[:, None])
        gradient_KH = (mean_KH * -of_row_K[:, None]).index_add_(0, row_T, wanted_TH)
        return gradient_KH.to(weight_VH.dtype), None, None, None
