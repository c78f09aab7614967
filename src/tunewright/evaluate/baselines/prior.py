"""The frequencies of the training labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from tunewright.core.records import Example
from tunewright.evaluate.baselines._labels import label_indices, log_prior, survey_weights, targets
from tunewright.evaluate.contracts import Baseline, Outcome


class Prior(Baseline):
    """The frequencies of the training labels, whatever is asked: honest probabilities without reading a word."""

    trivial: ClassVar[bool] = True

    def outcomes(self, train: Sequence[Example], test: Sequence[Example], labels: Sequence[str]) -> list[Outcome]:
        """One outcome a test example.

        Raises:
            UserError: No training row has a label of the list.
        """
        train = targets(train)
        choices = log_prior(label_indices(train, labels), survey_weights(train), len(labels))
        return [Outcome(example, choices=choices) for example in test]
