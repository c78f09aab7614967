"""Every label alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from tunewright.core.records import Example
from tunewright.evaluate.baselines._labels import label_indices
from tunewright.evaluate.contracts import Baseline, Outcome


class Uniform(Baseline):
    """Every label equally likely: its perplexity is the number of labels."""

    trivial: ClassVar[bool] = True

    def outcomes(self, train: Sequence[Example], test: Sequence[Example], labels: Sequence[str]) -> list[Outcome]:
        """One outcome a test example.

        Raises:
            UserError: No training row has a label of the list.
        """
        label_indices(train, labels)
        return [Outcome(example, choices=np.full(len(labels), -np.log(len(labels)))) for example in test]
