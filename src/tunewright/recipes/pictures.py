"""Pictures with one of a closed set of labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from tunewright.core.plugins import Plugin
from tunewright.recipes._rates import by_rows, of_method

_RATES = {"full": 2e-3, "norm": 1e-2, "lora": 1e-2, "last": 5e-3, "sparse": 5e-3, "norm_head": 5e-3}


class Pictures(Plugin):
    """Pictures with labels: is the label right, how sure is it, is it better than guessing."""

    needs_labels: ClassVar[bool] = True
    metrics: tuple[str, ...] = ("accuracy", "macro_f1", "nll", "ece")
    primary: tuple[str, ...] = ("accuracy",)
    baselines: tuple[str, ...] = ("majority", "prior")

    def match(self, labels: Sequence[str], has_context: bool) -> bool:
        """Never by labels alone: rows of the format `picture` choose it."""
        return False

    def defaults(self) -> dict[str, Any]:
        """All weights train: such networks are small."""
        return {
            "method.name": "full",
            "train.per_device_train_batch_size": 32,
            "evaluate.metrics": self.metrics,
            "evaluate.primary": self.primary,
            "evaluate.baselines": self.baselines,
            "evaluate.probes": (),
        }

    def instruction(self, labels: Sequence[str]) -> str:
        """Nothing: a picture is asked nothing."""
        return ""

    def epochs(self, rows: int) -> float:
        """20 up to 2,000 pictures, 10 up to 10,000, else 4."""
        return by_rows(rows, ((2_000, 20), (10_000, 10)), 4)

    def learning_rate(self, method: str) -> float:
        """2e-3 where all weights train, more where few do."""
        return of_method("pictures", method, _RATES)
