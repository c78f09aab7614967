"""The next title by the last one and by who the person is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tunewright.core.records import Example
from tunewright.evaluate.baselines._markov import Cells, steps_of
from tunewright.evaluate.contracts import Baseline, Outcome


class BigramDemographics(Baseline):
    """As bigram, in each group of people (gender, region ...), pulled to the table of all where a group has few."""

    def outcomes(self, train: Sequence[Example], test: Sequence[Example], labels: Sequence[str]) -> list[Outcome]:
        """One outcome a test example.

        Raises:
            UserError: No training row has a label of the list.
        """
        cells = Cells.fitted(steps_of(train, labels), len(labels))
        if not test:
            return []
        found = np.log(cells.shares(test, labels))
        return [Outcome(example, choices=row) for example, row in zip(test, found, strict=True)]
