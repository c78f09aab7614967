"""Plain text without a question."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from tunewright.core.plugins import Plugin
from tunewright.recipes._rates import FREE_TEXT_EPOCHS, FREE_TEXT_RATES, by_rows, of_method


class Text(Plugin):
    """Plain text: how well is the next token foreseen, over the whole of every row."""

    needs_labels: ClassVar[bool] = False
    metrics: tuple[str, ...] = ("nll", "bits_per_byte")
    primary: tuple[str, ...] = ("nll",)
    baselines: tuple[str, ...] = ()

    def match(self, labels: Sequence[str], has_context: bool) -> bool:
        """Rows that have neither labels nor a context."""
        return not has_context and not labels

    def defaults(self) -> dict[str, Any]:
        """Metrics, the primary one, and loss on every token."""
        return {
            "evaluate.metrics": self.metrics,
            "evaluate.primary": self.primary,
            "evaluate.baselines": self.baselines,
            "objective.name": "next_token",
            "objective.loss_on": "all",
        }

    def instruction(self, labels: Sequence[str]) -> str:
        """Nothing: the rows say what they ask."""
        return ""

    def epochs(self, rows: int) -> float:
        """3 up to 2,000 rows, 2 up to 10,000, else 1."""
        return by_rows(rows, FREE_TEXT_EPOCHS, 1)

    def learning_rate(self, method: str) -> float:
        """2e-4 for LoRA, 1e-3 for norms and biases, 2e-5 where the model's own weights train."""
        return of_method("text", method, FREE_TEXT_RATES)
