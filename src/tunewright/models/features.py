"""What a causal model holds of a context at its last position, contexts with a common beginning read once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from tunewright.core.batches import batches
from tunewright.models.attention import Layout, attention, plain_attention
from tunewright.models.contracts import LoadedModel
from tunewright.models.scoring import TOKENS_A_BATCH, Ids, Laid


def last_hidden(model: LoadedModel, contexts: Sequence[Ids]) -> Iterator[NDArray[np.float32]]:
    """[width] the last layer's output at the last token of each context, in order."""
    for rows in batches(contexts, len, TOKENS_A_BATCH):
        yield from _read(model, rows)


def _read(model: LoadedModel, contexts: Sequence[Ids]) -> Iterator[NDArray[np.float32]]:
    if not model.packs:
        yield from (_alone(model, context) for context in contexts)
        return
    laid = Laid()
    ends = laid.contexts(contexts)
    layout = Layout.of(laid.segments)
    with torch.inference_mode():
        out = model.module(
            input_ids=torch.tensor([laid.ids]),
            position_ids=layout.position_N[None],
            layout=layout,
            logits_to_keep=torch.tensor([0]),
            use_cache=False,
            output_hidden_states=True,
        )
    yield from out.hidden_states[-1][0][[laid.segments[end].stop - 1 for end in ends]].float().numpy()


def _alone(model: LoadedModel, context: Ids) -> NDArray[np.float32]:
    with torch.inference_mode(), attention(model.module, plain_attention(model.module)):
        out = model.module(input_ids=torch.tensor([list(context)]), use_cache=False, output_hidden_states=True)
    found: NDArray[np.float32] = out.hidden_states[-1][0, -1].float().numpy()
    return found
