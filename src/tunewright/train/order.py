"""Which rows make up which step: a pure function of the number of rows, the seed and the step."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from tunewright.core.seeds import stream


@dataclass(frozen=True, slots=True)
class Order:
    """A new permutation every epoch; a step takes the next rows of it, the last of an epoch may be short."""

    rows: int
    rows_a_step: int
    seed: int

    @property
    def steps_an_epoch(self) -> int:
        """Optimiser steps that see every row once."""
        return math.ceil(self.rows / self.rows_a_step)

    def step(self, k: int) -> list[int]:
        """Row numbers of step k (from 0)."""
        epoch, place = divmod(k, self.steps_an_epoch)
        rows = _permutation(self.rows, self.seed, epoch)[place * self.rows_a_step : (place + 1) * self.rows_a_step]
        found: list[int] = rows.tolist()
        return found

    def micro_batches(self, k: int, size: int) -> Iterator[list[int]]:
        """The rows of step k in micro-batches of `size` rows."""
        rows = self.step(k)
        for start in range(0, len(rows), size):
            yield rows[start : start + size]


@lru_cache(maxsize=2)
def _permutation(rows: int, seed: int, epoch: int) -> NDArray[np.int32]:
    return stream(seed, "order", epoch).permutation(rows).astype(np.int32)
