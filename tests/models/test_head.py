"""The output head read slice by slice: values and gradients of the plain form, and when it is not done."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from tiny import PACKING
from tunewright.models import head
from tunewright.models.head import answers_by_head, best, picked

ROWS, WIDTH = 6, 8


class Model(nn.Module):
    """Hidden states of its own, and a head over them."""

    def __init__(self, words: int, bias: bool, cap: float | None = None) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(2)
        self.states = nn.Parameter(torch.randn(ROWS, WIDTH, dtype=torch.float64, generator=draw))
        self.lm_head = nn.Linear(WIDTH, words, bias=bias, dtype=torch.float64)
        with torch.no_grad():
            for weight in self.lm_head.parameters():
                weight.copy_(3 * torch.randn(weight.shape, dtype=torch.float64, generator=draw))
        self.lm_head.requires_grad_(False)
        self.cap = cap
        self.shapes: list[torch.Size] = []

    def get_output_embeddings(self) -> nn.Linear:
        return self.lm_head

    def forward(self, **_: object) -> SimpleNamespace:
        said = self.lm_head(self.states)
        self.shapes.append(said.shape)
        return SimpleNamespace(logits=said if self.cap is None else self.cap * torch.tanh(said / self.cap))

    def loaded(self, by_head: bool = True) -> SimpleNamespace:
        return SimpleNamespace(module=self, answers_by_head=by_head)


def case(words: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(words)
    rows = torch.tensor([0, 1, 1, 4, 4, 4, 5])
    targets = torch.randint(words, (7,), generator=draw)
    targets[0], targets[1], targets[4] = 0, words - 1, targets[3]  # both ends; row 4 has a target twice
    return rows, targets, torch.randn(7, dtype=torch.float64, generator=draw)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("words", [3, head.SLICE, head.SLICE + 1, 3 * head.SLICE - 5])
def test_value_and_gradient_are_those_of_the_whole_vocabulary(words, bias):
    module = Model(words, bias)
    rows, targets, weights = case(words)
    answers = []
    for by_head in (True, False):
        module.states.grad = None
        found = picked(module.loaded(by_head), lambda: module().logits, rows, targets)
        (found * weights).sum().backward()
        answers.append((found.detach(), module.states.grad))
    (value, grad), (plain, plain_grad) = answers
    assert module.shapes == [(ROWS, WIDTH), (ROWS, words)]
    torch.testing.assert_close(value, plain, rtol=0, atol=1e-12)
    torch.testing.assert_close(grad, plain_grad, rtol=0, atol=1e-12)


def test_the_gradient_is_that_of_finite_differences():
    module = Model(head.SLICE + 9, bias=True)
    rows, targets, _ = case(head.SLICE + 9)

    def found(states: torch.Tensor) -> torch.Tensor:
        return picked(module.loaded(), lambda: module.lm_head(states), rows, targets)

    assert torch.autograd.gradcheck(found, (module.states,))


@pytest.mark.parametrize("size", [1e3, 1e-3])
def test_no_probability_is_above_one_however_large_logits_are(size):
    module = Model(2 * head.SLICE, bias=False).float()
    with torch.no_grad():
        module.lm_head.weight.mul_(size)
    rows = torch.arange(ROWS)
    with torch.no_grad():
        likeliest = best(module.loaded(), lambda: module().logits)
        found = picked(module.loaded(), lambda: module().logits, rows, likeliest)
    assert torch.isfinite(found).all()
    assert (found <= 0).all()


def test_half_precision_is_summed_in_single():
    module = Model(3 * head.SLICE, bias=False).bfloat16()
    rows, targets, _ = case(3 * head.SLICE)
    with torch.no_grad():
        found, plain = (picked(module.loaded(by), lambda: module().logits, rows, targets) for by in (True, False))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, plain, rtol=0, atol=1e-5)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("few", [0, ROWS])
def test_the_likeliest_token_is_the_first_of_equals(few, bias, monkeypatch):
    monkeypatch.setattr(head, "FEW", few)
    module = Model(4 * head.SLICE, bias)
    with torch.no_grad():
        for weight in module.lm_head.parameters():
            weight[3 * head.SLICE :] = weight[: head.SLICE]
        found = best(module.loaded(), lambda: module().logits)
        logits = module().logits
    first = [int((row == row.max()).nonzero()[0]) for row in logits]
    assert found.tolist() == first
    assert max(first) < 3 * head.SLICE


def test_a_cap_on_the_logits_is_noticed():
    assert answers_by_head(Model(20, bias=False))
    assert not answers_by_head(Model(20, bias=False, cap=5.0))


@pytest.mark.parametrize("attach", ["learns", "forward hook", "own forward", "another class"])
def test_a_head_that_learns_or_carries_something_is_asked_as_a_whole(attach):
    module = Model(20, bias=False)
    if attach == "learns":
        module.lm_head.requires_grad_()
    elif attach == "forward hook":
        module.lm_head.register_forward_hook(lambda *_: None)
    elif attach == "own forward":
        module.lm_head.forward = lambda x: 2 * nn.functional.linear(x, module.lm_head.weight)
    else:
        module.lm_head.__class__ = type("Wrapped", (nn.Linear,), {})
    rows, targets = torch.arange(ROWS), torch.arange(ROWS)
    found = picked(module.loaded(), lambda: module().logits, rows, targets)
    assert module.shapes == [(ROWS, 20)]
    torch.testing.assert_close(found, module().logits.log_softmax(-1)[rows, targets])


def test_a_head_that_learns_is_read_in_slices_where_no_gradient_is_kept():
    module = Model(20, bias=False)
    module.lm_head.requires_grad_()
    with torch.inference_mode():
        picked(module.loaded(), lambda: module().logits, torch.arange(ROWS), torch.arange(ROWS))
    assert module.shapes == [(ROWS, WIDTH)]


def test_the_head_is_itself_again_after_an_error():
    module = Model(20, bias=False)

    def fails() -> torch.Tensor:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        picked(module.loaded(), fails, torch.arange(ROWS), torch.arange(ROWS))
    assert module().logits.shape == (ROWS, 20)


@pytest.mark.parametrize("kind", PACKING)
def test_architectures_are_told_apart_when_they_are_opened(open_tiny, kind):
    assert open_tiny(kind, torch.float32).answers_by_head == (kind != "gemma3")  # caps its logits
