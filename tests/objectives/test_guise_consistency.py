"""The consistency objective: its divergence against the definition, what it adds to a row, and that it is learnt."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tiny import KINDS
from tunewright.core.plugins import build
from tunewright.data.dialect import frames, make_pairs
from tunewright.models.encoding import plain_ids
from tunewright.models.families.causal_lm import _plain_logits
from tunewright.objectives.guise_consistency import _guises, divergence

OBJECTIVE = build("objectives", {"name": "guise_consistency", "weight": 2.0})
PLAIN = build("objectives", "next_token")


def test_divergence_is_kullback_and_leiblers_and_moves_only_the_dialects_side() -> None:
    torch.manual_seed(0)
    sides = [torch.randn(4, 9, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    logs = [side.log_softmax(-1) for side in sides]
    found = divergence(logs[0], logs[1])
    p, q = (log.exp().detach().numpy() for log in logs)
    np.testing.assert_allclose(found.detach().numpy(), (p * np.log(p / q)).sum(1))
    found.sum().backward()
    assert sides[0].grad is None
    np.testing.assert_allclose(sides[1].grad.numpy(), q - p, atol=1e-12)
    assert float(divergence(logs[0], logs[0]).detach().abs().max()) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_gets_the_divergence_of_its_own_pair(kind, open_tiny, rows) -> None:
    model = open_tiny(kind, torch.float32)
    batch = model.family.collate(model, rows)
    with torch.no_grad():
        found, plain = OBJECTIVE.loss(model, batch, 5), PLAIN.loss(model, batch, 5)
    for number, row in enumerate(batch.ids):
        logs = [
            _plain_logits(model.module, plain_ids(model.tokenizer, text))[-1].float().log_softmax(-1)
            for text in _guises(5, row)
        ]
        apart = float(torch.nn.functional.kl_div(logs[1], logs[0], log_target=True, reduction="sum"))
        assert apart > 0
        added = float(found.sum_S[number] - plain.sum_S[number])
        assert added == pytest.approx(2.0 * float(plain.count_S[number]) * apart, rel=2e-3, abs=1e-5)
    assert torch.equal(found.count_S, plain.count_S)


def test_a_rows_pair_does_not_depend_on_its_batch_and_comes_from_the_trained_portion(open_tiny, rows) -> None:
    model = open_tiny("llama", torch.float64)
    with torch.no_grad():
        whole = OBJECTIVE.loss(model, model.family.collate(model, rows), 1).sum_S
        halves = [OBJECTIVE.loss(model, model.family.collate(model, part), 1).sum_S for part in (rows[:3], rows[3:])]
    torch.testing.assert_close(whole, torch.cat(halves), rtol=1e-9, atol=1e-9)
    trained = {text for pair in make_pairs(1344, "trained") for text in (pair.variant, pair.standard)}
    held_out = {text for pair in make_pairs(1344, "held_out") for text in (pair.variant, pair.standard)}
    assert not trained & held_out
    assert not set(frames("trained")) & set(frames("held_out"))
    said = {_guises(seed, "x") for seed in range(50)}
    assert len(said) > 40
    assert all(any(text in prompt for text in trained) for prompts in said for prompt in prompts)


def test_training_on_it_brings_the_sides_together(open_tiny, rows) -> None:
    model = open_tiny("llama", torch.float32)
    module = model.module.requires_grad_(True)
    batch = model.family.collate(model, rows)
    optimiser = torch.optim.Adam(module.parameters(), lr=3e-3)

    def apart() -> float:
        with torch.no_grad():
            return float((OBJECTIVE.loss(model, batch, 3).sum_S - PLAIN.loss(model, batch, 3).sum_S).sum())

    before = apart()
    for _ in range(12):
        optimiser.zero_grad()
        OBJECTIVE.loss(model, batch, 3).sum_S.sum().backward()
        optimiser.step()
    assert apart() < 0.5 * before
