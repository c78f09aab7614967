"""Which rows make up which step: a pure function of the rows' prompts, the seed and the step."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tunewright.core.seeds import stream
from tunewright.data.encoder import Encoded
from tunewright.data.keys import Numbers, Same, firsts, text_keys
from tunewright.data.sequences import evenly

MICRO_TOKENS = 1024
"""Most tokens of a micro-batch of several prompts, unless said otherwise (measured: benchmarks/notes.md)."""
_LOOKED_AT = 1024
"""Rows on which it is seen how all begin."""


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
    own_R: Numbers | None = None
    """[rows] about how many of them are not the prompt's; None = rows of one prompt are bounded by their number."""
    common: int = 0
    """Tokens that all rows begin with and that a micro-batch computes once."""
    padded: bool = False
    """Whether each row of a micro-batch takes as much as its longest one."""
    micro_tokens: int = MICRO_TOKENS
    """Most tokens of a micro-batch of several prompts."""

    @property
    def steps_an_epoch(self) -> int:
        """Optimiser steps that see every row once."""
        return math.ceil(self.rows / self.rows_a_step) if self.prompt_R is None else self._fillings.steps

    def step(self, k: int) -> list[int]:
        """Row numbers of step k (from 0)."""
        return [row for group in self._groups(k) for row in group]

    def micro_batches(self, k: int, size: int) -> Iterator[list[int]]:
        """The rows of step k in micro-batches of at most `size` rows and, if they have several, `micro_tokens`.

        What is computed once is counted once: what all rows begin with is not counted, and a prompt is cut only if its
        rows have more beyond it. The sums of a step do not depend on the cut. The longest come first, each into the
        first that has room: every micro-batch reads all weights, so few are cheap.
        """
        parts = [part for group in self._groups(k) for part in self._cut(group, size)]
        weighed = [(max(0, self._alike(part) - self._common_of(part)), part) for part in parts]
        filled: list[list[int]] = []
        held: list[int] = []
        for tokens, part in sorted(weighed, key=lambda one: one[0], reverse=True):
            fits = (n for n, one in enumerate(filled) if self._fits(one, held[n], part, tokens, size))
            home = next(fits, len(filled))
            if home == len(filled):
                filled.append([])
                held.append(0)
            filled[home] += part
            held[home] += tokens
        yield from filled

    def _fits(self, there: list[int], held: int, part: list[int], tokens: int, size: int) -> bool:
        """Whether a part has room beside what a micro-batch holds, of which the longest came first."""
        together = tokens_of(self.length_R, there + part, padded=True) if self.padded else held + tokens
        return len(there) + len(part) <= size and together <= self.micro_tokens

    def _cut(self, group: list[int], size: int) -> Iterator[list[int]]:
        """Rows of one prompt, as many at a time as may be."""
        part: list[int] = []
        for row in group:
            together = [*part, row]
            tokens = tokens_of(self.length_R, together, True) if self.padded else sum(map(self._own, together))
            if part and (len(part) == size or tokens > self.micro_tokens):
                yield part
                part = []
            part = [*part, row]
        yield part

    def _alike(self, rows: list[int]) -> int:
        """Tokens of rows that share their prompt."""
        return tokens_of(self.length_R, rows[:1]) + sum(map(self._own, rows[1:]))

    def _common_of(self, part: list[int]) -> int:
        """What the rows of a part begin with as all do; rows that mitigations added may begin otherwise."""
        return self.common if part[0] < self.rows else 0

    def _own(self, row: int) -> int:
        return 0 if self.own_R is None or row >= len(self.own_R) else int(self.own_R[row])

    def _groups(self, k: int) -> list[list[int]]:
        epoch, place = divmod(k, self.steps_an_epoch)
        if self.prompt_R is not None:
            return _grouped(self, epoch).step(place) + self._added(epoch, place)
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
    def _fillings(self) -> _Fillings:
        numbers = () if self.prompt_R is None else self.prompt_R
        return _Fillings.of(np.unique(numbers, return_counts=True)[1], self.rows_a_step)


def tokens_of(length_R: Numbers | None, rows: list[int], padded: bool = False) -> int:
    """Of some rows together, each as long as the longest if they are padded; 0 where lengths are not known."""
    if length_R is None or not rows:
        return 0
    return int(len(rows) * length_R[rows].max() if padded else length_R[rows].sum())


class Prompts(NamedTuple):
    """Which rows ask the same."""

    number_R: Numbers
    """[rows] the number of the first row with the same prompt."""
    share_R: NDArray[np.float32]
    """[rows] the share of its characters that is not the prompt's."""


def equal_prompts(rows: Iterable[Encoded]) -> Prompts | None:
    """Which rows have equal prompts; None when all differ. No prompt equals none."""
    shares = array("f")

    def prompt(row: Encoded) -> str:
        asked, said = row.example.prompt_text, sum(len(answer.text) for answer in row.example.answers)
        shares.append(said / max(1, len(asked) + said))
        return asked

    first = firsts(text_keys(map(prompt, rows)))
    return None if (first == np.arange(len(first))).all() else Prompts(first, np.frombuffer(shares, np.float32))


def common_beginning(rows: Sequence[Encoded], count: int, worth: int) -> int:
    """How many tokens the first `count` rows begin with, seen on some spread evenly; 0 if fewer than `worth`."""
    first = rows[0].inputs["input_ids"]
    most = len(first) - 1  # each row keeps at least one of its own
    for number in evenly(count, _LOOKED_AT):
        ids = rows[number].inputs["input_ids"]
        most = min(most, len(ids) - 1)
        differs = np.flatnonzero(ids[:most] != first[:most])
        most = int(differs[0]) if len(differs) else most
        if most < worth:
            return 0
    return most


@lru_cache(maxsize=4)
def _permutation(rows: int, seed: int, epoch: int, purpose: str = "order") -> Numbers:
    return stream(seed, purpose, epoch).permutation(rows).astype(np.int32)


@dataclass(frozen=True, slots=True)
class _Fillings:
    """Which sizes meet in a step, the same in every epoch, so that all epochs are equally long."""

    size_P: Numbers
    """[parts] how many rows each place for a prompt takes, step after step."""
    step_P: Numbers
    """[parts] which step each place is in."""
    steps: int

    @classmethod
    def of(cls, prompts: NDArray[np.integer], most: int) -> _Fillings:
        """The largest come first, each into the step with the least room that it fits (best fit decreasing).

        Args:
            prompts: How many rows each prompt has.
            most: Rows a step holds.
        """
        sizes = -np.sort(-_parts(prompts, most)[1])
        steps, step_P = 0, array("i")
        with_room = [array("i") for _ in range(most + 1)]
        for size in map(int, sizes):
            room = next((room for room in range(size, most) if with_room[room]), most)
            if with_room[room]:
                step = with_room[room].pop()
            else:
                step, steps = steps, steps + 1
            step_P.append(step)
            with_room[room - size].append(step)
        placed = np.array(step_P, dtype=np.int32)
        by_step = np.argsort(placed, kind="stable")
        return cls(sizes[by_step].astype(np.int32), placed[by_step], steps)


@dataclass(frozen=True, slots=True)
class _Epoch:
    """The rows of an epoch's steps, those of a prompt together. Arrays: lists of lists weigh ten times as much."""

    row_R: Numbers
    """[rows] part after part."""
    start_P: Numbers
    """[parts + 1] where each part starts in them, step after step."""
    start_S: Numbers
    """[steps + 1] where each step starts in the parts."""

    def step(self, place: int) -> list[list[int]]:
        """[prompts][rows] of a step."""
        bounds = self.start_P[self.start_S[place] : self.start_S[place + 1] + 1].tolist()
        return [self.row_R[start:stop].tolist() for start, stop in pairwise(bounds)]


def _parts(sizes: NDArray[np.integer], most: int) -> tuple[Numbers, Numbers]:
    """[parts] where each part of prompts that lie end to end starts, none longer than a step, and its length."""
    parts = -(-sizes // most)
    first = np.repeat(np.cumsum(sizes) - sizes, parts)
    cut = most * (np.arange(parts.sum()) - np.repeat(np.cumsum(parts) - parts, parts))
    size_P = np.minimum(most, np.repeat(sizes, parts) - cut)
    return (first + cut).astype(np.int32), size_P.astype(np.int32)


@lru_cache(maxsize=2)
def _grouped(order: Order, epoch: int) -> _Epoch:
    """An epoch's steps. Drawn anew: the rows' order, which prompts meet, the order of the steps."""
    permuted, prompts = _permutation(order.rows, order.seed, epoch), order.prompt_R
    same = Same(permuted if prompts is None else prompts[permuted])
    draw, fillings = stream(order.seed, "steps", epoch), order._fillings
    start_P, size_P = _parts(same.sizes, order.rows_a_step)
    # Each place takes the part of its size that was drawn last and is not taken yet.
    drawn = draw.permutation(len(size_P)).astype(np.int32)[::-1]
    taken = np.empty_like(drawn)
    taken[np.argsort(fillings.size_P, kind="stable")] = drawn[np.argsort(size_P[drawn], kind="stable")]
    rank_S = np.empty(fillings.steps, np.int32)
    rank_S[draw.permutation(fillings.steps)] = np.arange(fillings.steps)
    rank_P = rank_S[fillings.step_P]
    by_step = np.argsort(rank_P, kind="stable")
    start_P, size_P = start_P[taken[by_step]], size_P[taken[by_step]]
    ends_P = np.cumsum(size_P)
    within = np.arange(order.rows) + np.repeat(start_P - (ends_P - size_P), size_P)
    return _Epoch(
        permuted[same.rows[within]],
        np.r_[0, ends_P].astype(np.int32),
        np.r_[0, np.cumsum(np.bincount(rank_P, minlength=fillings.steps))].astype(np.int32),
    )
