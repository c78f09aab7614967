"""What a family made of the training rows: is the stop token trained, what is trained, how long are they."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from tunewright.core.blocks import Block, Mask, Span
from tunewright.core.records import Example
from tunewright.data.encoder import Encoded, Overlong, Unencodable

STOP_SHARE = 0.99
"""Least share of rows whose stop token must be trained."""
_LISTED = 20


@dataclass(frozen=True, slots=True)
class EncodingFacts:
    """JSON-able facts for `data.json`, and what must stop the run."""

    facts: dict[str, Any]
    problems: list[str]
    blocks: list[Block]
    """One rendered example with its mask."""


@dataclass(slots=True)
class _Row:
    """One training row over all its pieces."""

    example: Example
    length: int = 0
    trained: int = 0
    stops: bool | None = None
    """None where the family has no stop token, and so does not note it."""
    double_bos: bool = False
    cut: int = 0


@dataclass(slots=True)
class _Tally:
    rows: dict[str, _Row] = field(default_factory=dict)
    lengths: list[int] = field(default_factory=list)
    first: Encoded | None = None

    def add(self, encoded: Encoded) -> None:
        """Counts one piece; pieces of one row (on_overlong: split) are counted as one row."""
        example, notes = encoded.example, encoded.notes
        row = self.rows.setdefault(_key(example), _Row(example))
        row.length += encoded.length
        row.trained += int((encoded.weights > 0).sum())
        if "stop_trained" in notes:
            row.stops = bool(row.stops or notes["stop_trained"])
        row.double_bos |= bool(notes.get("double_bos", False))
        row.cut += int(notes.get("cut", 0))
        self.lengths.append(encoded.length)
        self.first = self.first or encoded


def measure_encoding(
    encoded: Iterable[Encoded],
    *,
    max_length: int,
    loss_on: str = "answers",
    refused: Sequence[tuple[Example, Unencodable]] = (),
    examples: Sequence[Example] = (),
    render: Callable[[Encoded], list[Span]] | None = None,
) -> EncodingFacts:
    """Looks once over the encoded training rows; holds counts, not arrays.

    Args:
        encoded: All pieces of all training rows.
        max_length: Tokens allowed in a piece.
        loss_on: What is trained by plan: answers, last, all.
        refused: Rows that the encoder raised on, with what it said.
        examples: All training rows; those without a piece were dropped as too long, and are listed.
        render: The encoder's `render`, for the one example that is shown.
    """
    tally = _Tally()
    for piece in encoded:
        tally.add(piece)
    rows = list(tally.rows.values())
    ending = [row for row in rows if row.stops is not None and any(a.weight > 0 for a in row.example.answers)]
    no_stop = [row for row in ending if not row.stops]
    length, trained = sum(row.length for row in rows), sum(row.trained for row in rows)
    overlong = [(example, error) for example, error in refused if isinstance(error, Overlong)]
    cut = [row for row in rows if row.cut]
    failed = {example.source for example, _ in refused}
    dropped = [row.source for row in examples if _key(row) not in tally.rows and row.source not in failed]
    facts: dict[str, Any] = {
        "rows": len(rows),
        "tokens": length,
        "stop_trained": 1 - len(no_stop) / len(ending) if ending else None,
        "stop_not_trained": [row.example.source for row in no_stop],
        "trained_share": trained / max(1, length),
        "trained_tokens": trained,
        "double_bos": sum(row.double_bos for row in rows),
        "max_length": max_length,
        "over_max_length": len(overlong) + len(dropped) + len(cut),
        "over_max_length_rows": [f"{example.source} ({error.length} tokens)" for example, error in overlong],
        "dropped_rows": dropped,
        "cut_rows": [f"{row.example.source} ({row.cut} tokens of context)" for row in cut],
        **_lengths(tally.lengths),
    }
    return EncodingFacts(facts, _problems(rows, ending, no_stop, loss_on, refused), _blocks(tally.first, render))


def _key(example: Example) -> str:
    return example.id or example.source


def _to_be_trained(example: Example) -> bool:
    """Whether the user's weights leave anything to train in a row."""
    return any(turn.weight > 0 for turn in example.context) or any(answer.weight > 0 for answer in example.answers)


def _problems(
    rows: Sequence[_Row],
    ending: Sequence[_Row],
    no_stop: Sequence[_Row],
    loss_on: str,
    refused: Sequence[tuple[Example, Unencodable]],
) -> list[str]:
    problems = [f"{example.source}: {error}." for example, error in refused]
    if any(isinstance(error, Overlong) for _, error in refused):
        problems.append(
            "Rows are longer than allowed. Raise train.max_length, or set data.on_overlong to drop, truncate-context "
            "or split."
        )
    if not rows:
        return [*problems, "No training row is left to encode. Give other rows, or raise train.max_length."]
    wanting = [row for row in rows if _to_be_trained(row.example)]
    if not wanting:
        problems.append("Every row has weight 0: nothing would be trained. Give some answers a weight above 0.")
    if len(no_stop) > (1 - STOP_SHARE) * len(ending):
        problems.append(
            f"The stop token is not trained in {len(no_stop)} of {len(ending)} rows ({_places(no_stop)}): the "
            "model would not learn to end its answers. Use a chat template that ends answers with the stop token, or a "
            "longer max_length."
        )
    empty = [row for row in wanting if not row.trained]
    if empty:
        problems.append(
            f"No token is trained in {len(empty)} of {len(wanting)} rows ({_places(empty)}): their loss mask is empty. "
            "Raise train.max_length if answers were cut, or give the chat template its generation marks."
        )
    # A text of n tokens has n - 1 targets; without context all of it is the answer, as it should be.
    asked = [row for row in rows if row.example.context]
    if loss_on != "all" and asked and all(row.trained >= row.length - 1 for row in asked):
        problems.append(
            f"All tokens of all {len(asked)} rows are trained, prompts too ({_places(asked)}). Set "
            "objective.loss_on: all if that is meant; else the prompt is not told from the answer: check the template."
        )
    return problems


def _places(rows: Sequence[_Row]) -> str:
    more = f" and {len(rows) - _LISTED} more" if len(rows) > _LISTED else ""
    return ", ".join(row.example.source for row in rows[:_LISTED]) + more


def _lengths(lengths: Sequence[int]) -> dict[str, Any]:
    """Quantiles, and how many pieces are how long, in bins that double."""
    if not lengths:
        return {"shortest": 0, "median": 0, "longest": 0, "length_histogram": {}}
    low, middle, top = (int(np.quantile(lengths, q, method="higher")) for q in (0, 0.5, 1))
    edges = [1, *(2**n for n in range(5, max(6, top.bit_length() + 1)))]
    counts, _ = np.histogram(lengths, edges)
    histogram = {f"{a} to {b - 1}": int(n) for (a, b), n in zip(pairwise(edges), counts, strict=True)}
    return {"shortest": low, "median": middle, "longest": top, "length_histogram": histogram}


def _blocks(encoded: Encoded | None, render: Callable[[Encoded], list[Span]] | None) -> list[Block]:
    if encoded is None or render is None:
        return []
    title, note = "One row as the model sees it", "Marked tokens are trained; the others are only read."
    return [Mask(title=title, note=note, section="data", spans=render(encoded))]
