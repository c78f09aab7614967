"""Packed attention: rows lie end to end in one sequence and never see one another.

A segment attends to itself causally and to the whole chain of its parents. One rule serves plain packing, a
prompt shared by several rows, and the trie of a closed answer set.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from tunewright.models.contracts import Segment

NAME = "tunewright_segments"
"""Under this name the attention function is registered with transformers."""


@dataclass(frozen=True, slots=True)
class Block:
    """A contiguous run of segments that is attended in one product.

    Queries are the run `start:stop`; keys are the ancestors' spans followed by the run itself.
    """

    start: int
    stop: int
    ancestors: tuple[tuple[int, int], ...]
    allowed_QK: Tensor | None
    """Which key each query may see; None = plain causal."""
    distance_QK: Tensor | None
    """How many tokens back each key lies, for sliding windows; None = plain causal."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How a packed sequence is to be attended; built once a batch, used by every layer."""

    blocks: tuple[Block, ...]
    position_N: Tensor
    """Each token's position within its own row, ancestors included."""
    _windows: dict[tuple[int, int], Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, segments: Sequence[Segment]) -> Layout:
        """Lays out segments that lie end to end, each after its parent."""
        offsets = _offsets(segments)
        position_N = torch.cat([torch.arange(s.stop - s.start) + offsets[i] for i, s in enumerate(segments)])
        return cls(tuple(_block(segments, run, position_N) for run in _runs(segments)), position_N)

    def mask(self, index: int, window: int | None) -> Tensor | None:
        """The mask of a block under a sliding window; None = plain causal."""
        block = self.blocks[index]
        length = block.stop - block.start
        if window is None or (block.allowed_QK is None and length <= window):
            return block.allowed_QK
        if (index, window) not in self._windows:
            allowed, distance = block.allowed_QK, block.distance_QK
            if allowed is None or distance is None:
                steps = torch.arange(length)
                distance = steps[:, None] - steps[None, :]
                allowed = distance >= 0
            self._windows[index, window] = allowed & (distance < window)
        return self._windows[index, window]


def _offsets(segments: Sequence[Segment]) -> list[int]:
    offsets: list[int] = []
    for segment in segments:
        parent = segment.parent
        offsets.append(0 if parent is None else offsets[parent] + segments[parent].stop - segments[parent].start)
    return offsets


def _runs(segments: Sequence[Segment]) -> Iterator[range]:
    """Consecutive segments of one group hang together when each has its parent within the run.

    A beginning shared by many groups is a run of its own: one product over all of them would be quadratic in the batch.
    """
    start = 0
    for index in range(1, len(segments) + 1):
        parent = segments[index].parent if index < len(segments) else None
        if parent is None or parent < start or segments[index].group != segments[start].group:
            yield range(start, index)
            start = index


def _block(segments: Sequence[Segment], run: range, position_N: Tensor) -> Block:
    first, last = segments[run[0]], segments[run[-1]]
    ancestors: list[tuple[int, int]] = []
    parent = first.parent
    while parent is not None:
        ancestors.insert(0, (segments[parent].start, segments[parent].stop))
        parent = segments[parent].parent
    if len(run) == 1 and not ancestors:
        return Block(first.start, last.stop, (), None, None)
    length = last.stop - first.start
    own_QQ = torch.zeros(length, length, dtype=torch.bool)
    for index in run:
        segment = segments[index]
        rows = slice(segment.start - first.start, segment.stop - first.start)
        own_QQ[rows, rows] = torch.ones(rows.stop - rows.start, rows.stop - rows.start, dtype=torch.bool).tril()
        parent = segment.parent
        while parent is not None and parent >= run[0]:
            own_QQ[rows, segments[parent].start - first.start : segments[parent].stop - first.start] = True
            parent = segments[parent].parent
    before = sum(stop - start for start, stop in ancestors)
    allowed_QK = torch.cat([torch.ones(length, before, dtype=torch.bool), own_QQ], dim=1)
    keys_K = torch.cat([*(position_N[a:b] for a, b in ancestors), position_N[first.start : last.stop]])
    distance_QK = position_N[first.start : last.stop, None] - keys_K[None, :]
    return Block(first.start, last.stop, tuple(ancestors), allowed_QK, distance_QK)


def segment_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """The attention function that transformers calls; `layout` comes as a keyword argument of the model.

    Args:
        module: The attention layer.
        query: [1, heads, N, head_dim] over the whole packed sequence.
        key: [1, kv_heads, N, head_dim].
        value: [1, kv_heads, N, head_dim].
        attention_mask: Always None: the layout owns masks and sliding windows.
        options: scaling, dropout, sliding_window, softcap and layout.

    Returns:
        [1, N, heads, head_dim], and None for the weights.

    Raises:
        NotImplementedError: The layer asks for something this function does not have (attention sinks, a cache).
    """
    layout: Layout | None = options.get("layout")
    if layout is None or options.get("s_aux") is not None or query.shape[2] != key.shape[2]:
        raise NotImplementedError("packed attention needs a layout, no cache and no attention sinks")
    repeats = query.shape[1] // key.shape[1]
    if repeats > 1:
        key, value = key.repeat_interleave(repeats, 1), value.repeat_interleave(repeats, 1)
    outputs = []
    for index, block in enumerate(layout.blocks):
        own = slice(block.start, block.stop)
        spans = [*(slice(a, b) for a, b in block.ancestors), own]
        k = torch.cat([key[:, :, span] for span in spans], 2) if block.ancestors else key[:, :, own]
        v = torch.cat([value[:, :, span] for span in spans], 2) if block.ancestors else value[:, :, own]
        mask = layout.mask(index, options.get("sliding_window"))
        outputs.append(_attend(query[:, :, own], k, v, mask, options))
    return torch.cat(outputs, 2).transpose(1, 2).contiguous(), None


def _attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, options: dict[str, Any]) -> Tensor:
    scale, dropout, cap = options.get("scaling"), options.get("dropout", 0.0), options.get("softcap")
    if cap is None:
        return scaled_dot_product_attention(
            query, key, value, attn_mask=mask, dropout_p=dropout, is_causal=mask is None, scale=scale
        )
    scores = query @ key.transpose(-1, -2) * (scale if scale is not None else query.shape[-1] ** -0.5)
    scores = torch.tanh(scores / cap) * cap
    if mask is None:
        mask = torch.ones(query.shape[2], query.shape[2], dtype=torch.bool).tril()
    weights = scores.masked_fill(~mask, float("-inf")).softmax(-1, dtype=torch.float32).to(query.dtype)
    return nn.functional.dropout(weights, dropout) @ value


AttentionInterface.register(NAME, segment_attention)


@contextmanager
def attention(module: nn.Module, name: str) -> Iterator[None]:
    """Within it every layer of the module attends by the named implementation."""
    configs = {id(part.config): part.config for part in module.modules() if hasattr(part, "config")}
    before = {key: getattr(config, "_attn_implementation", None) for key, config in configs.items()}
    for config in configs.values():
        if hasattr(config, "_attn_implementation"):
            config._attn_implementation = name
    try:
        yield
    finally:
        for key, config in configs.items():
            if hasattr(config, "_attn_implementation"):
                config._attn_implementation = before[key]


def plain_attention(module: nn.Module) -> str:
    """The library's own implementation for this model: sdpa where it has one, else eager."""
    supported = any(getattr(part, "_supports_sdpa", False) for part in module.modules())
    return "sdpa" if supported else "eager"
