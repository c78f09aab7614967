"""Which rows make up which step: a pure function of the rows' prompts, the seed and the step."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import islice

import numpy as np

from tunewright.core.seeds import stream
from tunewright.data.encoder import Encoded
from tunewright.data.keys import Numbers, firsts, text_keys

MICRO_TOKENS = 1024
"""Most tokens of a micro-batch of several prompts: memory follows it, speed hardly (measured: benchmarks/notes.md)."""


@dataclass(frozen=True, eq=False)
class Order:
    """A new permutation every epoch, in which rows with an equal prompt stay together.

    Without equal prompts a step takes the next rows of the permutation, and the last of an epoch may be short. With
    them the prompts are shuffled, never torn apart unless one has more rows than a step; a step into which no further
    prompt fits is short.
    """

    rows: int
    rows_a_step: int
    seed: int
    prompt_R: Numbers | None = None
    """[rows] equal numbers for equal prompts; None = all differ."""
    woven: int = 0
    """Rows beyond those, numbered on from them, that are added to the steps of every epoch as evenly as can be."""
    length_R: Numbers | None = None
    """[rows and woven] tokens of each row; None = micro-batches are bounded by their rows alone."""

    @property
    def steps_an_epoch(self) -> int:
        """Optimiser steps that see every row once."""
        return math.ceil(self.rows / self.rows_a_step) if self.prompt_R is None else len(self._fillings)

    def step(self, k: int) -> list[int]:
        """Row numbers of step k (from 0)."""
        return [row for group in self._groups(k) for row in group]

    def micro_batches(self, k: int, size: int) -> Iterator[list[int]]:
        """The rows of step k in micro-batches of at most `size` rows; a prompt is cut only if it has more.

        Different prompts meet in one only up to `MICRO_TOKENS` tokens: the sums of a step do not depend on the cut.
        """
        batch: list[int] = []
        for group in self._groups(k):
            for start in range(0, len(group), size):
                part = group[start : start + size]
                if batch and (len(batch) + len(part) > size or self._tokens(batch + part) > MICRO_TOKENS):
                    yield batch
                    batch = []
                batch = batch + part
        yield batch

    def _tokens(self, rows: list[int]) -> int:
        return 0 if self.length_R is None else int(self.length_R[rows].sum())

    def _groups(self, k: int) -> list[list[int]]:
        epoch, place = divmod(k, self.steps_an_epoch)
        if self.prompt_R is not None:
            return _grouped(self, epoch)[place] + self._added(epoch, place)
        rows = _permutation(self.rows, self.seed, epoch)[place * self.rows_a_step : (place + 1) * self.rows_a_step]
        return [[row] for row in rows.tolist()] + self._added(epoch, place)

    def _added(self, epoch: int, place: int) -> list[list[int]]:
        """The woven rows of a step; the others stay as they would be without them."""
        if not self.woven:
            return []
        start, stop = (self.woven * edge // self.steps_an_epoch for edge in (place, place + 1))
        shuffled = _permutation(self.woven, self.seed, epoch, "woven")[start:stop]
        return [[self.rows + row] for row in shuffled.tolist()]

    @cached_property
    def _fillings(self) -> list[list[int]]:
        numbers = () if self.prompt_R is None else self.prompt_R
        return _fillings(np.unique(numbers, return_counts=True)[1].tolist(), self.rows_a_step)


def equal_prompts(rows: Sequence[Encoded], count: int | None = None) -> Numbers | None:
    """[rows] the number of the first row with the same prompt; None when all differ. No prompt equals none.

    Args:
        rows: The rows.
        count: Of how many of them, from the first; None = all.
    """
    first = firsts(text_keys(row.example.prompt_text for row in islice(rows, count)))
    return None if (first == np.arange(len(first))).all() else first


@lru_cache(maxsize=4)
def _permutation(rows: int, seed: int, epoch: int, purpose: str = "order") -> Numbers:
    return stream(seed, purpose, epoch).permutation(rows).astype(np.int32)


def _fillings(prompts: Sequence[int], most: int) -> list[list[int]]:
    """[steps] the sizes that meet in a step, the same in every epoch, so that all epochs are equally long.

    The largest come first, each into the step with the least room that it fits (best fit decreasing).

    Args:
        prompts: How many rows each prompt has.
        most: Rows a step holds.
    """
    sizes = [part for size in prompts for part in (*[most] * (size // most), size % most) if part]
    steps: list[list[int]] = []
    with_room: list[list[list[int]]] = [[] for _ in range(most + 1)]
    for size in sorted(sizes, reverse=True):
        room = next((room for room in range(size, most) if with_room[room]), most)
        step = with_room[room].pop() if with_room[room] else []
        if not step:
            steps.append(step)
        step.append(size)
        with_room[room - size].append(step)
    return steps


@lru_cache(maxsize=2)
def _grouped(order: Order, epoch: int) -> list[list[list[int]]]:
    """[steps][prompts][rows] of an epoch. Drawn anew: the rows' order, which prompts meet, the order of the steps."""
    members: dict[int, list[int]] = defaultdict(list)
    prompts = () if order.prompt_R is None else order.prompt_R.tolist()
    for row in _permutation(order.rows, order.seed, epoch).tolist():
        members[prompts[row]].append(row)
    most, draw = order.rows_a_step, stream(order.seed, "steps", epoch)
    parts = [rows[start : start + most] for rows in members.values() for start in range(0, len(rows), most)]
    waiting: dict[int, list[list[int]]] = defaultdict(list)
    for place in draw.permutation(len(parts)):
        waiting[len(parts[place])].append(parts[place])
    steps = [[waiting[size].pop() for size in sizes] for sizes in order._fillings]
    return [steps[place] for place in draw.permutation(len(steps))]
