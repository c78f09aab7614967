"""How often the model ends its answer by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from tunewright.evaluate.contracts import Floats, Metric, Need, Outcome
from tunewright.evaluate.metrics._ratio import mean


class StopRate(Metric):
    """Share of greedy answers that ended by themselves instead of at the length limit."""

    needs: ClassVar[Need] = "text"
    higher_is_better: ClassVar[bool] = True
    closed_set: ClassVar[bool] = False
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def record(self, outcome: Outcome, labels: Sequence[str]) -> tuple[float, ...] | None:
        """(1 or 0,); None when nothing was generated."""
        return None if outcome.stopped is None else (float(outcome.stopped),)

    def summarise(self, records: Floats, weights: Floats) -> Floats:
        """[resamples] weighted share."""
        return mean(records, weights)
