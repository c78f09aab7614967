"""Suspected wrong labels among training rows: what a classifier, never shown the row, is sure is something else.

Confident learning (Northcutt, Jiang & Chuang 2021) on out-of-fold probabilities: a label's threshold is how sure
the classifier is, on average, of rows that carry it; a row is counted under the most probable label whose threshold
it reaches. The counts say how many rows of a label are truly another, the probabilities which.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from tunewright.core.records import Example
from tunewright.core.seeds import key
from tunewright.evaluate.baselines._labels import label_indices
from tunewright.evaluate.baselines._text import question, text_log_probs
from tunewright.evaluate.contracts import Floats

FOLDS = 5
MIN_ROWS = 10
"""Labels with fewer training rows are left out: two a fold is too little to be sure of anything."""
CERTAIN = 0.5
"""A lead in probability of another label over the given one that is a suspicion by itself."""


@dataclass(frozen=True, slots=True)
class Suspect:
    """A training row that reads like another label."""

    id: str
    source: str
    text: str
    given: str
    suspected: str
    probability: float
    """Of the suspected label, by a classifier that was not shown the row."""


@dataclass(frozen=True, slots=True)
class Suspects:
    """What was found, surest first, and what could not be looked at."""

    rows: tuple[Suspect, ...]
    checked: int
    """Rows that were looked at."""
    note: str = ""


def find_suspects(train: Sequence[Example], labels: Sequence[str], seed: int = 0, strength: float = 10.0) -> Suspects:
    """Looks for rows whose label is probably wrong.

    Args:
        train: Training rows; those of one unit are held out together.
        labels: The closed set.
        seed: Of the folds.
        strength: Inverse of the classifier's penalty.
    """
    if not train or not labels:
        return Suspects((), 0, "Not looked for: there are no labelled training rows.")
    indices = label_indices(train, labels)
    sizes = np.bincount(indices[indices >= 0], minlength=len(labels))
    enough = np.flatnonzero(sizes >= MIN_ROWS)
    units = [example.unit if example.unit is not None else f"row {row}" for row, example in enumerate(train)]
    kept = np.flatnonzero(np.isin(indices, enough)).tolist()
    if len(enough) < 2 or len({units[row] for row in kept}) < FOLDS:
        return Suspects((), 0, f"Not looked for: fewer than 2 labels have {MIN_ROWS} training rows in {FOLDS} units.")
    texts = [question(train[row]) for row in kept]
    given = np.searchsorted(enough, indices[kept])
    probabilities = _out_of_fold(texts, given, [units[row] for row in kept], seed, strength)
    rows = []
    for place, suspected in _confidently_other(probabilities, given):
        example = train[kept[place]]
        rows.append(
            Suspect(
                id=example.id,
                source=example.source,
                text=texts[place],
                given=labels[enough[given[place]]],
                suspected=labels[enough[suspected]],
                probability=float(probabilities[place, suspected]),
            )
        )
    rows.sort(key=lambda suspect: (-suspect.probability, suspect.id))
    left_out = [labels[index] for index, size in enumerate(sizes) if 0 < size < MIN_ROWS]
    note = f"Labels with fewer than {MIN_ROWS} rows were not looked at: {', '.join(left_out)}." if left_out else ""
    return Suspects(tuple(rows), len(kept), note)


def _out_of_fold(
    texts: Sequence[str], given: NDArray[np.int64], units: Sequence[str], seed: int, strength: float
) -> Floats:
    """[rows, labels] probabilities by a classifier fitted on the other folds."""
    count = int(given.max()) + 1
    probabilities = np.empty((len(texts), count))
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=key(seed, "suspects") % 2**32)
    with warnings.catch_warnings():
        # A label of fewer units than folds is then missing from some fold: its rows there are simply not sure.
        warnings.simplefilter("ignore", UserWarning)
        splits = [(a.tolist(), b.tolist()) for a, b in folds.split(np.zeros(len(texts)), given, np.asarray(units))]
    for fitted, held_out in splits:
        answers = text_log_probs(
            [texts[row] for row in fitted], given[fitted], [texts[row] for row in held_out], count, strength
        )
        probabilities[held_out] = np.exp(answers)
    return probabilities


def _confidently_other(probabilities: Floats, given: NDArray[np.int64]) -> list[tuple[int, int]]:
    """(row, label) of rows that are probably another label.

    How many: rows given i that clear the threshold of j, scaled up to all rows given i, for about half of all rows,
    right or wrong, fall below their threshold. Which: those with the largest lead of j over i ("pruning by noise
    rate" of the method's authors), and any whose lead is `CERTAIN`: the count is rough where flips are few.
    """
    count = probabilities.shape[1]
    thresholds = np.array([probabilities[given == label, label].mean() for label in range(count)])
    clears = np.where(probabilities >= thresholds, probabilities, -1.0)
    counted = np.zeros((count, count))
    sure = clears.max(axis=1) >= 0
    np.add.at(counted, (given[sure], clears.argmax(axis=1)[sure]), 1.0)
    sizes = np.bincount(given, minlength=count)
    expected = np.rint(counted * (sizes / np.maximum(counted.sum(axis=1), 1))[:, None]).astype(int)
    favourite = probabilities.argmax(axis=1)
    lead = probabilities[np.arange(len(given)), favourite] - probabilities[np.arange(len(given)), given]
    found = []
    by_pair: dict[tuple[int, int], list[int]] = defaultdict(list)
    for row in np.argsort(-lead, kind="stable").tolist():
        if lead[row] > 0:
            by_pair[int(given[row]), int(favourite[row])].append(row)
    for pair, rows in by_pair.items():
        take = max(int(expected[pair]), sum(bool(lead[row] >= CERTAIN) for row in rows))
        found += [(row, pair[1]) for row in rows[:take]]
    return found
