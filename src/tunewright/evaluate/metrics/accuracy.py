"""Accuracy over a closed set of labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

from tunewright.core.plugins import Plugin
from tunewright.evaluate.contracts import Floats, Need, Outcome
from tunewright.evaluate.metrics._closed import chosen, truth
from tunewright.evaluate.metrics._ratio import mean


class Accuracy(Plugin):
    """Share of rows whose most probable label is the right one."""

    needs: ClassVar[Need] = "choices"
    higher_is_better: ClassVar[bool] = True
    closed_set: ClassVar[bool] = True
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def record(self, outcome: Outcome, labels: Sequence[str]) -> tuple[float, ...] | None:
        """(1 or 0,); None when labels were not scored, NaN when their scores do not rank."""
        if outcome.choices is None:
            return None
        choice = chosen(outcome)
        return (math.nan if choice is None else float(choice == truth(outcome, labels)),)

    def summarise(self, records: Floats, weights: Floats) -> Floats:
        """[resamples] weighted share."""
        return mean(records, weights)
