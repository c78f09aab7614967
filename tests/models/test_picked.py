"""Picked log-probabilities: value and gradient of the plain form."""

from __future__ import annotations

import pytest
import torch

from tunewright.models.picked import picked_log_probs


@pytest.mark.parametrize("shared", [False, True])
def test_value_and_gradient_are_those_of_log_softmax(shared):
    draw = torch.Generator().manual_seed(1)
    logits = (5 * torch.randn(6, 40, dtype=torch.float64, generator=draw)).requires_grad_()
    rows = torch.tensor([0, 1, 1, 4, 4, 4]) if shared else torch.arange(6)
    targets = torch.tensor([3, 39, 3, 0, 0, 7])  # row 4 has a target twice
    weights = torch.randn(6, dtype=torch.float64, generator=draw)

    def gradient(of):
        logits.grad = None
        (of(logits) * weights).sum().backward()
        return logits.grad

    plain = lambda x: x.log_softmax(-1)[rows, targets]  # noqa: E731
    ours = lambda x: picked_log_probs(x, rows, targets)  # noqa: E731
    assert torch.equal(plain(logits), ours(logits))
    torch.testing.assert_close(ours(logits.detach()), plain(logits.detach()), rtol=0, atol=1e-14)
    assert torch.allclose(gradient(plain), gradient(ours), rtol=0, atol=1e-14)
    assert torch.autograd.gradcheck(ours, (logits,))
