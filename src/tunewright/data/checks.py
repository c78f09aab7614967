"""What a family made of the training rows: is the stop token trained, what is trained, how long are they."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from typing import Any

import numpy as np

from tunewright.core.blocks import Block, Mask, Span
from tunewright.core.errors import first_of
from tunewright.core.records import Example
from tunewright.data.encoder import Encoded, Overlong, Unencodable
from tunewright.data.splits import NAMES

STOP_SHARE = 0.99
"""Least share of rows whose stop token must be trained."""
_LISTED = 20
_NONE: Mapping[str, Sequence[str]] = {}
_WHY = {
    "split": ", and data.on_overlong: split cuts plain text alone, while these have a context and an answer",
    "truncate-context": ", and data.on_overlong: truncate-context cuts a context, which these have not",
}
"""Why rows are still too long under such a plan."""


@dataclass(frozen=True, slots=True)
class EncodingFacts:
    """JSON-able facts for `data.json`, and what must stop the run."""

    facts: dict[str, Any]
    problems: list[str]
    blocks: list[Block]
    """One rendered example with its mask."""


@dataclass(slots=True)
class _Places:
    """How many rows something is true of, and where the first of them stand."""

    count: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, source: str) -> None:
        self.count += 1
        if len(self.first) < _LISTED:
            self.first.append(source)

    def __str__(self) -> str:
        more = f" and {self.count - len(self.first)} more" if self.count > len(self.first) else ""
        return ", ".join(self.first) + more


@dataclass(slots=True)
class _Tally:
    """What is counted; of the rows themselves it keeps a length and, of faulty ones, the place."""

    rows: int = 0
    lengths: array[int] = field(default_factory=lambda: array("i"))
    first: Encoded | None = None
    tokens: int = 0
    trained: int = 0
    double_bos: int = 0
    ending: int = 0
    """Rows that have a stop token to train; where the family has none it does not note it."""
    wanting: int = 0
    """Rows in which the user's weights leave anything to train."""
    no_stop: list[str] = field(default_factory=list)
    cut: list[str] = field(default_factory=list)
    empty: _Places = field(default_factory=_Places)
    asked: _Places = field(default_factory=_Places)
    all_trained: int = 0

    def add(self, pieces: Sequence[Encoded]) -> None:
        """Counts one row, over all its pieces (on_overlong: split)."""
        example, notes = pieces[0].example, [piece.notes for piece in pieces]
        length = sum(piece.length for piece in pieces)
        trained = sum(int((piece.weights > 0).sum()) for piece in pieces)
        self.rows += 1
        self.lengths.extend(piece.length for piece in pieces)
        self.first = self.first or pieces[0]
        self.tokens += length
        self.trained += trained
        self.double_bos += any(note.get("double_bos", False) for note in notes)
        stops = [bool(note["stop_trained"]) for note in notes if "stop_trained" in note]
        if stops and any(answer.weight > 0 for answer in example.answers):
            self.ending += 1
            if not any(stops):
                self.no_stop.append(example.source)
        if cut := sum(int(note.get("cut", 0)) for note in notes):
            self.cut.append(f"{example.source} ({cut} tokens of context)")
        if _to_be_trained(example):
            self.wanting += 1
            if not trained:
                self.empty.add(example.source)
        if example.context:  # without context all of it is the answer, as it should be
            self.asked.add(example.source)
            self.all_trained += trained >= length - 1  # a text of n tokens has n - 1 targets


def measure_encoding(
    encoded: Iterable[Encoded],
    *,
    max_length: int,
    on_overlong: str = "error",
    loss_on: str = "answers",
    refused: Sequence[tuple[Example, Unencodable]] = (),
    dropped: Mapping[str, Sequence[str]] = _NONE,
    render: Callable[[Encoded], list[Span]] | None = None,
) -> EncodingFacts:
    """Looks once over the encoded training rows; holds counts, not arrays.

    Args:
        encoded: All pieces of all training rows, those of one row in a run.
        max_length: Tokens allowed in a piece.
        on_overlong: What the plan does with longer rows.
        loss_on: What is trained by plan: answers, last, all.
        refused: Rows that the encoder raised on, with what it said.
        dropped: Where the rows stand that were left out as too long, by split.
        render: The encoder's `render`, for the one example that is shown.
    """
    tally = _Tally()
    for _, pieces in groupby(encoded, key=lambda piece: _key(piece.example)):
        tally.add(list(pieces))
    overlong = [(example, error) for example, error in refused if isinstance(error, Overlong)]
    left_out = {name: list(dropped.get(name, ())) for name in NAMES}
    facts: dict[str, Any] = {
        "rows": tally.rows,
        "tokens": tally.tokens,
        "stop_trained": 1 - len(tally.no_stop) / tally.ending if tally.ending else None,
        "stop_not_trained": tally.no_stop,
        "trained_share": tally.trained / max(1, tally.tokens),
        "trained_tokens": tally.trained,
        "double_bos": tally.double_bos,
        "max_length": max_length,
        "over_max_length": len(overlong) + sum(map(len, left_out.values())) + len(tally.cut),
        "over_max_length_rows": [f"{example.source} ({error.length} tokens)" for example, error in overlong],
        "overlong_dropped": {name: len(places) for name, places in left_out.items()},
        "dropped_rows": left_out["train"],
        "dropped_valid_rows": left_out["valid"],
        "dropped_test_rows": left_out["test"],
        "cut_rows": tally.cut,
        **_lengths(tally.lengths),
    }
    return EncodingFacts(facts, _problems(tally, loss_on, on_overlong, refused), _blocks(tally.first, render))


def _key(example: Example) -> str:
    return example.id or example.source


def _to_be_trained(example: Example) -> bool:
    """Whether the user's weights leave anything to train in a row."""
    return any(turn.weight > 0 for turn in example.context) or any(answer.weight > 0 for answer in example.answers)


def _problems(
    tally: _Tally, loss_on: str, on_overlong: str, refused: Sequence[tuple[Example, Unencodable]]
) -> list[str]:
    problems = first_of([f"{example.source}: {error.told()}." for example, error in refused])
    if overlong := [example for example, error in refused if isinstance(error, Overlong)]:
        problems.append(
            f"Rows are longer than allowed{_WHY.get(on_overlong, '')}. Raise train.max_length, or set data.on_overlong "
            f"to {_helps(on_overlong, overlong)}."
        )
    if not tally.rows:
        return [*problems, "No training row is left to encode. Give other rows, or raise train.max_length."]
    if not tally.wanting:
        problems.append("Every row has weight 0: nothing would be trained. Give some answers a weight above 0.")
    if len(tally.no_stop) > (1 - STOP_SHARE) * tally.ending:
        places = _Places(len(tally.no_stop), tally.no_stop[:_LISTED])
        problems.append(
            f"The stop token is not trained in {len(tally.no_stop)} of {tally.ending} rows ({places}): the "
            "model would not learn to end its answers. Use a chat template that ends answers with the stop token, or a "
            "longer max_length."
        )
    if tally.empty.count:
        problems.append(
            f"No token is trained in {tally.empty.count} of {tally.wanting} rows ({tally.empty}): their loss mask is "
            "empty. Raise train.max_length if answers were cut, or give the chat template its generation marks."
        )
    if loss_on != "all" and tally.asked.count and tally.all_trained == tally.asked.count:
        problems.append(
            f"All tokens of all {tally.asked.count} rows are trained, prompts too ({tally.asked}). Set "
            "objective.loss_on: all if that is meant; else the prompt is not told from the answer: check the template."
        )
    return problems


def _helps(on_overlong: str, overlong: Sequence[Example]) -> str:
    """The choices that would let such rows through."""
    choices = ["drop"]
    choices += ["truncate-context"] if any(example.context and not example.running for example in overlong) else []
    choices += ["split"] if not all(example.context for example in overlong) else []
    return " or ".join(choice for choice in choices if choice != on_overlong)


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
