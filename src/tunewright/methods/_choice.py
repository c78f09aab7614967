"""Which coordinates of a matrix change: by public knowledge alone, so that the choice costs no privacy."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from tunewright.core.seeds import key
from tunewright.data.encoder import Encoded
from tunewright.methods._public import public_rows
from tunewright.models.contracts import LoadedModel

Policy = Literal["magnitude", "random", "gradient"]


def chosen(weights: Mapping[str, nn.Parameter], share: float, scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The coordinates of highest score in each matrix, sorted.

    Args:
        weights: Matrices by name.
        share: Of each matrix; at least one coordinate.
        scores: Of each matrix, in its shape.
    """
    return {
        name: scores[name].flatten().topk(max(1, math.ceil(share * weight.numel()))).indices.sort().values
        for name, weight in weights.items()
    }


def scores(
    policy: Policy, model: LoadedModel, weights: Mapping[str, nn.Parameter], seed: int, public: str
) -> dict[str, Tensor]:
    """How much each coordinate is wanted.

    `magnitude`: size of the public weight (Luo et al. 2021). `random`: all alike (Adamczewski and Park 2023 find it on
    par). `gradient`: mean square of the loss's gradient on public rows, the diagonal of the Fisher information (Sung et
    al. 2021, "Training Neural Networks with Fixed Sparse Masks").

    Raises:
        UserError: `gradient` without public rows, or with a model that reads none.
    """
    if policy == "magnitude":
        return {name: weight.detach().abs() for name, weight in weights.items()}
    if policy == "random":
        drawn = {name: torch.Generator().manual_seed(key(seed, "sparse", name)) for name in weights}
        return {name: torch.rand(weight.shape, generator=drawn[name]) for name, weight in weights.items()}
    return _by_gradient(model, weights, public_rows(model, public, seed))


def _by_gradient(model: LoadedModel, weights: Mapping[str, nn.Parameter], rows: list[Encoded]) -> dict[str, Tensor]:
    """Row by row: over many rows the gradients of a model that has learned cancel out, their squares do not."""
    trains = {name: weight.requires_grad for name, weight in weights.items()}
    for weight in weights.values():
        weight.requires_grad_(True)
    try:
        squares = {name: torch.zeros_like(weight) for name, weight in weights.items()}
        for row in rows:
            log_prob_T = model.family.token_log_probs(model, model.family.collate(model, [row]))
            grads = torch.autograd.grad(-log_prob_T.sum(), list(weights.values()), materialize_grads=True)
            for name, grad in zip(weights, grads, strict=True):
                squares[name].addcmul_(grad, grad)
    finally:
        for name, weight in weights.items():
            weight.requires_grad_(trains[name])
    return squares
