"""Pictures with one of a closed set of labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from tunewright.recipes._planned import Planned


class Pictures(Planned):
    """Pictures with labels: is the label right, how sure is it, is it better than guessing."""

    needs_labels: ClassVar[bool] = True
    metrics: tuple[str, ...] = ("accuracy", "macro_f1", "nll", "ece")
    primary: tuple[str, ...] = ("accuracy",)
    baselines: tuple[str, ...] = ("majority", "prior")
    rates: ClassVar[Mapping[str, float]] = {
        "full": 2e-3, "norm": 1e-2, "lora": 1e-2, "last": 5e-3, "sparse": 5e-3, "norm_head": 5e-3,
    }  # fmt: skip
    ladder: ClassVar[tuple[tuple[int, float], ...]] = ((2_000, 20), (10_000, 10))
    most: ClassVar[float] = 4
    more: ClassVar[Mapping[str, Any]] = {
        "method.name": "full",
        "train.per_device_train_batch_size": 32,
        "evaluate.probes": (),
    }

    def match(self, labels: Sequence[str], has_context: bool) -> bool:
        """Never by labels alone: rows of the format `picture` choose it."""
        return False

    def instruction(self, labels: Sequence[str]) -> str:
        """Nothing: a picture is asked nothing."""
        return ""
