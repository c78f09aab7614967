"""The next title by the last one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tunewright.core.records import Example
from tunewright.evaluate.baselines._markov import Bigram as Shares
from tunewright.evaluate.baselines._markov import lasts, steps_of
from tunewright.evaluate.contracts import Baseline, Outcome


class Bigram(Baseline):
    """How often each title follows the last one in the training rows, smoothed: what a table of moves knows."""

    def outcomes(self, train: Sequence[Example], test: Sequence[Example], labels: Sequence[str]) -> list[Outcome]:
        """One outcome a test example.

        Raises:
            UserError: No training row has a label of the list.
        """
        shares = np.log(Shares.fitted(steps_of(train, labels), len(labels)).shares())
        return [Outcome(example, choices=shares[last]) for example, last in zip(test, lasts(test, labels), strict=True)]
