"""What baselines share of labels: training labels as indices, and log-probabilities with a floor."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tunewright.core.errors import UserError
from tunewright.core.records import Example
from tunewright.data.pool import without_pool
from tunewright.evaluate.contracts import Floats

FLOOR = -30.0
"""Log-probability of what a baseline holds impossible: finite, so that it can be written as JSON."""


def targets(train: Sequence[Example]) -> Sequence[Example]:
    """Those that stand for the people judged: without a pool's and those that count for nothing, if others are left."""
    return counting(without_pool(train) or train)


def counting(examples: Sequence[Example]) -> Sequence[Example]:
    """Without those that count for nothing; all where none counts."""
    return [example for example in examples if example.survey_weight] or examples


def label_indices(train: Sequence[Example], labels: Sequence[str]) -> NDArray[np.int64]:
    """[train] index of each row's label; -1 where the list lacks it.

    Raises:
        UserError: No training row has a label of the list.
    """
    places = {unicodedata.normalize("NFC", label): index for index, label in enumerate(labels)}
    found = [places.get(unicodedata.normalize("NFC", example.answer.text), -1) for example in train]
    if max(found, default=-1) < 0:
        raise UserError(
            f"None of {len(train)} training rows has one of the labels {', '.join(map(repr, labels[:5]))}: "
            "a baseline needs labelled training rows. Check the label column."
        )
    return np.array(found, dtype=np.int64)


def survey_weights(examples: Sequence[Example]) -> Floats:
    """[examples] how much each counts, 1 on average over those that count; all alike where none does."""
    return _one_on_average(np.array([example.survey_weight for example in examples], dtype=np.float64))


def counted(examples: Sequence[Example]) -> list[Example]:
    """The examples, each answer trained on as often as its row counts: for what is fitted by the answers' weights."""
    return [
        replace(example, answers=tuple(replace(answer, weight=answer.weight * weight) for answer in example.answers))
        for example, weight in zip(examples, survey_weights(examples).tolist(), strict=True)
    ]


def training_weights(examples: Sequence[Example]) -> Floats:
    """[examples] as `survey_weights`, times how much each answer is trained on (the column `weight`)."""
    return _one_on_average(survey_weights(examples) * [example.answer.weight for example in examples])


def _one_on_average(weight: Floats) -> Floats:
    return weight / weight[weight > 0].mean() if weight.any() else np.ones(len(weight))


def log_prior(indices: NDArray[np.int64], weights: Floats, count: int) -> Floats:
    """[labels] log share of each label, with Laplace's add-one so that an unseen label stays possible.

    Args:
        indices: [rows] the label of each; -1 = none of the list.
        weights: [rows] how much each counts.
        count: How many labels there are.
    """
    known = indices >= 0
    seen = np.bincount(indices[known], weights[known], minlength=count) + 1.0
    return np.asarray(np.log(seen / seen.sum()))
