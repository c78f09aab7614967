"""Are moves told from stays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from tunewright.evaluate.contracts import Floats, Outcome
from tunewright.evaluate.metrics._curve import running_sums
from tunewright.evaluate.metrics._label_share import LabelShare
from tunewright.evaluate.metrics._moves import move


class MoveAuc(LabelShare):
    """Chance that a row in which the title changes was given a higher probability of a change than one that stays."""

    of_rows: ClassVar[bool] = False

    def record(self, outcome: Outcome, labels: Sequence[str]) -> tuple[float, ...] | None:
        """(probability of a change, 1 or 0 for changed); None where there is no title before."""
        return move(outcome, labels)

    def summarise(self, records: Floats, weights: Floats) -> Floats:
        """[resamples] area under the ROC curve (Mann & Whitney 1947), equal probabilities count half."""
        mass, moves = running_sums(records[:, 0], records[:, 1:], weights)
        stays = mass - moves
        # Of two neighbouring sums the mean: rows of equal probability are half ahead of one another.
        ahead = (np.diff(moves) * (stays[:, 1:] + stays[:, :-1]) / 2).sum(axis=1)
        pairs = moves[:, -1] * stays[:, -1]
        return np.asarray(np.divide(ahead, pairs, out=np.full_like(ahead, np.nan), where=pairs > 0))
