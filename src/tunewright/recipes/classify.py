"""Rows whose answer is one of a closed set of labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from tunewright.core.plugins import Plugin
from tunewright.recipes._rates import by_rows, of_method

_RATES = {"lora": 1e-3, "norm": 1e-3, "full": 2e-5, "last": 2e-5, "sparse": 2e-4, "norm_head": 2e-4}
_LONGEST_LIST = 400


class Classify(Plugin):
    """Rows with a closed set of labels: is the label right, how sure is it, is it better than guessing."""

    needs_labels: ClassVar[bool] = True
    metrics: tuple[str, ...] = ("accuracy", "macro_f1", "nll", "ece", "stop_rate")
    primary: tuple[str, ...] = ("accuracy",)
    baselines: tuple[str, ...] = ("majority", "prior", "tfidf")

    def match(self, labels: Sequence[str], has_context: bool) -> bool:
        """Rows with labels."""
        return bool(labels)

    def defaults(self) -> dict[str, Any]:
        """Metrics, the primary one and baselines; loss on the answer alone."""
        return {
            "evaluate.metrics": self.metrics,
            "evaluate.primary": self.primary,
            "evaluate.baselines": self.baselines,
        }

    def instruction(self, labels: Sequence[str]) -> str:
        """Names the labels, unless the list would be longer than the text it stands before."""
        listed = ", ".join(labels)
        if len(listed) > _LONGEST_LIST:
            return "Answer with the label alone."
        return f"Answer with exactly one of: {listed}."

    def epochs(self, rows: int) -> float:
        """4 up to 600 rows, 3 up to 2,000, 2 up to 10,000, else 1."""
        return by_rows(rows, ((600, 4), (2_000, 3), (10_000, 2)), 1)

    def learning_rate(self, method: str) -> float:
        """1e-3 where few weights train, 2e-5 where the model's own do."""
        return of_method("classify", method, _RATES)
