"""Shares of the next title after the last one, smoothed as strongly as leaving people out says is best.

A cell's shares are pulled to a backoff distribution as by so many rows of it (a Dirichlet prior; MacKay & Peto 1995).
How many is chosen by the likelihood of each training row under the counts without the rows of its person, so no other
rows are needed and people who repeat themselves teach no false certainty.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tunewright.core.records import Example
from tunewright.evaluate.baselines._labels import label_indices, targets, training_weights
from tunewright.evaluate.contracts import Floats
from tunewright.evaluate.history import history_of, previous

STRENGTHS = (0.3, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)
_MOST_VALUES = 8
"""A fact with more values (a year of birth) makes cells too small to count in."""
Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Steps:
    """Transitions of training rows as numbers."""

    last: Numbers
    """[n] the title before; the last number stands for titles outside the list."""
    next: Numbers
    """[n]"""
    unit: Numbers
    """[n] the person."""
    weight: Floats
    """[n] how much each counts, 1 on average: by its survey weight, and as much as it is trained on."""
    examples: Sequence[Example]


def steps_of(train: Sequence[Example], labels: Sequence[str]) -> Steps:
    """The rows of `targets` whose label is of the list.

    Raises:
        UserError: No training row has a label of the list.
    """
    listed = np.flatnonzero(label_indices(train, labels) >= 0).tolist()
    examples = targets([train[row] for row in listed])
    people = [example.unit or f"\0{row}" for row, example in enumerate(examples)]
    unit = np.asarray(np.unique(people, return_inverse=True)[1], dtype=np.int64)
    weight = training_weights(examples)
    return Steps(lasts(examples, labels), label_indices(examples, labels), unit, weight, examples)


def lasts(examples: Sequence[Example], labels: Sequence[str]) -> Numbers:
    """[n] the number of each row's title before, `len(labels)` where it has none of the list."""
    places = {label: place for place, label in enumerate(labels)}
    return np.array([places.get(previous(example) or "", len(labels)) for example in examples], dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Bigram:
    """Shares of the next title after each: [labels + 1, labels] counts and what they are pulled to."""

    counts: Floats
    backoff: Floats
    strength: float

    @classmethod
    def fitted(cls, steps: Steps, labels: int) -> Bigram:
        """Counts, pulled to staying as often as all do and else to the titles that people move to."""
        counts = np.zeros((labels + 1, labels))
        np.add.at(counts, (steps.last, steps.next), steps.weight)
        square = counts[:labels]
        stayed, total = np.trace(square), square.sum()
        stay = (stayed + 1) / (total + 2)
        moved = counts.sum(axis=0) - np.diag(square) + 0.5
        backoff = np.tile(moved, (labels + 1, 1))
        np.fill_diagonal(backoff[:labels], 0.0)
        backoff /= np.maximum(backoff.sum(axis=1, keepdims=True), 1e-12)
        backoff[:labels] *= 1 - stay
        backoff[:labels] += stay * np.eye(labels)
        whole = counts.sum(axis=0) + 1.0
        backoff[labels] = whole / whole.sum()
        if labels == 1:
            backoff[:] = 1.0

        def left_out(strength: float) -> float:
            return float(steps.weight @ np.log(cls(counts, backoff, strength).without(steps)))

        return cls(counts, backoff, max(STRENGTHS, key=left_out))

    def shares(self) -> Floats:
        """[labels + 1, labels] smoothed shares."""
        summed = self.counts.sum(axis=1, keepdims=True) + self.strength
        return np.asarray((self.counts + self.strength * self.backoff) / summed)

    def without(self, steps: Steps) -> Floats:
        """[n] the share of each row's next title with the rows of its person taken out of the counts."""
        last, next = steps.last, steps.next
        others = _rest(self.counts[last, next], steps, last, next)
        total = _rest(self.counts[last].sum(axis=1), steps, last)
        return np.asarray((others + self.strength * self.backoff[last, next]) / (total + self.strength))


@dataclass(frozen=True, slots=True)
class Cells:
    """A bigram in each group of people, pulled to the bigram of all."""

    names: tuple[str, ...]
    bigram: Bigram
    counts: dict[tuple[tuple[str, ...], int], dict[int, float]]
    strength: float

    @classmethod
    def fitted(cls, steps: Steps, labels: int) -> Cells:
        """Groups are the combinations of those facts that have few values."""
        bigram = Bigram.fitted(steps, labels)
        names = _countable(steps.examples)
        counts: dict[tuple[tuple[str, ...], int], dict[int, float]] = {}
        keys = [(_cell(example, names), int(last)) for example, last in zip(steps.examples, steps.last, strict=True)]
        for key, next, weight in zip(keys, steps.next.tolist(), steps.weight.tolist(), strict=True):
            cell = counts.setdefault(key, {})
            cell[next] = cell.get(next, 0.0) + weight
        places = {key: place for place, key in enumerate(counts)}
        place = np.array([places[key] for key in keys])
        others = _rest(_alike(steps.weight, place, steps.next), steps, place, steps.next)
        total = _rest(_alike(steps.weight, place), steps, place)
        rest = bigram.without(steps)

        def left_out(strength: float) -> float:
            return float(steps.weight @ np.log((others + strength * rest) / (total + strength)))

        return cls(names, bigram, counts, max(STRENGTHS, key=left_out))

    def shares(self, examples: Sequence[Example], labels: Sequence[str]) -> Floats:
        """[n, labels] smoothed shares for each row."""
        last_N = lasts(examples, labels)
        found = self.strength * self.bigram.shares()[last_N]
        for row, (example, last) in enumerate(zip(examples, last_N.tolist(), strict=True)):
            for next, count in self.counts.get((_cell(example, self.names), last), {}).items():
                found[row, next] += count
        return np.asarray(found / found.sum(axis=1, keepdims=True))


def _alike(weight: Floats, *columns: Numbers) -> Floats:
    """[n] what the rows count for that agree with each in all columns, itself among them."""
    group = np.unique(np.column_stack(columns), axis=0, return_inverse=True)[1].ravel()
    return np.asarray(np.bincount(group, weight)[group], dtype=np.float64)


def _rest(counted: Floats, steps: Steps, *columns: Numbers) -> Floats:
    """[n] what is counted without the rows of each row's person that agree in all columns."""
    return np.maximum(counted - _alike(steps.weight, steps.unit, *columns), 0.0)


def _facts(example: Example) -> dict[str, str]:
    past = history_of(example)
    return {} if past is None else {**past.facts, **past.yearly[-1]}


def _countable(examples: Sequence[Example]) -> tuple[str, ...]:
    values: dict[str, set[str]] = {}
    for example in examples:
        for name, found in _facts(example).items():
            values.setdefault(name, set()).add(found)
    return tuple(sorted(name for name, found in values.items() if 2 <= len(found) <= _MOST_VALUES))


def _cell(example: Example, names: Sequence[str]) -> tuple[str, ...]:
    facts = _facts(example)
    return tuple(facts.get(name, "") for name in names)
