"""Careers: which occupation comes next, told as a probability of every title."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from tunewright.core.plugins import Plugin
from tunewright.recipes._rates import by_rows, of_method

_RATES = {"lora": 1e-3, "norm": 2e-3, "full": 5e-5, "last": 1e-4}


class Careers(Plugin):
    """Careers of many people: how well is the next occupation foreseen, and are moves told from stays."""

    needs_labels: ClassVar[bool] = True
    metrics: tuple[str, ...] = (
        "perplexity_renormalised",
        "perplexity",
        "accuracy",
        "top_k",
        "move_auc",
        "move_ece",
    )
    primary: tuple[str, ...] = ("perplexity_renormalised",)
    baselines: tuple[str, ...] = (
        "uniform",
        "prior",
        "bigram",
        "bigram_demographics",
        "career_network",
        "career_network_pooled",
        "oracle",
    )

    def match(self, labels: Sequence[str], has_context: bool) -> bool:
        """Never by labels alone: rows of the format `careers` name this recipe."""
        return False

    def defaults(self) -> dict[str, Any]:
        """The format, metrics and baselines; loss on the titles, eight people a step; nothing is answered freely."""
        return {
            "data.format": "careers",
            "train.per_device_train_batch_size": 8,
            "evaluate.metrics": self.metrics,
            "evaluate.primary": self.primary,
            "evaluate.baselines": self.baselines,
            "evaluate.generated_rows": 0,
        }

    def instruction(self, labels: Sequence[str]) -> str:
        """Nothing: the career is all that is told."""
        return ""

    def epochs(self, rows: int) -> float:
        """6 up to 2,000 rows (one a person and year), 4 up to 6,000, 3 up to 20,000, else 2."""
        return by_rows(rows, ((2_000, 6), (6_000, 4), (20_000, 3)), 2)

    def learning_rate(self, method: str) -> float:
        """1e-3 for LoRA, 2e-3 for norms and biases, less where the model's own weights train."""
        return of_method("careers", method, _RATES)
