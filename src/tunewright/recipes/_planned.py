"""What the recipes share: a plan's keys, training length and learning rate from what is known before training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from tunewright.core.errors import UserError
from tunewright.core.plugins import Plugin


class Planned(Plugin):
    """A recipe that is a table: what is measured, how often rows are seen, and each method's rate."""

    metrics: tuple[str, ...] = ()
    primary: tuple[str, ...] = ()
    baselines: tuple[str, ...] = ()

    rates: ClassVar[Mapping[str, float]]
    """Method -> peak learning rate."""
    ladder: ClassVar[tuple[tuple[int, float], ...]]
    """Steps of (up to so many rows, epochs)."""
    most: ClassVar[float] = 1
    """Epochs above the last step."""
    more: ClassVar[Mapping[str, Any]] = {}
    """Further dotted plan keys and their values."""

    def defaults(self) -> dict[str, Any]:
        """Metrics, the primary one, baselines, and what the recipe sets beside."""
        return {
            **self.more,
            "evaluate.metrics": self.metrics,
            "evaluate.primary": self.primary,
            "evaluate.baselines": self.baselines,
        }

    def epochs(self, rows: int) -> float:
        """Those of the first step that holds so many rows."""
        return next((epochs for limit, epochs in self.ladder if rows <= limit), self.most)

    def learning_rate(self, method: str) -> float:
        """The rate measured for a method.

        Raises:
            UserError: None was.
        """
        if method not in self.rates:
            known = ", ".join(sorted(self.rates))
            raise UserError(
                f"Recipe {self.plugin_name()} knows no learning rate for method '{method}' (it does for {known}). "
                "Set train.learning_rate."
            )
        return self.rates[method]


FREE_TEXT_LADDER = ((2_000, 3), (10_000, 2))
FREE_TEXT_RATES = {"lora": 2e-4, "norm": 1e-3, "full": 2e-5, "last": 2e-5, "sparse": 2e-4, "norm_head": 2e-4}
