"""Attention in bfloat16 by matrix products over runs of queries.

torch's own kernel for CPUs (FlashAttention-2, Dao 2023) multiplies small tiles, which is best in float32; where
bfloat16 products have instructions of their own, larger ones are three to five times as fast as its tiles
(benchmarks/notes.md). So each run of queries is one product with all keys that it may see, heads that share keys
together. Of rows that are not long the weights are kept for the backward pass, of longer ones they are made again.

Scores are rounded to bfloat16 once, as the library's own `eager` attention has them; sums are float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

QUERIES = 128
"""In a run (measured: benchmarks/notes.md)."""
KEPT = 1024
"""Keys up to which weights are kept: they grow with the square of a row (measured: benchmarks/notes.md)."""


_EVERYWHERE = ContextVar("everywhere", default=False)


@contextmanager
def everywhere() -> Iterator[None]:
    """Within it short blocks without gradient go by runs of queries too, as in training: for who must try them."""
    before = _EVERYWHERE.set(True)
    try:
        yield
    finally:
        _EVERYWHERE.reset(before)


def pays(query: Tensor) -> bool:
    """Whether runs of queries are faster than torch's kernel for [1, heads, Q, head_dim] (measured, as above)."""
    longer = query.shape[2] >= QUERIES or query.requires_grad or _EVERYWHERE.get()
    return query.dtype == torch.bfloat16 and longer


def attended(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """[1, heads, Q, head_dim]; see `Chunked.forward`."""
    found: Tensor = Chunked.apply(query, key, value, mask, scale)  # type: ignore[no-untyped-call]
    return found


class Chunked(Function):
    """`softmax(scale Q K^T + mask) V` of one sequence, Q the last queries of its keys and none seeing beyond itself."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float) -> Tensor:
        """[1, heads, Q, width].

        Args:
            ctx: Keeps what the gradient needs.
            query: [1, heads, Q, head_dim].
            key: [1, kv_heads, K, head_dim], of which the last Q are the queries' own places.
            value: [1, kv_heads, K, width]; the width need not be the keys'.
            mask: [Q, K] added to the scores; None = plain causal.
            scale: Of the scores.
        """
        key_GKD, value_GKD = key[0].contiguous(), value[0].contiguous()
        _, heads, queries, _ = query.shape
        keeps = any(ctx.needs_input_grad) and key.shape[2] <= KEPT
        kept: list[Tensor] = []
        out_QHD = query.new_empty(queries, heads, value.shape[3])
        for run in _runs(queries):
            seen = key.shape[2] - queries + run.stop
            weights_GMK = _weights(_grouped(query, run, len(key_GKD)), key_GKD[:, :seen], mask, run, scale)
            out_QHD[run] = _apart(weights_GMK @ value_GKD[:, :seen], run)
            if keeps:
                kept.append(weights_GMK)
        ctx.save_for_backward(query, key, value, mask, *kept)
        ctx.scale = scale
        return out_QHD.transpose(0, 1)[None]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        """Gradients of queries, keys and values."""
        query, key, value, mask, *kept = ctx.saved_tensors
        key_GKD, value_GKD = key[0].contiguous(), value[0].contiguous()
        _, heads, queries, width = query.shape
        query_grad_QHD = query.new_empty(queries, heads, width)
        key_grad_GKD, value_grad_GKD = (torch.zeros(one.shape, dtype=torch.float32) for one in (key_GKD, value_GKD))
        for number, run in enumerate(_runs(queries)):
            seen = key.shape[2] - queries + run.stop
            query_GMD, grad_GMD = (_grouped(one, run, len(key_GKD)) for one in (query, grads[0]))
            weights_GMK = kept[number] if kept else _weights(query_GMD, key_GKD[:, :seen], mask, run, ctx.scale)
            value_grad_GKD[:, :seen] += weights_GMK.transpose(1, 2) @ grad_GMD
            back_GMK = grad_GMD @ value_GKD[:, :seen].transpose(1, 2)
            back_GMK = torch.ops.aten._softmax_backward_data(back_GMK, weights_GMK, -1, weights_GMK.dtype)
            query_grad_QHD[run] = _apart(back_GMK @ key_GKD[:, :seen], run)
            key_grad_GKD[:, :seen] += back_GMK.transpose(1, 2) @ query_GMD
        query_grad = query_grad_QHD.mul_(ctx.scale).transpose(0, 1)[None]
        key_grad = key_grad_GKD.mul_(ctx.scale).to(key.dtype)[None]
        return query_grad, key_grad, value_grad_GKD.to(value.dtype)[None], None, None


def _runs(queries: int) -> list[slice]:
    return [slice(start, min(start + QUERIES, queries)) for start in range(0, queries, QUERIES)]


def _grouped(values: Tensor, run: slice, groups: int) -> Tensor:
    """[kv_heads, queries of the run of all heads that share it, head_dim]."""
    return values[0, :, run].reshape(groups, -1, values.shape[-1])


def _apart(values_GMD: Tensor, run: slice) -> Tensor:
    """[queries of the run, heads, head_dim]."""
    return values_GMD.view(-1, run.stop - run.start, values_GMD.shape[-1]).transpose(0, 1)


def _weights(query_GMD: Tensor, key_GKD: Tensor, mask: Tensor | None, run: slice, scale: float) -> Tensor:
    """[kv_heads, queries, keys] of a run; keys end with the run's own last place."""
    seen, own = key_GKD.shape[1], run.stop - run.start
    scores_GMK = torch.baddbmm(query_GMD.new_empty(()), query_GMD, key_GKD.transpose(1, 2), beta=0, alpha=scale)
    scores_RCK = scores_GMK.view(-1, own, seen)
    if mask is None:
        later = torch.ones(own, own, dtype=torch.bool).triu(1)
        scores_RCK[:, :, seen - own :].masked_fill_(later, float("-inf"))
    else:
        scores_RCK += mask[run, :seen]
    return scores_GMK.softmax(-1)
