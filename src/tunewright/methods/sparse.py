"""A small share of the matrices' coordinates trains."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor

from tunewright.core.errors import UserError
from tunewright.methods._choice import Policy, chosen, scores
from tunewright.methods._freeze import tied
from tunewright.methods._sparse import SparseChange, matrices
from tunewright.models.contracts import LoadedModel


class Sparse(SparseChange):
    """Trains a small share of the coordinates of every matrix; the change is stored as such, a few megabytes.

    After Luo et al. 2021, "Scalable Differential Privacy with Sparse Network Finetuning": under privacy, noise grows
    with the number of trained coordinates, so few, well chosen ones keep more of the signal.
    """

    policy: Policy = "magnitude"
    """Which coordinates: the largest of the base's, any at random, or those of largest gradient on `public` rows."""
    share: float = Field(default=0.01, gt=0, le=1)
    """Of each matrix."""
    public: str = ""
    """For policy gradient: public texts, one a line, or public pictures, whatever their labels. Never the private
    rows: the choice would leak them."""

    def coordinates(self, model: LoadedModel, seed: int) -> dict[str, Tensor]:
        """The chosen share of every matrix that is no table of tokens and not tied to one."""
        weights = matrices(model)
        if not weights:
            raise UserError(
                f"method sparse: {model.origin.name} has no matrices to choose from. Use method norm or full."
            )
        return chosen(weights, self.share, scores(self.policy, model, weights, seed, self.public))

    def notes(self, model: LoadedModel) -> list[str]:
        """Names the tables with two uses, in which nothing is chosen."""
        return [
            f"method sparse: {name} is tied to another layer, so it stays frozen; no coordinate of it trains."
            for name in tied(model.module).values()
        ]
