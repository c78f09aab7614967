"""A radix trie over token sequences: what two answers begin with alike is stored, and computed, once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Edge:
    """A run of tokens without a branch."""

    tokens: tuple[int, ...]
    parent: int | None
    """Index of the edge it continues; None = continues the context."""


@dataclass(frozen=True, slots=True)
class Trie:
    """Edges, each after its parent, and where every answer's tokens lie.

    A token's predecessor is `(edge, offset)`, or None for the context's last token.
    """

    edges: tuple[Edge, ...]
    """Only tokens that something is predicted from: the last token of an answer is not computed unless shared."""
    predictions: tuple[tuple[tuple[int, int] | None, int], ...]
    """Every distinct (predecessor, token) to score."""
    answers: tuple[tuple[int, ...], ...]
    """[answers] indices into `predictions` whose sum is the answer's log-probability."""

    @property
    def size(self) -> int:
        """Tokens to compute."""
        return sum(len(edge.tokens) for edge in self.edges)


def build(answers: Sequence[Sequence[int]]) -> Trie:
    """The trie of token sequences.

    Raises:
        ValueError: An answer has no token.
    """
    if any(len(answer) == 0 for answer in answers):
        raise ValueError("an answer without tokens has no probability")
    edges: list[Edge] = []
    where: dict[tuple[int, ...], tuple[int, int]] = {}
    _grow(sorted({tuple(answer[:-1]) for answer in answers if len(answer) > 1}), 0, None, edges, where)
    predictions: dict[tuple[tuple[int, int] | None, int], int] = {}
    paths = []
    for answer in answers:
        steps = []
        for depth, token in enumerate(answer):
            predecessor = where[tuple(answer[:depth])] if depth else None
            steps.append(predictions.setdefault((predecessor, token), len(predictions)))
        paths.append(tuple(steps))
    return Trie(tuple(edges), tuple(predictions), tuple(paths))


def _grow(
    words: list[tuple[int, ...]],
    depth: int,
    parent: int | None,
    edges: list[Edge],
    where: dict[tuple[int, ...], tuple[int, int]],
) -> None:
    """Adds the edges of sorted words that share their first `depth` tokens."""
    start = 0
    words = [word for word in words if len(word) > depth]
    while start < len(words):
        stop = start
        while stop < len(words) and words[stop][depth] == words[start][depth]:
            stop += 1
        group = words[start:stop]
        end = depth + 1
        while all(len(word) > end and word[end] == group[0][end] for word in group):
            end += 1
        index = len(edges)
        edges.append(Edge(group[0][depth:end], parent))
        for position in range(depth, end):
            where[group[0][: position + 1]] = (index, position - depth)
        _grow(group, end, index, edges, where)
        start = stop
