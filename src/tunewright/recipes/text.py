"""Plain text without a question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from tunewright.recipes._planned import FREE_TEXT_LADDER, FREE_TEXT_RATES, Planned


class Text(Planned):
    """Plain text: how well is the next token foreseen, over the whole of every row."""

    needs_labels: ClassVar[bool] = False
    metrics: tuple[str, ...] = ("nll", "bits_per_byte")
    primary: tuple[str, ...] = ("nll",)
    baselines: tuple[str, ...] = ()
    rates: ClassVar[Mapping[str, float]] = FREE_TEXT_RATES
    ladder: ClassVar[tuple[tuple[int, float], ...]] = FREE_TEXT_LADDER
    more: ClassVar[Mapping[str, Any]] = {"objective.name": "next_token", "objective.loss_on": "all"}

    def match(self, labels: Sequence[str], has_context: bool) -> bool:
        """Rows that have neither labels nor a context."""
        return not has_context and not labels

    def instruction(self, labels: Sequence[str]) -> str:
        """Nothing: the rows say what they ask."""
        return ""
