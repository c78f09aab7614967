"""Exact log-probabilities of closed answer sets, no token computed twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise, takewhile

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tunewright.models.contracts import Segment
from tunewright.models.trie import Trie, build

Ids = Sequence[int]
Picked = Callable[[Tensor, tuple[Segment, ...], Tensor, Tensor, Tensor], Tensor]
"""(ids [N], segments, positions [K], which of them each target reads [T], targets [T]) -> log-probabilities [T]."""

TOKENS_A_BATCH = 2048
_WORTH = 4
"""Tokens from which computing a common beginning of contexts once saves more than its bookkeeping costs."""


def score(contexts: Sequence[Ids], answers: Sequence[Sequence[Ids]], picked: Picked) -> Iterator[NDArray[np.float64]]:
    """Summed log-probability of each answer after its context, contexts in order.

    What contexts of one batch begin with alike is computed once, as a tree; each carries the trie of its answers.
    An answer set too large for one batch is cut into several tries, so memory does not grow with it.
    """
    waiting: list[tuple[Ids, Trie]] = []
    size = 0
    parts_of: list[int] = []
    done: list[NDArray[np.float64]] = []
    tries: dict[int, tuple[Sequence[Ids], list[Trie]]] = {}  # with the answers, lest another set gets their identity
    for context, choices in zip(contexts, answers, strict=True):
        if id(choices) not in tries:
            tries[id(choices)] = choices, _tries(choices)
        pieces = tries[id(choices)][1]
        parts_of.append(len(pieces))
        for piece in pieces:
            own = len(context) - _common(waiting[-1][0], context) if waiting else len(context)
            if waiting and size + own + piece.size > TOKENS_A_BATCH:
                done.extend(_score_batch(waiting, picked))
                waiting, size, own = [], 0, len(context)
                yield from _whole(done, parts_of)
            waiting.append((context, piece))
            size += own + piece.size
    if waiting:
        done.extend(_score_batch(waiting, picked))
    yield from _whole(done, parts_of)


def batches(contexts: Sequence[Ids], most: int) -> Iterator[list[Ids]]:
    """Contexts in order, at most so many at once, and of no more tokens than a batch has (or one context)."""
    waiting: list[Ids] = []
    size = 0
    for context in contexts:
        if waiting and (len(waiting) == most or size + len(context) > TOKENS_A_BATCH):
            yield waiting
            waiting, size = [], 0
        waiting.append(context)
        size += len(context)
    if waiting:
        yield waiting


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


def _common(one: Ids, other: Ids) -> int:
    """How many tokens two contexts begin with alike."""
    limit = min(len(one), len(other))
    return next((place for place in range(limit) if one[place] != other[place]), limit)


@dataclass(slots=True)
class Laid:
    """Token sequences laid out as segments, each after its parent."""

    ids: list[int] = field(default_factory=list)
    segments: list[Segment] = field(default_factory=list)

    def place(self, tokens: Ids, row: int, parent: int | None) -> int:
        """Adds a run of tokens that continues a segment; returns its number."""
        start = len(self.ids)
        self.segments.append(Segment(row, None, row, start, start + len(tokens), parent))
        self.ids.extend(tokens)
        return len(self.segments) - 1

    def contexts(self, rows: Sequence[Ids]) -> list[int]:
        """Lays out contexts as a tree of common beginnings; returns the segment at whose end each ends."""
        ends = [0] * len(rows)
        self._grow(rows, sorted(range(len(rows)), key=lambda row: list(rows[row])), 0, None, ends)
        return ends

    def tokens(self, end: int) -> Tensor:
        """[tokens] where the tokens of the row that ends with this segment lie, first to last."""
        spans: list[Tensor] = []
        number: int | None = end
        while number is not None:
            segment = self.segments[number]
            spans.append(torch.arange(segment.start, segment.stop))
            number = segment.parent
        return torch.cat(spans[::-1])

    def _grow(self, rows: Sequence[Ids], members: list[int], depth: int, parent: int | None, ends: list[int]) -> None:
        """Contexts, sorted, that are alike up to `depth`, from there on; all are longer than that."""
        while members:
            first = rows[members[0]]
            # Sorted sequences that begin alike stand in a run, and all share what the first and the last of it share.
            worth = min(len(first), depth + _WORTH)
            alike = (_common(first, rows[row]) >= worth for row in members)
            like = members[: sum(takewhile(bool, alike))]
            end = _common(first, rows[like[-1]])
            members = members[len(like) :]
            segment = self.place(first[depth:end], like[0], parent)
            longer = [row for row in like if len(rows[row]) > end]
            for row in like[: len(like) - len(longer)]:
                ends[row] = segment
            self._grow(rows, longer, end, segment, ends)


def _score_batch(rows: Sequence[tuple[Ids, Trie]], picked: Picked) -> list[NDArray[np.float64]]:
    laid = Laid()
    ends = laid.contexts([context for context, _ in rows])
    sources: list[int] = []
    targets: list[int] = []
    for row, (own, (_, trie)) in enumerate(zip(ends, rows, strict=True)):
        edges: list[int] = []
        for edge in trie.edges:
            edges.append(laid.place(edge.tokens, row, own if edge.parent is None else edges[edge.parent]))
        for predecessor, token in trie.predictions:
            if predecessor is None:
                sources.append(laid.segments[own].stop - 1)
            else:
                sources.append(laid.segments[edges[predecessor[0]]].start + predecessor[1])
            targets.append(token)
    found = _log_probs(torch.tensor(laid.ids), tuple(laid.segments), sources, targets, picked)
    results, start = [], 0
    for _, trie in rows:
        steps = found[start : start + len(trie.predictions)]
        results.append(np.array([steps[list(path)].sum() for path in trie.answers]))
        start += len(trie.predictions)
    return results


def _log_probs(
    ids_N: Tensor, segments: tuple[Segment, ...], sources: list[int], targets: list[int], picked: Picked
) -> NDArray[np.float64]:
    keep, inverse = np.unique(np.array(sources), return_inverse=True)
    found_T = picked(ids_N, segments, torch.from_numpy(keep), torch.from_numpy(inverse), torch.tensor(targets))
    return found_T.double().numpy()
