"""Packed attention: rows lie end to end in one sequence and never see one another.

A segment attends to itself causally and to the whole chain of its parents. One rule serves plain packing, a
prompt shared by several rows, and the trie of a closed answer set.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from tunewright.models import chunked
from tunewright.models.contracts import Segment

NAME = "tunewright_segments"
"""Under this name the attention function is registered with transformers."""
PRODUCT_COST = 1500
"""What a product of its own costs beside its size, as pairs of a query and a key (measured: benchmarks/notes.md)."""

_GROUPED = tuple(int(part) for part in torch.__version__.split(".")[:2]) >= (2, 13)
"""Whether one product shares keys among heads without repeating them in memory; older kernels for CPUs may not."""


class Attends(Protocol):
    """How the tokens of one forward are attended; given to the model as `layout`."""

    def attend(self, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, options: dict[str, Any]) -> Tensor:
        """[1, N, heads, head_dim]; the query is [1, heads, N, head_dim], keys and values [1, kv_heads, N, head_dim]."""


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

    @property
    def spans(self) -> tuple[tuple[int, int], ...]:
        """Where its keys lie, in order."""
        return (*self.ancestors, (self.start, self.stop))


@dataclass(frozen=True, slots=True)
class Layout:
    """How a packed sequence is to be attended; built once a batch, used by every layer."""

    blocks: tuple[Block, ...]
    position_N: Tensor
    """Each token's position within its own row, ancestors included."""
    lengths: list[int]
    """Pieces into which the sequence is cut, so that the keys of each block are whole pieces."""
    pieces: tuple[tuple[int, ...], ...]
    """[blocks] which pieces hold its keys."""
    _masks: dict[tuple[int, int | None, torch.dtype], Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, segments: Sequence[Segment]) -> Layout:
        """Lays out segments that lie end to end, each after its parent."""
        offsets = _offsets(segments)
        position_N = torch.cat([torch.arange(s.stop - s.start) + offsets[i] for i, s in enumerate(segments)])
        blocks = tuple(_block(segments, run) for run in _runs(segments, offsets))
        cuts = sorted({edge for block in blocks for span in block.spans for edge in span})
        number = {cut: index for index, cut in enumerate(cuts)}
        pieces = tuple(
            tuple(index for start, stop in block.spans for index in range(number[start], number[stop]))
            for block in blocks
        )
        return cls(blocks, position_N, [stop - start for start, stop in pairwise(cuts)], pieces)

    def attend(self, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, options: dict[str, Any]) -> Tensor:
        """Every block by a product of its own."""
        repeats = query.shape[1] // key.shape[1]
        if repeats > 1 and not (_GROUPED and options.get("softcap") is None):
            key, value = key.repeat_interleave(repeats, 1), value.repeat_interleave(repeats, 1)
        # A split's backward is one concatenation; a slice's would fill a tensor as long as the sequence, each time.
        queries = torch.split(query, [block.stop - block.start for block in self.blocks], 2)
        keys, values = torch.split(key, self.lengths, 2), torch.split(value, self.lengths, 2)
        outputs = []
        for index, (query_Q, pieces) in enumerate(zip(queries, self.pieces, strict=True)):
            mask = self.mask(index, options.get("sliding_window"), query.dtype)
            output = _of_block(query_Q, _picked(keys, pieces), _picked(values, pieces), mask, options)
            outputs.append(output.transpose(1, 2))  # as the kernel laid it, so that one block's is not copied
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs, 1)

    def mask(self, index: int, window: int | None, dtype: torch.dtype) -> Tensor | None:
        """What is added to the scores of a block under a sliding window, 0 or -inf; None = plain causal.

        Made once for all layers: from a mask of booleans each layer would make such a tensor anew, and keep it for its
        backward pass.
        """
        block = self.blocks[index]
        if block.allowed_QK is None and (window is None or block.stop - block.start <= window):
            return None
        if (index, window, dtype) not in self._masks:
            self._masks[index, window, dtype] = added(self._allowed(block, window), dtype)
        return self._masks[index, window, dtype]

    def _allowed(self, block: Block, window: int | None) -> Tensor:
        if window is None and block.allowed_QK is not None:
            return block.allowed_QK
        position_K = torch.cat([self.position_N[start:stop] for start, stop in block.spans])
        distance_QK = self.position_N[block.start : block.stop, None] - position_K[None, :]
        allowed_QK = distance_QK >= 0 if block.allowed_QK is None else block.allowed_QK
        return allowed_QK if window is None else allowed_QK & (distance_QK < window)


def _offsets(segments: Sequence[Segment]) -> list[int]:
    offsets: list[int] = []
    for segment in segments:
        parent = segment.parent
        offsets.append(0 if parent is None else offsets[parent] + segments[parent].stop - segments[parent].start)
    return offsets


def _runs(segments: Sequence[Segment], offsets: Sequence[int]) -> Iterator[range]:
    """Cuts segments into runs that are attended in one product each.

    A segment may join a run that holds its parent, or that has it for an ancestor. It does when a plain causal row is
    made longer, or when the pairs of query and key computed in vain cost less than a product of its own.
    """
    start, size, plain = 0, 0, True
    for index, segment in enumerate(segments):
        length, parent, before = _length(segment), segment.parent, offsets[start]
        if parent is not None and (parent >= start or parent in _ancestors(segments, start)):
            longer = plain and parent == index - 1
            apart = size * (before + size) + length * (offsets[index] + length)
            together = (size + length) * (before + size + length)
            if longer or together - apart <= PRODUCT_COST:
                size, plain = size + length, longer
                continue
        if index > start:
            yield range(start, index)
        start, size, plain = index, length, parent is None
    yield range(start, len(segments))


def _ancestors(segments: Sequence[Segment], index: int) -> list[int]:
    """Parent, its parent and so on, the first ancestor first."""
    found: list[int] = []
    parent = segments[index].parent
    while parent is not None:
        found.insert(0, parent)
        parent = segments[parent].parent
    return found


def _block(segments: Sequence[Segment], run: range) -> Block:
    first, last = segments[run[0]], segments[run[-1]]
    outside = _ancestors(segments, run[0])
    if not outside and all(segments[index].parent == index - 1 for index in run[1:]):
        return Block(first.start, last.stop, (), None)
    keys = [*outside, *run]
    allowed_QK = torch.zeros(last.stop - first.start, sum(_length(segments[key]) for key in keys), dtype=torch.bool)
    columns, column = {}, 0
    for key in keys:
        columns[key] = slice(column, column := column + _length(segments[key]))
    for index in run:
        rows = slice(segments[index].start - first.start, segments[index].stop - first.start)
        allowed_QK[rows, columns[index]] = torch.ones(2 * [_length(segments[index])], dtype=torch.bool).tril()
        for ancestor in _ancestors(segments, index):
            allowed_QK[rows, columns[ancestor]] = True
    spans = tuple((segments[key].start, segments[key].stop) for key in outside)
    return Block(first.start, last.stop, spans, allowed_QK)


def _length(segment: Segment) -> int:
    return segment.stop - segment.start


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
        NotImplementedError: The layer asks for something this function does not have (attention sinks, a cache), or
            has a window that it gives to masks alone.
    """
    layout: Attends | None = options.get("layout")
    if layout is None or options.get("s_aux") is not None or query.shape[2] != key.shape[2]:
        raise NotImplementedError("packed attention needs a layout, no cache and no attention sinks")
    if options.get("sliding_window") is None and _windowed(module):
        raise NotImplementedError("packed attention knows a window only where the layer says it")
    if torch.is_autocast_enabled("cpu"):  # rotary positions are float32, and the products to come are not
        query, key, value = (one.to(torch.get_autocast_dtype("cpu")) for one in (query, key, value))
    return layout.attend(module, query, key, value, options).contiguous(), None


def _windowed(module: nn.Module) -> bool:
    """Whether the layer sees a window by its configuration: short rows would not show that it is missing."""
    config, index = getattr(module, "config", None), getattr(module, "layer_idx", None)
    kinds = getattr(config, "layer_types", None)
    if kinds and index is not None:
        return kinds[index] in ("sliding_attention", "chunked_attention")
    window, chunk = (getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size"))
    return chunk is not None or (window is not None and getattr(config, "use_sliding_window", True))


def packed_logits(module: nn.Module, ids_N: Tensor, position_N: Tensor, layout: Attends, keep_K: Tensor) -> Tensor:
    """[K, vocabulary] logits at some positions of one packed sequence."""
    out = module(
        input_ids=ids_N[None], position_ids=position_N[None], layout=layout, logits_to_keep=keep_K, use_cache=False
    )
    logits: Tensor = out.logits[0]
    return logits


def _picked(parts: Sequence[Tensor], numbers: Sequence[int]) -> Tensor:
    return torch.cat([parts[number] for number in numbers], 2) if len(numbers) > 1 else parts[numbers[0]]


def _of_block(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, options: dict[str, Any]) -> Tensor:
    """As `product`, of one block, whose queries are the last of its keys: by runs of queries where that is faster."""
    plain = options.get("softcap") is None and not options.get("dropout", 0.0)
    if plain and chunked.pays(query):
        scale = options.get("scaling")
        return chunked.attended(query, key, value, mask, query.shape[-1] ** -0.5 if scale is None else scale)
    return product(query, key, value, mask, options)


def product(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, options: dict[str, Any]) -> Tensor:
    """One product of attention, with the layer's scale, dropout and soft cap.

    Args:
        query: [B, heads, Q, head_dim].
        key: [B, heads, K, head_dim]; without a soft cap a divisor of the heads will do.
        value: Like key.
        mask: Which key each query may see, or what is added to their scores; None = plain causal.
        options: scaling, dropout and softcap.
    """
    scale, dropout, cap = options.get("scaling"), options.get("dropout", 0.0), options.get("softcap")
    if cap is None:
        grouped = {"enable_gqa": True} if query.shape[1] != key.shape[1] else {}
        return scaled_dot_product_attention(
            query, key, value, attn_mask=mask, dropout_p=dropout, is_causal=mask is None, scale=scale, **grouped
        )
    scores = query @ key.transpose(-1, -2) * (scale if scale is not None else query.shape[-1] ** -0.5)
    scores = torch.tanh(scores / cap) * cap
    if mask is None:
        mask = torch.ones(query.shape[2], query.shape[2], dtype=torch.bool).tril()
    scores = scores + (added(mask, scores.dtype) if mask.dtype == torch.bool else mask)
    weights = scores.softmax(-1, dtype=torch.float32).to(query.dtype)
    return nn.functional.dropout(weights, dropout) @ value


def added(allowed_QK: Tensor, dtype: torch.dtype) -> Tensor:
    """What is added to scores so that only allowed keys count: 0 or -inf."""
    return torch.zeros(allowed_QK.shape, dtype=dtype).masked_fill_(~allowed_QK, float("-inf"))


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
