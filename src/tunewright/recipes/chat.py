"""Rows that ask something and answer it in free words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from tunewright.recipes._planned import FREE_TEXT_LADDER, FREE_TEXT_RATES, Planned


class Chat(Planned):
    """Questions with free answers: how likely is the wanted answer, how close is the given one."""

    needs_labels: ClassVar[bool] = False
    metrics: tuple[str, ...] = ("nll", "bits_per_byte", "rouge_l", "exact_match", "stop_rate")
    primary: tuple[str, ...] = ("nll",)
    baselines: tuple[str, ...] = ()
    rates: ClassVar[Mapping[str, float]] = FREE_TEXT_RATES
    ladder: ClassVar[tuple[tuple[int, float], ...]] = FREE_TEXT_LADDER

    def match(self, labels: Sequence[str], has_context: bool) -> bool:
        """Rows with a context and no closed label set."""
        return has_context and not labels

    def instruction(self, labels: Sequence[str]) -> str:
        """Nothing: the rows say what they ask."""
        return ""
