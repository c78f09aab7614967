"""Expected calibration error over a closed set of labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from pydantic import Field

from tunewright.core.plugins import Plugin
from tunewright.evaluate.contracts import Floats, Need, Outcome
from tunewright.evaluate.metrics._closed import chosen, probabilities, truth


class Ece(Plugin):
    """How far stated confidence is from how often it is right, averaged over bins of equal mass."""

    needs: ClassVar[Need] = "choices"
    higher_is_better: ClassVar[bool] = False
    # The prior is calibrated by construction, so there is no trivial score that a good model must beat.
    closed_set: ClassVar[bool] = False
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)
    bins: int = Field(10, ge=1)

    def record(self, outcome: Outcome, labels: Sequence[str]) -> tuple[float, ...] | None:
        """(probability of the chosen label within the set, 1 or 0 for right); None when labels were not scored."""
        if outcome.choices is None:
            return None
        choice = chosen(outcome)
        if choice is None:
            return math.nan, math.nan
        return float(probabilities(outcome.choices)[choice]), float(choice == truth(outcome, labels))

    def summarise(self, records: Floats, weights: Floats) -> Floats:
        """[resamples] sum over bins of |right - confidence|, by mass.

        Rows of equal confidence are one group and a group on the edge of two bins is shared between them in
        proportion, so neither the order of rows nor writing a row twice changes the figure.
        """
        confidence, group = np.unique(records[:, 0], return_inverse=True)
        order = np.argsort(group, kind="stable")
        starts = np.searchsorted(group[order], np.arange(len(confidence)))
        ordered = weights[:, order]
        mass = np.add.reduceat(ordered, starts, axis=1)
        gap = np.add.reduceat(ordered * (records[order, 1] - records[order, 0]), starts, axis=1)
        mass_below = np.pad(np.cumsum(mass, axis=1), ((0, 0), (1, 0)))
        gap_below = np.pad(np.cumsum(gap, axis=1), ((0, 0), (1, 0)))
        edges = np.linspace(0, 1, self.bins + 1)
        figures = [
            np.abs(np.diff(np.interp(edges * m[-1], m, g))).sum() / m[-1]
            for m, g in zip(mass_below, gap_below, strict=True)
        ]
        return np.asarray(figures)
