"""Careers: which occupation comes next, told as a probability of every title."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from tunewright.recipes._planned import Planned


class Careers(Planned):
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
    rates: ClassVar[Mapping[str, float]] = {"lora": 1e-3, "norm": 2e-3, "full": 5e-5, "last": 1e-4}
    ladder: ClassVar[tuple[tuple[int, float], ...]] = ((2_000, 6), (6_000, 4), (20_000, 3))
    most: ClassVar[float] = 2
    more: ClassVar[Mapping[str, Any]] = {
        "data.format": "careers",
        "train.per_device_train_batch_size": 8,
        "evaluate.generated_rows": 0,
    }

    def match(self, labels: Sequence[str], has_context: bool) -> bool:
        """Never by labels alone: rows of the format `careers` name this recipe."""
        return False

    def instruction(self, labels: Sequence[str]) -> str:
        """Nothing: the career is all that is told."""
        return ""
