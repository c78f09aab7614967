"""What a family makes of an example, torch-free: inputs, explicit targets, and how it reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tunewright.core.blocks import Span
from tunewright.core.records import Example
from tunewright.data.formats import HIDDEN

_BATCH = 256
"""Examples that are encoded together: enough to keep a tokenizer's threads busy, few enough to hold."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """An example as arrays, before batching."""

    example: Example
    inputs: Mapping[str, NDArray[np.generic]]
    """The family's own arrays; text has `input_ids` of shape [length]."""
    length: int
    """Positions this takes in a packed batch."""
    positions: NDArray[np.int64]
    """[targets] where, within the example, each target is predicted from."""
    targets: NDArray[np.int64]
    """[targets] what is to be predicted there."""
    weights: NDArray[np.float32]
    """[targets] how much each counts."""
    notes: Mapping[str, bool | int] = field(default_factory=dict)
    """What the checks ask: `stop_trained` (absent where there is no stop token), `double_bos`, `answer_bytes`, `cut`
    (context tokens removed)."""


class Encoder(Protocol):
    """Turns examples into arrays; one function for training, evaluation and prediction.

    An encoder that is faster on many examples also has `encode_many`: for each example what `encode` returns, or
    the `Unencodable` that it raises.
    """

    def encode(self, example: Example) -> Sequence[Encoded]:
        """Encodes one example: usually one piece, none if dropped as too long, several if split.

        Raises:
            Overlong: The example is longer than allowed and the plan says `on_overlong: error`.
            Unencodable: The example can't be rendered (a role the template refuses); says why.
        """

    def render(self, encoded: Encoded) -> list[Span]:
        """The encoded example as readable text, with what is trained marked."""


class Unencodable(ValueError):
    """This example cannot be encoded; the message says what was found and what is allowed."""

    def told(self) -> str:
        """The message, and of private rows only that there is one: it may quote the row, or tell its length."""
        hidden = "cannot be encoded; why is not shown, as rows are private: `tunewright check` without privacy says it"
        return hidden if HIDDEN.get() else str(self)


class Overlong(Unencodable):
    """The example is longer than `max_length`."""

    def __init__(self, length: int, allowed: int) -> None:
        self.length = length
        self.allowed = allowed
        super().__init__(f"{length} tokens, allowed are {allowed} (train.max_length)")

    def told(self) -> str:
        """The length, unless rows are private."""
        return f"longer than {self.allowed} tokens (train.max_length)" if HIDDEN.get() else str(self)


def encode_all(encoder: Encoder, examples: Sequence[Example]) -> Iterator[Sequence[Encoded] | Unencodable]:
    """What becomes of each example, in order: its pieces, or why it has none. Holds one batch of examples."""
    many = getattr(encoder, "encode_many", None)
    for start in range(0, len(examples), _BATCH):
        batch = examples[start : start + _BATCH]
        yield from many(batch) if many else (_encoded(encoder, example) for example in batch)


def _encoded(encoder: Encoder, example: Example) -> Sequence[Encoded] | Unencodable:
    try:
        return encoder.encode(example)
    except Unencodable as error:
        return error
