"""TF-IDF and logistic regression: the text classifier that a fine-tuned model has to be worth more than."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

from tunewright.core.records import Example
from tunewright.evaluate.baselines._labels import FLOOR, log_prior
from tunewright.evaluate.contracts import Floats
from tunewright.evaluate.words import words


def question(example: Example) -> str:
    """What the model is asked: all turns, since what decides may stand in any."""
    return example.prompt_text


def text_log_probs(
    train: Sequence[str],
    indices: NDArray[np.int64],
    test: Sequence[str],
    count: int,
    strength: float,
    weights: Floats | None = None,
) -> Floats:
    """[test, labels] log-probabilities of a classifier fitted on the training texts.

    Args:
        train: Texts.
        indices: [train] their labels.
        test: Texts to answer.
        count: Labels in the list; those without a training text get the floor.
        strength: Inverse of the L2 penalty.
        weights: [train] how much each text counts, 1 on average; None = all alike.
    """
    weights = np.ones(len(indices)) if weights is None else weights
    train, indices, weights = (
        [train[row] for row in np.flatnonzero(weights).tolist()],
        indices[weights > 0],
        weights[weights > 0],
    )
    known = np.unique(indices)
    tokens = [words(text) for text in train]
    if len(known) < 2 or not any(tokens):
        return np.tile(log_prior(indices, weights, count), (len(test), 1))
    # Words come ready from `words`, so any script is split; the analyser only pairs them.
    tfidf = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), tokenizer=words, token_pattern=None, lowercase=False)
    model = Pipeline([("tfidf", tfidf), ("regression", LogisticRegression(C=strength, max_iter=1000))])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(train, indices, regression__sample_weight=weights)
    answers = np.full((len(test), count), FLOOR)
    if len(test):
        answers[:, known] = np.maximum(model.predict_log_proba(list(test)), FLOOR)
    return answers
