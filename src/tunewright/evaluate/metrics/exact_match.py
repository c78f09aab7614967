"""Exact match of the greedy answer."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import ClassVar

from tunewright.evaluate.contracts import Floats, Metric, Need, Outcome
from tunewright.evaluate.metrics._ratio import mean


class ExactMatch(Metric):
    """Share of greedy answers that equal a wanted answer, in Unicode NFC and without outer space."""

    needs: ClassVar[Need] = "text"
    higher_is_better: ClassVar[bool] = True
    closed_set: ClassVar[bool] = False
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def record(self, outcome: Outcome, labels: Sequence[str]) -> tuple[float, ...] | None:
        """(1 or 0,); None without a greedy answer. Answers of equal rank are all accepted."""
        if outcome.text is None:
            return None
        best = outcome.example.answer.rank
        accepted = {_plain(answer.text) for answer in outcome.example.answers if answer.rank == best}
        return (float(_plain(outcome.text) in accepted),)

    def summarise(self, records: Floats, weights: Floats) -> Floats:
        """[resamples] weighted share."""
        return mean(records, weights)


def _plain(text: str) -> str:
    return unicodedata.normalize("NFC", text).strip()
