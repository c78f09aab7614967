"""The optimiser against PyTorch's plain loop, whatever the layout in memory."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tunewright.core.settings import TrainSettings
from tunewright.train.optimiser import Optimiser


def drawn(seed, turned):
    """A 5 x 7 matrix, the same numbers either way; `turned` lies in memory column after column."""
    matrix = torch.randn(5, 7, generator=torch.Generator().manual_seed(seed))
    return matrix.t().contiguous().t() if turned else matrix


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("turned_weight", [False, True])
@pytest.mark.parametrize("turned_gradient", [False, True])
def test_a_step_is_that_of_the_plain_loop(dtype, turned_weight, turned_gradient):
    weight, vector = nn.Parameter(drawn(0, turned_weight).to(dtype)), nn.Parameter(torch.ones(3, dtype=dtype))
    plain = [nn.Parameter(drawn(0, False).to(dtype)), nn.Parameter(torch.ones(3, dtype=dtype))]
    settings = TrainSettings()
    groups = [
        {"params": plain[:1], "weight_decay": settings.weight_decay},
        {"params": plain[1:], "weight_decay": 0.0},
    ]
    betas = (settings.adam_beta1, settings.adam_beta2)
    wanted = torch.optim.AdamW(groups, lr=1e-2, betas=betas, eps=settings.adam_epsilon, foreach=False, fused=False)
    optimiser = Optimiser.over({"weight": weight, "vector": vector}, settings)
    for step in range(1, 4):
        weight.grad, vector.grad = drawn(step, turned_gradient).to(dtype), torch.full((3,), float(step), dtype=dtype)
        plain[0].grad, plain[1].grad = drawn(step, False).to(dtype), vector.grad.clone()
        optimiser.step(1e-2)
        wanted.step()
        again = Optimiser.over(optimiser.parameters, settings)
        again.load(optimiser.state())  # as a resumed run does
        optimiser = again
    for found, expected in zip((weight, vector), plain, strict=True):
        assert torch.allclose(found, expected, rtol=1e-5, atol=1e-7)


def test_a_step_is_seen_by_those_who_look_at_a_weights_version():
    """Sparse changes are written into their weight when the version of their values has moved."""
    weight = nn.Parameter(torch.ones(3))
    optimiser = Optimiser.over({"weight": weight}, TrainSettings())
    weight.grad, before = torch.ones(3), weight._version
    optimiser.step(1e-2)
    assert weight._version > before
