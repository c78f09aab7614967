"""Attention in bfloat16 by runs of queries: the definition, written out in float64."""

from __future__ import annotations

import pytest
import torch

from tunewright.models import chunked
from tunewright.models.attention import Layout
from tunewright.models.contracts import Segment
from tunewright.pipeline.work import _kept_pairs

CLOSE = 1e-2
"""Largest difference of an output or a gradient, as a share of its size."""


def drawn(heads, places, width=16):
    return torch.randn(1, places, heads, width).to(torch.bfloat16).transpose(1, 2).requires_grad_()


def by_definition(query, key, value, allowed_QK, scale):
    repeats = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(repeats, 1), value.repeat_interleave(repeats, 1)
    scores = (query @ key.transpose(-1, -2) * scale).masked_fill(~allowed_QK, float("-inf"))
    return scores.softmax(-1) @ value


def assert_close(found, wanted):
    assert float((found.double() - wanted).detach().norm()) <= CLOSE * float(wanted.detach().norm())


@pytest.mark.parametrize("queries", [1, 7, 8, 23])
@pytest.mark.parametrize("before", [0, 5])
@pytest.mark.parametrize("kv_heads", [1, 2, 6])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("kept", [True, False])
def test_runs_of_queries_are_attention_by_its_definition(queries, before, kv_heads, masked, kept, monkeypatch):
    torch.manual_seed(queries + before)
    monkeypatch.setattr(chunked, "QUERIES", 8)
    monkeypatch.setattr(chunked, "KEPT", before + queries - (not kept))
    keys = before + queries
    query, key, value = drawn(6, queries), drawn(kv_heads, keys), drawn(kv_heads, keys, width=24 if masked else 16)
    allowed = torch.ones(queries, keys, dtype=torch.bool).tril(before)
    if masked:  # some of what could be seen is not, as between siblings; a query sees itself at least
        allowed &= (torch.rand(queries, keys) < 0.7) | torch.eye(keys, dtype=torch.bool)[before:]
    mask = torch.zeros(queries, keys, dtype=torch.bfloat16).masked_fill_(~allowed, float("-inf"))
    plain = before == 0 and not masked
    found = chunked.attended(query, key, value, None if plain else mask, 0.3)
    exact = [one.detach().double().requires_grad_() for one in (query, key, value)]
    wanted = by_definition(*exact, allowed, 0.3)
    assert_close(found, wanted)
    back = torch.randn(found.shape).to(torch.bfloat16)
    gradients = torch.autograd.grad(found, (query, key, value), back)
    for one, its in zip(gradients, torch.autograd.grad(wanted, exact, back.double()), strict=True):
        assert one.dtype == torch.bfloat16
        assert_close(one, its)


def test_weights_of_long_rows_are_made_again_and_those_of_others_kept_with_the_same_gradients(monkeypatch):
    torch.manual_seed(0)
    given, made, gradients = [drawn(6, 300), drawn(2, 300), drawn(2, 300)], [], []
    weights = chunked._weights
    monkeypatch.setattr(chunked, "_weights", lambda *asked: made.append(1) or weights(*asked))
    for most in (300, 299):
        monkeypatch.setattr(chunked, "KEPT", most)
        answer = chunked.attended(*given, None, 0.3)
        gradients.append(torch.autograd.grad(answer.float().square().sum(), given))
        assert len(made) == (3 if most == 300 else 6)
        made.clear()
    assert all(map(torch.equal, *gradients))


def test_the_forecast_counts_the_pairs_whose_weights_are_kept(monkeypatch):
    made, weights = [], chunked._weights
    monkeypatch.setattr(chunked, "_weights", lambda *asked: made.append(weights(*asked)) or made[-1])
    segments = [Segment(-1, None, -1, 0, 60), Segment(0, None, 0, 60, 256, 0), Segment(1, None, 1, 256, 260, 0)]
    layout = Layout.of([*segments, Segment(2, None, 2, 260, 1540)])
    given = [drawn(6, 1540), drawn(2, 1540), drawn(2, 1540)]
    layout.attend(torch.nn.Module(), *given, {"scaling": 0.25})
    last = 1280 // chunked.QUERIES  # runs of the last row, which is too long to be kept
    assert _kept_pairs(layout) == sum(one.numel() / 6 for one in made[:-last])


def test_packed_rows_in_bfloat16_go_by_runs_of_queries_and_others_by_torch(monkeypatch):
    asked = []
    attended = chunked.attended
    monkeypatch.setattr(chunked, "attended", lambda *given: asked.append(given[0].shape[2]) or attended(*given))
    segments = [Segment(-1, None, -1, 0, 60), Segment(0, None, 0, 60, 200, 0), Segment(1, None, 1, 200, 300, 0)]
    layout = Layout.of(segments)
    query, key, value = drawn(6, 300), drawn(2, 300), drawn(2, 300)
    exact = [one.detach().double() for one in (query, key, value)]
    wanted = layout.attend(torch.nn.Module(), *exact, {"scaling": 0.25})
    assert not asked
    assert_close(layout.attend(torch.nn.Module(), query, key, value, {"scaling": 0.25}), wanted)
    assert sum(asked) == 300, "each query once"
    asked.clear()
    for each in (query, key, value):
        each.requires_grad_(False)
    assert_close(layout.attend(torch.nn.Module(), query, key, value, {"scaling": 0.25}), wanted)
    assert asked == [200], "short blocks without gradient go by torch's kernel"
    with chunked.everywhere():
        layout.attend(torch.nn.Module(), query, key, value, {"scaling": 0.25})
    assert sum(asked) == 500
    asked.clear()
    layout.attend(torch.nn.Module(), query, key, value, {"scaling": 0.25, "dropout": 0.5})
    layout.attend(torch.nn.Module(), query, key, value, {"scaling": 0.25, "softcap": 5.0})
    assert not asked
