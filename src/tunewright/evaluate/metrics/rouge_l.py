"""ROUGE-L of the greedy answer, words of any script."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from tunewright.evaluate.contracts import Floats, Metric, Need, Outcome
from tunewright.evaluate.metrics._ratio import mean
from tunewright.evaluate.words import words


class RougeL(Metric):
    """Longest common subsequence of words between greedy and wanted answer, as F1 (Lin 2004).

    On English it equals `rouge-score` without stemmer; scripts without spaces are compared by character.
    """

    needs: ClassVar[Need] = "text"
    higher_is_better: ClassVar[bool] = True
    closed_set: ClassVar[bool] = False
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def record(self, outcome: Outcome, labels: Sequence[str]) -> tuple[float, ...] | None:
        """(F1 in [0, 1],), the best over answers of equal rank; None without a greedy answer."""
        if outcome.text is None:
            return None
        best = outcome.example.answer.rank
        said = words(outcome.text)
        wanted = [words(answer.text) for answer in outcome.example.answers if answer.rank == best]
        return (max(_f1(target, said) for target in wanted),)

    def summarise(self, records: Floats, weights: Floats) -> Floats:
        """[resamples] weighted mean over examples."""
        return mean(records, weights)


def _f1(target: list[str], said: list[str]) -> float:
    if not target or not said:
        return 0.0
    return 2 * _common(target, said) / (len(target) + len(said))


def _common(left: list[str], right: list[str]) -> int:
    """Length of the longest common subsequence, one bit a word of `left` (Hyyrö 2004)."""
    places: dict[str, int] = {}
    for index, word in enumerate(left):
        places[word] = places.get(word, 0) | 1 << index
    everything = (1 << len(left)) - 1
    free = everything
    for word in right:
        taken = free & places.get(word, 0)
        free = (free + taken | free - taken) & everything
    return len(left) - free.bit_count()
