"""The top of the model trains."""

from __future__ import annotations

from collections import defaultdict
from typing import ClassVar

from pydantic import Field

from tunewright.core.errors import UserError
from tunewright.methods._freeze import Overwriting
from tunewright.models.activations import layer_names
from tunewright.models.contracts import LoadedModel


class Last(Overwriting):
    """Trains the last blocks, and what stands above them: the final norm, and the head where it is not tied."""

    needs: ClassVar[frozenset[str]] = frozenset({"blocks"})

    layers: int = Field(default=2, ge=1)
    """How many of the stacked blocks, counted from the top."""

    def chosen(self, model: LoadedModel) -> list[str]:
        """The weights that lie in the top alone; one shared with the bottom (a tied head) stays frozen."""
        return self._split(model)[0]

    def notes(self, model: LoadedModel) -> list[str]:
        """Names weights of the top that stay frozen because the bottom uses them too."""
        return [
            f"method last: {name} is tied to the input embeddings, so it stays frozen with them."
            for name in self._split(model)[1]
        ]

    def _split(self, model: LoadedModel) -> tuple[list[str], list[str]]:
        """Names of the top's own weights, and of those that it shares with the bottom."""
        prefixes = tuple(f"{name}." for name in self._top(model))
        names_of: dict[int, list[str]] = defaultdict(list)
        for name, weight in model.module.named_parameters(remove_duplicate=False):
            names_of[id(weight)].append(name)
        own: list[str] = []
        shared: list[str] = []
        for names in names_of.values():
            inside = [name for name in names if name.startswith(prefixes)]
            if inside:
                (own if len(inside) == len(names) else shared).append(inside[0])
        return own, shared

    def _top(self, model: LoadedModel) -> list[str]:
        names = model.family.blocks(model)
        stacked = layer_names(model)
        if self.layers > len(stacked):
            raise UserError(
                f"method.layers: found {self.layers}, but {model.origin.name} has {len(stacked)} blocks. "
                f"Allowed: 1 to {len(stacked)}; to train everything use method full."
            )
        return stacked[-self.layers :] + [name for name in names if name not in stacked]
