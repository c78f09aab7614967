"""All weights train."""

from __future__ import annotations

from tunewright.methods._freeze import Overwriting
from tunewright.models.contracts import LoadedModel


class Full(Overwriting):
    """Trains every weight of the model; tied weights train once."""

    def chosen(self, model: LoadedModel) -> list[str]:
        """Every weight under its first name."""
        return [name for name, _ in model.module.named_parameters()]

    def notes(self, model: LoadedModel) -> list[str]:
        """Nothing to say."""
        return []
