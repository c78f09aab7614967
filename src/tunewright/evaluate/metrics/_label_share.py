"""What figures between 0 and 1 of the labels' scores share."""

from __future__ import annotations

from typing import ClassVar

from tunewright.evaluate.contracts import Metric, Need


class LabelShare(Metric):
    """A share of rows or of pairs of them that were told right by the scores of a closed set of labels."""

    needs: ClassVar[Need] = "choices"
    higher_is_better: ClassVar[bool] = True
    closed_set: ClassVar[bool] = True
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)
