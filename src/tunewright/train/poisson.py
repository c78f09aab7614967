"""Which units come into which step: each by its own coin, drawn from a secret."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tunewright.core.records import unit_of
from tunewright.core.seeds import secret_stream
from tunewright.data.encoded_rows import lengths
from tunewright.data.encoder import Encoded
from tunewright.train.order import MICRO_TOKENS, tokens_of


@dataclass(frozen=True, eq=False)
class Poisson:
    """Every step draws each unit with chance q, whatever was drawn before; a step may be empty.

    A unit comes with all of its rows, up to `most` of them (drawn anew each time it comes), so that what it adds can be
    clipped as one.
    """

    unit_R: NDArray[np.int64]
    """[rows] number of the unit."""
    q: float
    most: int
    """Rows of a unit in one step."""
    secret: str = ""
    """Keys the coins; empty before training, when only costs are forecast."""
    length_R: NDArray[np.int32] | None = None
    """[rows] tokens of each; None = micro-batches are bounded by their rows alone."""
    padded: bool = False
    """Whether each row of a micro-batch takes as much as its longest one."""
    micro_tokens: int = MICRO_TOKENS
    """Most tokens of a micro-batch of several units."""

    @cached_property
    def rows_U(self) -> list[NDArray[np.int64]]:
        """[units] numbers of its rows."""
        order = np.argsort(self.unit_R, kind="stable")
        return np.split(order, np.cumsum(np.bincount(self.unit_R))[:-1])

    @property
    def units(self) -> int:
        """How many there are."""
        return len(self.rows_U)

    @property
    def expected_units(self) -> float:
        """Units that a step has on average."""
        return self.q * self.units

    @property
    def steps_an_epoch(self) -> int:
        """Steps in which each unit comes once on average."""
        return math.ceil(1 / self.q)

    def keyed(self, secret: str) -> Poisson:
        """The same sampler with its secret."""
        return replace(self, secret=secret)

    def step(self, k: int) -> list[int]:
        """Row numbers of step k (from 0)."""
        return [row for unit in self._drawn(k) for row in unit]

    def micro_batches(self, k: int, size: int) -> Iterator[list[int]]:
        """The rows of step k, at most `size` and `micro_tokens` tokens at a time; none when it is empty.

        A unit's rows are never torn apart, so one that has more than either comes alone.
        """
        batch: list[int] = []
        for unit in self._drawn(k):
            tokens = tokens_of(self.length_R, batch + unit, self.padded)
            if batch and (len(batch) + len(unit) > size or tokens > self.micro_tokens):
                yield batch
                batch = []
            batch = batch + unit
        if batch:
            yield batch

    def _drawn(self, k: int) -> list[list[int]]:
        draw = secret_stream(self.secret, "sample", k)
        came = np.flatnonzero(draw.random(self.units) < self.q)
        return [self._few(self.rows_U[unit], draw) for unit in came]

    def _few(self, rows: NDArray[np.int64], draw: np.random.Generator) -> list[int]:
        if len(rows) <= self.most:
            return [int(row) for row in rows]
        return [int(row) for row in np.sort(draw.permutation(rows)[: self.most])]


def poisson(rows: Sequence[Encoded], rows_a_step: int, most: int) -> Poisson:
    """The sampler whose steps have about so many rows.

    Args:
        rows: Encoded rows; their units are found from their examples.
        rows_a_step: Rows that a step is to have on average.
        most: Rows of a unit in one step.
    """
    number: dict[str, int] = {}
    unit_R = np.fromiter((number.setdefault(unit_of(row.example), len(number)) for row in rows), np.int64, len(rows))
    a_unit = np.minimum(np.bincount(unit_R), most).mean()
    q = min(1.0, float(rows_a_step / a_unit / len(number)))
    return Poisson(unit_R, q, most, length_R=lengths(rows))
