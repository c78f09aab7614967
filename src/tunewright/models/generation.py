"""Greedy answers, the same decoding for base and tuned."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from transformers import GenerationConfig

from tunewright.models.attention import attention, plain_attention
from tunewright.models.contracts import Generation, LoadedModel

BATCH = 8


def greedy(
    model: LoadedModel, contexts: Sequence[Sequence[int]], stop: Sequence[int], max_new_tokens: int
) -> Iterator[Generation]:
    """Continues each context greedily until the stop token or the limit, in order.

    Args:
        model: An opened causal language model.
        contexts: Token ids of each context.
        stop: The token ids that end an answer.
        max_new_tokens: The most tokens an answer may have.
    """
    tokenizer = model.tokenizer
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else stop[0]
    settings = GenerationConfig(
        do_sample=False, max_new_tokens=max_new_tokens, eos_token_id=list(stop), pad_token_id=pad, use_cache=True
    )
    stops = set(stop)
    for start in range(0, len(contexts), BATCH):
        batch = contexts[start : start + BATCH]
        longest = max(len(ids) for ids in batch)
        ids = torch.tensor([[pad] * (longest - len(row)) + list(row) for row in batch])
        mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in batch])
        with torch.inference_mode(), attention(model.module, plain_attention(model.module)):
            out = model.module.generate(input_ids=ids, attention_mask=mask, generation_config=settings)
        for row in out[:, longest:].tolist():
            end = next((i for i, token in enumerate(row) if token in stops), None)
            answer = row if end is None else row[:end]
            yield Generation(tokenizer.decode(answer, skip_special_tokens=True).strip(), end is not None)
