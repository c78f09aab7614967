"""Rows whose answer is one of a closed set of labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from tunewright.recipes._planned import Planned

_LONGEST_LIST = 400


class Classify(Planned):
    """Rows with a closed set of labels: is the label right, how sure is it, is it better than guessing."""

    needs_labels: ClassVar[bool] = True
    metrics: tuple[str, ...] = ("accuracy", "macro_f1", "nll", "ece", "stop_rate")
    primary: tuple[str, ...] = ("accuracy",)
    baselines: tuple[str, ...] = ("majority", "prior", "tfidf")
    rates: ClassVar[Mapping[str, float]] = {
        "lora": 1e-3, "norm": 1e-3, "full": 2e-5, "last": 2e-5, "sparse": 2e-4, "norm_head": 2e-4,
    }  # fmt: skip
    ladder: ClassVar[tuple[tuple[int, float], ...]] = ((600, 4), (2_000, 3), (10_000, 2))

    def match(self, labels: Sequence[str], has_context: bool) -> bool:
        """Rows with labels."""
        return bool(labels)

    def instruction(self, labels: Sequence[str]) -> str:
        """Names the labels, unless the list would be longer than the text it stands before."""
        listed = ", ".join(labels)
        if len(listed) > _LONGEST_LIST:
            return "Answer with the label alone."
        return f"Answer with exactly one of: {listed}."
