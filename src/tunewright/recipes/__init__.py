"""Named plans: a recipe only names plugins and their settings, and says which data it is for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

from tunewright.core import plugins
from tunewright.core.errors import UserError


class Recipe(plugins.Named, Protocol):
    """The contract of this folder."""

    needs_labels: ClassVar[bool]
    """Whether rows without a closed label set cannot be used."""

    def match(self, labels: Sequence[str], has_context: bool) -> bool:
        """Whether this recipe is the natural one for such rows; `labels` is the closed set, or empty."""

    def defaults(self) -> dict[str, Any]:
        """Dotted plan keys -> values that stand between the built-in defaults and the user's plan."""

    def instruction(self, labels: Sequence[str]) -> str:
        """What to put before the text of a row; empty = nothing."""

    def epochs(self, rows: int) -> float:
        """How often to see so many training rows."""

    def learning_rate(self, method: str) -> float:
        """Peak learning rate for a method.

        Raises:
            UserError: None is known for that method.
        """


def choose_recipe(labels: Sequence[str], has_context: bool, name: str | None = None, format_name: str = "") -> Recipe:
    """The named recipe, or that of the format, or the one that matches the rows.

    Args:
        labels: The closed label set of the rows; empty when there is none.
        has_context: Whether any row has something before its answer.
        name: `recipe` of the plan.
        format_name: The rows' format; some have a recipe of their own.

    Raises:
        UserError: Unknown name, or a recipe that these rows cannot serve.
    """
    own = getattr(plugins.find("formats", format_name), "recipe", None) if format_name else None
    if name is not None and own not in (None, name):
        raise UserError(
            f"Recipe {name} cannot use rows of the format {format_name}. Use --recipe {own}, or name another format "
            "(data.format)."
        )
    name = name or own
    if name is not None:
        recipe: Recipe = plugins.build("recipes", name)
        if recipe.needs_labels and not labels:
            raise UserError(
                f"Recipe {name} needs rows with a closed set of labels, and these have none. "
                "Name the label column (--map label=COLUMN), or leave --recipe out."
            )
        return recipe
    for kind in plugins.everything("recipes"):
        candidate: Recipe = kind()
        if candidate.match(labels, has_context):
            return candidate
    raise UserError(f"No recipe fits these rows. Choose one: --recipe {' | '.join(plugins.names('recipes'))}.")
