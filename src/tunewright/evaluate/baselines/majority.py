"""The most frequent training label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from tunewright.core.records import Example
from tunewright.evaluate.baselines._labels import FLOOR, label_indices, log_prior, survey_weights, targets
from tunewright.evaluate.contracts import Baseline, Outcome


class Majority(Baseline):
    """Always the most frequent training label, and certain of it."""

    trivial: ClassVar[bool] = True

    def outcomes(self, train: Sequence[Example], test: Sequence[Example], labels: Sequence[str]) -> list[Outcome]:
        """One outcome a test example.

        Raises:
            UserError: No training row has a label of the list.
        """
        train = targets(train)
        choices = np.full(len(labels), FLOOR)
        shares = log_prior(label_indices(train, labels), survey_weights(train), len(labels))
        choices[np.argmax(shares)] = 0.0
        return [Outcome(example, choices=choices) for example in test]
