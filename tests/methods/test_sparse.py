"""Sparse changes: few coordinates, chosen by public knowledge, stored as such."""

from __future__ import annotations

import pytest
import torch

from tunewright.core.errors import UserError
from tunewright.core.plugins import build, find

from .test_methods import log_probs, trained_a_bit


def changes(model):
    return {p: m.sparse_change for p, m in model.module.named_modules() if hasattr(m, "sparse_change")}


@pytest.mark.parametrize("policy", ["magnitude", "random", "gradient"])
def test_a_share_of_every_matrix_is_chosen(open_tiny, tmp_path, policy):
    public = tmp_path / "public.txt"
    public.write_text("The baker bakes bread before dawn.\nA nurse writes down what the patient said.\n")
    method = build("methods", {"name": "sparse", "policy": policy, "share": 0.05, "public": str(public)})
    base = open_tiny("llama")
    weights = {n: w.detach().clone() for n, w in base.module.named_parameters()}
    found = changes(method.attach(base, 1))
    assert len(found) == 3 * 7 + 1  # an untied head is a matrix like others
    for path, change in found.items():
        weight = weights[f"{path}.weight"]
        assert len(change.coordinate_K) == -(-weight.numel() * 5 // 100)
        if policy == "magnitude":
            taken = weight.flatten()[change.coordinate_K].abs().min()
            left = weight.flatten().abs().index_fill(0, change.coordinate_K, 0).max()
            assert taken >= left
    assert all(w.grad is None for w in base.module.parameters())


def test_the_gradient_policy_without_public_texts_is_refused(open_tiny):
    with pytest.raises(UserError, match="public texts"):
        build("methods", {"name": "sparse", "policy": "gradient"}).attach(open_tiny("llama"), 1)


@pytest.mark.parametrize("name", ["sparse", "norm_head"])
def test_the_stored_change_is_small_and_merging_changes_exactly_the_chosen_coordinates(open_tiny, tmp_path, name):
    method = build("methods", name)
    base = {n: w.detach().clone() for n, w in open_tiny("llama").module.named_parameters()}
    model = trained_a_bit(method, method.attach(open_tiny("llama"), 1))
    log_probs(model)
    method.save(model, tmp_path)
    whole = sum(base[n].numel() for n in model.module.sparse_whole)
    sparse = sum(len(change.values) for change in changes(model).values())
    size = (tmp_path / "sparse_change.safetensors").stat().st_size
    assert size < 4 * whole + 8 * sparse + 20_000
    merged = dict(method.merge(model).module.named_parameters())
    assert merged.keys() == base.keys()
    for name_, weight in merged.items():
        path = name_.removesuffix(".weight")
        moved = (weight != base[name_]).flatten()
        if path in changes(model):
            change = changes(model)[path]
            assert torch.equal(moved.nonzero()[:, 0], change.coordinate_K)
            assert torch.equal(weight.flatten()[change.coordinate_K], change.base_K + change.values)
        else:
            assert bool(moved.any()) == (name_ in model.module.sparse_whole)


def test_norm_and_head_is_its_other_name_and_says_when_no_head_trains(open_tiny):
    assert find("methods", "norm+head") is find("methods", "norm_head")
    method = build("methods", "norm+head")
    tied = method.attach(open_tiny("qwen3"), 1)
    assert "lm_head.weight" not in method.trained(tied)
    assert "stays frozen" in method.notes(tied)[0]
    untied = method.attach(open_tiny("llama"), 1)
    assert "lm_head.weight" in method.trained(untied)
    assert method.notes(untied) == []


def test_tables_with_two_uses_are_named_as_frozen(open_tiny):
    method = build("methods", "sparse")
    tied = method.attach(open_tiny("qwen3"), 1)
    assert "lm_head" not in changes(tied)
    assert "model.embed_tokens.weight is tied" in method.notes(tied)[0]
    assert method.notes(method.attach(open_tiny("llama"), 1)) == []


def test_two_forwards_before_a_backward_are_one_function(open_tiny):
    method = build("methods", "sparse")
    model = method.attach(open_tiny("llama"), 1)
    from .test_methods import answers

    (answers(model).sum() + answers(model).sum()).backward()
    twice = {n: w.grad.clone() for n, w in method.trained(model).items()}
    for weight in method.trained(model).values():
        weight.grad = None
    answers(model).sum().backward()
    assert all(torch.allclose(twice[n], 2 * w.grad, rtol=1e-4, atol=1e-6) for n, w in method.trained(model).items())
