"""Private gradients of packed batches, at about the cost of plain ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from tunewright.core.errors import UserError
from tunewright.gradients._noise import Clipped, ClippedSum
from tunewright.gradients._rules import refusals, watch_module
from tunewright.gradients._units import require_gradients, unit_losses
from tunewright.models.contracts import Batch, LoadedModel, Loss
from tunewright.models.per_unit import Gradient, Units, Watch, squares_of


class Private(Clipped):
    """Differentially private: clips each unit's gradient, adds noise once a step (DP-SGD, Abadi et al. 2016)."""

    private: ClassVar[bool] = True

    @contextmanager
    def begin(self, model: LoadedModel, trained: Mapping[str, nn.Parameter], secret: str) -> Iterator[Watched]:
        """Watches the trained weights within it.

        Raises:
            UserError: Weights train for which no per-unit gradient is known, or the model mixes rows.
        """
        faults = refusals(model.module, trained)
        if faults:
            raise UserError(faults)
        watch, names = Watch(), {id(weight): name for name, weight in trained.items()}
        removers, marked = [], []
        for part in model.module.modules():
            if hasattr(part, "watch"):
                part.watch = watch
                marked.append(part)
            own = {key: weight for key, weight in part.named_parameters(recurse=False) if id(weight) in names}
            if own and not hasattr(part, "watch"):
                removers += watch_module(part, watch, frozenset(own))
        # A watched module's weights need no gradient of autograd's; those of a fused form say so by themselves.
        inside = {id(weight) for part in marked for weight in part.parameters()}
        silenced = [weight for weight in trained.values() if id(weight) not in inside]
        for weight in silenced:
            weight.requires_grad_(False)
        try:
            yield Watched(self, trained, secret, watch=watch)
        finally:
            for remover in removers:
                remover.remove()
            for part in marked:
                part.watch = None
            for weight in silenced:
                weight.requires_grad_(True)


@dataclass(slots=True, kw_only=True)
class Watched(ClippedSum):
    """A clipped sum of units that share their backward pass."""

    watch: Watch

    def accumulate(self, loss: Loss, count: float, batch: Batch) -> None:
        """Adds the clipped gradients of a micro-batch's units; a unit's rows must all be in it."""
        loss_U, found = self.by_unit(loss, batch)
        missing = [name for name, weight in self.trained.items() if id(weight) not in found]
        if missing:
            raise UserError(
                f"privacy: {missing[0]} trains but no unit's gradient reached it ({len(missing)} such weights). "
                "It may be used outside of its module; use method lora or norm."
            )
        square_U = squares_of(found.values())
        require_gradients(square_U, loss_U)
        factor_U = self.how.factors(square_U)
        for name, weight in self.trained.items():
            self.add(name, found.pop(id(weight)).weighted(factor_U))

    def by_unit(self, loss: Loss, batch: Batch) -> tuple[Tensor, dict[int, Gradient]]:
        """[units] the loss of each unit, and what each gives to each weight, by the weight's identity; unclipped."""
        units = Units.of(batch)
        self.watch.begin(units)
        loss_U = unit_losses(loss, units)
        loss_U.sum().backward()  # type: ignore[no-untyped-call]
        return loss_U, self.watch.end()
