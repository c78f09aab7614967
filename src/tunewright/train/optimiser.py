"""AdamW over named parameters, its state as named tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tunewright.core.settings import TrainSettings

_STATES = ("step", "exp_avg", "exp_avg_sq")


@dataclass(frozen=True, slots=True)
class Optimiser:
    """AdamW (Loshchilov & Hutter 2019) with decay on matrices only."""

    adam: torch.optim.AdamW
    parameters: Mapping[str, nn.Parameter]

    @classmethod
    def over(cls, parameters: Mapping[str, nn.Parameter], settings: TrainSettings) -> Optimiser:
        """Weight decay on matrices; none on gains, biases and other vectors."""
        matrices = [p for p in parameters.values() if p.ndim >= 2]
        vectors = [p for p in parameters.values() if p.ndim < 2]
        groups = [
            {"params": matrices, "weight_decay": settings.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ]
        adam = torch.optim.AdamW(
            [group for group in groups if group["params"]],
            lr=0.0,
            betas=(settings.adam_beta1, settings.adam_beta2),
            eps=settings.adam_epsilon,
            # One pass over memory, several times as fast; it takes every tensor as if it lay in memory row after row.
            fused=all(parameter.is_contiguous() for parameter in parameters.values()),
        )
        return cls(adam, parameters)

    def step(self, rate: float) -> None:
        """One update at the given learning rate; gradients are cleared after it."""
        for group in self.adam.param_groups:
            group["lr"] = rate
        for parameter in self.parameters.values():
            if parameter.grad is not None:
                parameter.grad = parameter.grad.contiguous()  # a transposed one would go to the wrong weights
        self.adam.step()
        for parameter in self.parameters.values():
            torch.autograd.graph.increment_version(parameter)  # by which others see a change; a fused step does not
        self.adam.zero_grad(set_to_none=True)

    def state(self) -> dict[str, Tensor]:
        """Moments and step counts, by parameter name, as they lie in memory: the next step changes them."""
        return {
            f"{name}|{key}": self.adam.state[parameter][key].detach()
            for name, parameter in self.parameters.items()
            if parameter in self.adam.state
            for key in _STATES
        }

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Takes back what `state` gave."""
        for name, parameter in self.parameters.items():
            if f"{name}|step" in state:
                self.adam.state[parameter] = {key: state[f"{name}|{key}"].clone() for key in _STATES}
