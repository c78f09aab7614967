"""Exact log-probabilities of closed answer sets, no token computed twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tunewright.models.contracts import Segment
from tunewright.models.trie import Trie, build

Ids = Sequence[int]
Logits = Callable[[Tensor, tuple[Segment, ...], Tensor], Tensor]
"""(ids [N], segments, positions to keep [K]) -> logits [K, vocabulary]."""

TOKENS_A_BATCH = 3072
LOGIT_ROWS = 512
"""Positions whose log-sum-exp is taken at once, to bound memory."""


def score(contexts: Sequence[Ids], answers: Sequence[Sequence[Ids]], logits: Logits) -> Iterator[NDArray[np.float64]]:
    """Summed log-probability of each answer after its context, contexts in order.

    Contexts of one batch share their common beginning; each context carries the trie of its answers.
    An answer set too large for one batch is cut into several tries, so memory does not grow with it.
    """
    waiting: list[tuple[Ids, Trie]] = []
    parts_of: list[int] = []
    done: list[NDArray[np.float64]] = []
    tries: dict[int, list[Trie]] = {}
    for context, choices in zip(contexts, answers, strict=True):
        if id(choices) not in tries:
            tries[id(choices)] = _tries(choices)
        pieces = tries[id(choices)]
        parts_of.append(len(pieces))
        for piece in pieces:
            if waiting and sum(len(c) + t.size for c, t in waiting) + len(context) + piece.size > TOKENS_A_BATCH:
                done.extend(_score_batch(waiting, logits))
                waiting = []
                yield from _whole(done, parts_of)
            waiting.append((context, piece))
    if waiting:
        done.extend(_score_batch(waiting, logits))
    yield from _whole(done, parts_of)


def _whole(done: list[NDArray[np.float64]], parts_of: list[int]) -> Iterator[NDArray[np.float64]]:
    """Takes off the contexts all of whose parts are scored."""
    while parts_of and len(done) >= parts_of[0]:
        count = parts_of.pop(0)
        yield np.concatenate(done[:count])
        del done[:count]


def _tries(choices: Sequence[Ids]) -> list[Trie]:
    """One trie, or several over consecutive answers when one would not fit a batch."""
    whole = build(choices)
    if whole.size <= TOKENS_A_BATCH:
        return [whole]
    cuts = np.linspace(0, len(choices), 2 + 2 * whole.size // TOKENS_A_BATCH, dtype=int)
    return [build(choices[a:b]) for a, b in pairwise(cuts.tolist()) if b > a]


def _common(contexts: Sequence[Ids]) -> int:
    """Length of the beginning that all contexts share, leaving each at least one token of its own."""
    limit = min(len(context) for context in contexts) - 1
    length = 0
    while length < limit and all(context[length] == contexts[0][length] for context in contexts):
        length += 1
    return length


def _score_batch(rows: Sequence[tuple[Ids, Trie]], logits: Logits) -> list[NDArray[np.float64]]:
    ids: list[int] = []
    segments: list[Segment] = []

    def place(tokens: Ids, row: int, parent: int | None) -> int:
        segments.append(Segment(row, None, row, len(ids), len(ids) + len(tokens), parent))
        ids.extend(tokens)
        return len(segments) - 1

    shared = _common([context for context, _ in rows]) if len(rows) > 1 else 0
    root = place(rows[0][0][:shared], -1, None) if shared else None
    sources: list[int] = []
    targets: list[int] = []
    for row, (context, trie) in enumerate(rows):
        own = place(context[shared:], row, root)
        edges: list[int] = []
        for edge in trie.edges:
            edges.append(place(edge.tokens, row, own if edge.parent is None else edges[edge.parent]))
        for predecessor, token in trie.predictions:
            edge_offset = (
                (own, len(context) - shared - 1) if predecessor is None else (edges[predecessor[0]], predecessor[1])
            )
            sources.append(segments[edge_offset[0]].start + edge_offset[1])
            targets.append(token)
    found = _log_probs(torch.tensor(ids), tuple(segments), sources, targets, logits)
    results, start = [], 0
    for _, trie in rows:
        steps = found[start : start + len(trie.predictions)]
        results.append(np.array([steps[list(path)].sum() for path in trie.answers]))
        start += len(trie.predictions)
    return results


def _log_probs(
    ids_N: Tensor, segments: tuple[Segment, ...], sources: list[int], targets: list[int], logits: Logits
) -> NDArray[np.float64]:
    keep, inverse = np.unique(np.array(sources), return_inverse=True)
    logits_KV = logits(ids_N, segments, torch.from_numpy(keep))
    lse_K = torch.cat([part.float().logsumexp(-1) for part in torch.split(logits_KV, LOGIT_ROWS)])
    row = torch.from_numpy(inverse)
    chosen = logits_KV[row, torch.tensor(targets)].float() - lse_K[row]
    return chosen.double().numpy()
