"""Exact log-probabilities of closed answer sets, no token computed twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import takewhile

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
    cuts: list[_Cut] = []
    done: list[NDArray[np.float64]] = []
    known: dict[int, tuple[Sequence[Ids], _Cut]] = {}  # with the answers, lest another set gets their identity
    for context, choices in zip(contexts, answers, strict=True):
        if id(choices) not in known:
            known[id(choices)] = choices, _Cut.of(choices)
        cuts.append(known[id(choices)][1])
        for piece in cuts[-1].tries:
            own = len(context) - _common(waiting[-1][0], context) if waiting else len(context)
            if waiting and size + own + piece.size > TOKENS_A_BATCH:
                done.extend(_score_batch(waiting, picked))
                waiting, size, own = [], 0, len(context)
                yield from _whole(done, cuts)
            waiting.append((context, piece))
            size += own + piece.size
    if waiting:
        done.extend(_score_batch(waiting, picked))
    yield from _whole(done, cuts)


@dataclass(frozen=True, slots=True)
class _Cut:
    """An answer set as tries, each of which fits a batch."""

    tries: tuple[Trie, ...]
    places: NDArray[np.int64]
    """[answers] where the answers of one trie after the other stand in the set."""

    @classmethod
    def of(cls, choices: Sequence[Ids]) -> _Cut:
        """One trie, or several over neighbours in the order of their tokens, so that what they share stays in one."""
        whole = build(choices)
        if whole.size <= TOKENS_A_BATCH:
            return cls((whole,), np.arange(len(choices)))
        parts: list[list[int]] = [[]]
        size, before = 0, choices[0][:0]
        for place in sorted(range(len(choices)), key=lambda place: tuple(choices[place])):
            computed = choices[place][:-1]
            more = len(computed) - _common(before, computed)
            if parts[-1] and size + more > TOKENS_A_BATCH // 2:  # half: contexts come in front
                parts.append([])
                size, more = 0, len(computed)
            parts[-1].append(place)
            size, before = size + more, computed
        return cls(tuple(build([choices[place] for place in part]) for part in parts), np.concatenate(parts))


def _whole(done: list[NDArray[np.float64]], cuts: list[_Cut]) -> Iterator[NDArray[np.float64]]:
    """Takes off the contexts all of whose tries are scored; answers in the order of their set."""
    while cuts and len(done) >= len(cuts[0].tries):
        cut = cuts.pop(0)
        found = np.empty(len(cut.places))
        found[cut.places] = np.concatenate(done[: len(cut.tries)])
        yield found
        del done[: len(cut.tries)]


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
