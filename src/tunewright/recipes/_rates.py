"""What the recipes share: training length and learning rate from what is known before training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tunewright.core.errors import UserError

FREE_TEXT_EPOCHS = ((2_000, 3), (10_000, 2))
FREE_TEXT_RATES = {"lora": 2e-4, "norm": 1e-3, "full": 2e-5, "last": 2e-5, "sparse": 2e-4, "norm_head": 2e-4}


def by_rows(rows: int, ladder: Sequence[tuple[int, float]], most: float) -> float:
    """The value of the first step `(up to so many rows, value)` that holds `rows`; `most` above the last."""
    return next((value for limit, value in ladder if rows <= limit), most)


def of_method(recipe: str, method: str, rates: Mapping[str, float]) -> float:
    """The recipe's learning rate for a method.

    Raises:
        UserError: The recipe has measured none for this method.
    """
    if method not in rates:
        known = ", ".join(sorted(rates))
        raise UserError(
            f"Recipe {recipe} knows no learning rate for method '{method}' (it does for {known}). "
            "Set train.learning_rate."
        )
    return rates[method]
