"""Plain gradients: however the step is cut into micro-batches, the gradient is that of the mean over its tokens."""

from __future__ import annotations

import pytest
import torch

from tunewright.core.plugins import build, names
from tunewright.models.contracts import LoadedModel, Loss


def gradients(model: LoadedModel, method_name: str, rows, cuts: list[int]) -> dict[str, torch.Tensor]:
    """One step's gradients with the rows cut into micro-batches of the given sizes."""
    objective = build("objectives", "next_token")
    trained = build("methods", method_name).trained(model)
    for weight in trained.values():
        weight.grad = None
    count = float(sum(row.weights.sum() for row in rows))
    start = 0
    with build("gradients", "plain").begin(model, trained, "") as making:
        for size in cuts:
            batch = model.family.collate(model, rows[start : start + size])
            making.accumulate(objective.loss(model, batch, seed=0), count)
            start += size
        assert start == len(rows)
        making.finish(0)
    return {name: weight.grad.clone() for name, weight in trained.items()}


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@pytest.mark.parametrize("method_name", names("methods"))
def test_eight_times_one_equals_one_times_eight(method_name, dtype, tolerance, open_tiny, rows):
    method = build("methods", method_name)
    model = method.attach(open_tiny("llama"), seed=1)
    model.module.to(dtype)
    with torch.no_grad():
        for weight in method.trained(model).values():  # off LoRA's start, where half of the gradients are zero
            weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(2)).to(dtype), alpha=0.05)
    whole = gradients(model, method_name, rows, [8])
    for cuts in ([1] * 8, [3, 1, 4]):
        parts = gradients(model, method_name, rows, cuts)
        for name, want in whole.items():
            scale = float(want.abs().max())
            assert scale > 0
            assert float((parts[name] - want).abs().max()) <= tolerance * scale, name


def test_the_gradient_is_that_of_the_mean_over_the_whole_step():
    """Means of means would give 1/2 (3 + 1) here; the truth is 10 / 4 tokens."""
    weight = torch.nn.Parameter(torch.tensor(1.0))
    with build("gradients", "plain").begin(None, {"weight": weight}, "") as making:
        for slope, count in ((9.0, 3.0), (1.0, 1.0)):
            making.accumulate(Loss(weight * torch.tensor([slope]), torch.tensor([count])), 4.0)
        making.finish(0)
    assert float(weight.grad) == pytest.approx(2.5)


@pytest.mark.parametrize("count", [0.0, -1.0, float("nan"), float("inf")])
def test_a_count_that_is_no_count_stops_before_the_gradient(count):
    weight = torch.nn.Parameter(torch.tensor(1.0))
    making = build("gradients", "plain").begin(None, {"weight": weight}, "")
    with making as adding, pytest.raises(ValueError, match="count"):
        adding.accumulate(Loss(weight * torch.ones(1), torch.ones(1)), count)
    assert weight.grad is None


def test_plain_has_no_settings_and_no_state():
    plain = build("gradients", "plain")
    assert plain == build("gradients", "plain")
    assert not type(plain).model_fields
