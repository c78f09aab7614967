"""All weights train."""

from __future__ import annotations

from typing import ClassVar, Literal

from tunewright.methods._freeze import Overwriting, tied
from tunewright.models.contracts import LoadedModel


class Full(Overwriting):
    """Trains every weight of the model; tied weights train once."""

    mixed: ClassVar[bool] = True
    tied: Literal["train", "freeze"] = "train"
    """What a table does that is the output layer too. Under privacy it freezes: no unit's gradient of it is known."""

    def chosen(self, model: LoadedModel) -> list[str]:
        """Every weight under its first name."""
        frozen = set(tied(model.module).values()) if self.tied == "freeze" else set()
        return [name for name, _ in model.module.named_parameters() if name not in frozen]

    def notes(self, model: LoadedModel) -> list[str]:
        """Which weights stay frozen."""
        if self.tied == "train":
            return []
        return [
            f"method full: {name} is tied to another layer, so it stays frozen (method.tied: {self.tied})."
            for name in tied(model.module).values()
        ]
