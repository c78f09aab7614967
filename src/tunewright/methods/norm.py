"""Norm gains and biases train."""

from __future__ import annotations

from typing import ClassVar

from tunewright.core.errors import UserError
from tunewright.methods._freeze import Overwriting, norms_and_biases
from tunewright.models.contracts import LoadedModel


class Norm(Overwriting):
    """Trains the gains of the norms and every bias.

    Ben Zaken et al. 2022, "BitFit" (biases); the gains are added because most of today's models have no biases.
    """

    aliases: ClassVar[tuple[str, ...]] = ("bitfit",)

    def chosen(self, model: LoadedModel) -> list[str]:
        """Weights that sit directly in a norm, and all biases."""
        names = norms_and_biases(model.module)
        if not names:
            raise UserError(
                f"method norm: {model.origin.name} has neither norm gains nor biases to train. "
                "Use another method, such as lora or last."
            )
        return names
