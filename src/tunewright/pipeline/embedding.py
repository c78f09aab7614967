"""The second use of a language model: what it holds of a context as features of a multinomial logit.

Athey and others (2024) compare this with reading the next title's probability off the model itself.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from tunewright.core.errors import UserError
from tunewright.core.progress import Progress
from tunewright.core.records import Example
from tunewright.core.settings import LOGITS
from tunewright.evaluate.baselines._labels import FLOOR, label_indices, log_prior, survey_weights, targets
from tunewright.evaluate.contracts import Floats, Outcome
from tunewright.models.contracts import LoadedModel
from tunewright.models.features import last_hidden
from tunewright.pipeline.prepare import Prepared

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Inverse penalties, among which the validation rows choose."""
_ITERATIONS = 300


def embedding_outcomes(
    prepared: Prepared, model: LoadedModel, progress: Progress, what: str, note: Callable[[str], None]
) -> list[Outcome]:
    """Fits the logit on training rows (a pool's left out), chooses its penalty on validation rows, asks the test rows.

    Args:
        prepared: The rows.
        model: Whose features are read.
        progress: Is told how far it is.
        what: The baseline's name, for progress and notes.
        note: Is told what makes the logit weaker than it could be.

    Raises:
        UserError: Rows without a closed label set, or a model whose features cannot be read.
    """
    labels = prepared.dataset.labels or ()
    if not labels or "hidden" not in model.family.capabilities:
        raise UserError(
            f"evaluate.baselines: {' and '.join(LOGITS)} need rows with a closed set of labels and a model that reads "
            "text. Leave them out."
        )
    train = targets(prepared.dataset.train)
    valid = list(prepared.dataset.valid)
    parts = [_features(prepared, model, rows, progress, what) for rows in (train, valid, prepared.test)]
    indices = label_indices(train, labels)
    known = indices >= 0
    weights = survey_weights([example for example, keep in zip(train, known, strict=True) if keep])
    if len(set(indices[known].tolist())) < 2:  # nothing to tell apart
        share = log_prior(indices[known], weights, len(labels))
        return [Outcome(example, choices=share) for example in prepared.test]
    fits = [_fitted(parts[0][known], indices[known], weights, strength) for strength in STRENGTHS]
    chosen = fits[1]
    if valid:
        right = label_indices(valid, labels)
        rows, counts = np.arange(len(valid))[right >= 0], survey_weights(valid)[right >= 0]
        lost = [-counts @ _log_probs(fit, parts[1], len(labels))[rows, right[rows]] for fit in fits]
        place = int(np.argmin(lost))
        chosen = fits[place]
        if place in (0, len(fits) - 1):
            side = "stronger" if place == 0 else "weaker"
            note(
                f"{what}: validation chose C = {STRENGTHS[place]:g}, the last of the penalties that are tried; with a "
                f"{side} one the logit may be better than it shows."
            )
    if not _converged(chosen):
        note(f"{what}: the logit had not converged after {_ITERATIONS} iterations; it may be better than it shows.")
    found = _log_probs(chosen, parts[2], len(labels))
    return [Outcome(example, choices=row) for example, row in zip(prepared.test, found, strict=True)]


def _features(
    prepared: Prepared, model: LoadedModel, rows: Sequence[Example], progress: Progress, what: str
) -> NDArray[np.float32]:
    encoder = model.family.encoder(model, prepared.encode)
    contexts = [encoder.context_ids(example) for example in rows]  # type: ignore[attr-defined]
    found = []
    for vector in last_hidden(model, contexts):
        found.append(vector)
        progress(f"{what}: reading features", len(found), len(rows))
    return np.array(found, dtype=np.float32)


def _fitted(features: NDArray[np.float32], indices: NDArray[np.int64], weights: Floats, strength: float) -> Pipeline:
    """Scaled by the rows as they are, fitted to what they stand for."""
    fit = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=_ITERATIONS))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fit.fit(features, indices, logisticregression__sample_weight=weights)
    return fit


def _converged(fit: Pipeline) -> bool:
    return bool(np.max(fit[-1].n_iter_) < _ITERATIONS)


def _log_probs(fit: Pipeline, features: NDArray[np.float32], labels: int) -> Floats:
    """[rows, labels]; labels without a training row get the floor."""
    found = np.full((len(features), labels), FLOOR)
    if len(features):
        found[:, fit.classes_] = np.maximum(fit.predict_log_proba(features), FLOOR)
    return found
