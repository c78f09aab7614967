"""Norms, biases, the head, and a small share of the other matrices train."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import Tensor, nn

from tunewright.methods._choice import Policy, chosen, scores
from tunewright.methods._freeze import norms_and_biases
from tunewright.methods._sparse import SparseChange, matrices
from tunewright.models.contracts import LoadedModel


class NormHead(SparseChange):
    """Trains norms, biases and the output head whole, and a small share of every other matrix.

    The recipe of Luo et al. 2021, "Scalable Differential Privacy with Sparse Network Finetuning". A head that is tied
    to the input table stays frozen.
    """

    aliases: ClassVar[tuple[str, ...]] = ("norm+head",)

    policy: Policy = "magnitude"
    """Which coordinates: the largest of the base's, any at random, or those of largest gradient on `public` rows."""
    share: float = Field(default=0.01, ge=0, le=1)
    """Of each other matrix; 0 = none of them."""
    public: str = ""
    """For policy gradient: public texts, one a line, or public pictures, whatever their labels. Never the private
    rows: the choice would leak them."""

    def coordinates(self, model: LoadedModel, seed: int) -> dict[str, Tensor]:
        """The chosen share of every matrix but the head."""
        head, _ = _head(model.module)
        weights = {name: weight for name, weight in matrices(model).items() if name != head}
        if not self.share:
            return {}
        return chosen(weights, self.share, scores(self.policy, model, weights, seed, self.public))

    def whole(self, model: LoadedModel) -> list[str]:
        """Norms, biases and an untied head."""
        head, tied = _head(model.module)
        return [*norms_and_biases(model.module), *([head] if head and not tied else [])]

    def notes(self, model: LoadedModel) -> list[str]:
        """Says so when the head stays frozen."""
        head, tied = _head(model.module)
        if not tied:
            return []
        return [f"method norm_head: {head} is tied to the input embeddings, so it stays frozen; no head trains."]


def _head(module: nn.Module) -> tuple[str, bool]:
    """Name of the output layer's weight (empty when there is none), and whether another module uses it too."""
    found = getattr(module, "get_output_embeddings", lambda: None)()
    layers = {path: part for path, part in module.named_modules() if isinstance(part, nn.Linear)}
    path = next((path for path, part in layers.items() if part is found), "") if found is not None else ""
    if not path and found is None and layers:
        path = list(layers)[-1]
    if not path:
        return "", False
    weight = layers[path].weight
    uses = sum(one is weight for _, one in module.named_parameters(remove_duplicate=False))
    return f"{path}.weight", uses > 1
