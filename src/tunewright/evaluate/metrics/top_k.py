"""Whether the right label is among the most probable ones."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from tunewright.evaluate.closed import share_right
from tunewright.evaluate.contracts import Floats, Outcome
from tunewright.evaluate.metrics._label_share import LabelShare
from tunewright.evaluate.metrics._ratio import mean


class TopK(LabelShare):
    """Share of rows whose right label is among the k most probable ones: `top_k`, `top_k(k=3)`."""

    k: int = Field(5, ge=1)

    def record(self, outcome: Outcome, labels: Sequence[str]) -> tuple[float, ...] | None:
        """(1 or 0, between where it ties,); None when labels were not scored, NaN when their scores do not rank."""
        right = share_right(outcome, labels, self.k)
        return None if right is None else (right,)

    def summarise(self, records: Floats, weights: Floats) -> Floats:
        """[resamples] weighted share."""
        return mean(records, weights)
