"""What every method promises, on every kind of tiny model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from tiny import KINDS
from tunewright.core.errors import UserError
from tunewright.core.plugins import build, everything, find, names
from tunewright.core.records import Example
from tunewright.data.encoder import Encoded
from tunewright.models.contracts import LoadedModel
from tunewright.models.head import sliced_head

METHODS = names("methods")
IDS = torch.tensor([[1, 70, 90, 110, 4, 33, 77, 250, 12, 2, 81, 60]])
every_method = pytest.mark.parametrize("name", METHODS)
every_kind = pytest.mark.parametrize("kind", KINDS)


def answers(model: LoadedModel) -> Tensor:
    """Log-probability of each token of two rows, as the family computes it for training."""
    rows = []
    for ids in (IDS[0].numpy(), IDS[0, 3:].flip(0).numpy()):
        at = np.arange(len(ids) - 1)
        weights = np.ones(len(at), np.float32)
        rows.append(Encoded(Example((), ()), {"input_ids": ids}, len(ids), at, ids[1:], weights))
    return model.family.token_log_probs(model, model.family.collate(model, rows))


def log_probs(model: LoadedModel) -> Tensor:
    """The same, asked of a frozen model: PyTorch chooses another convolution for weights that require grad."""
    training = [weight for weight in model.module.parameters() if weight.requires_grad]
    model.module.requires_grad_(False)
    found = answers(model)
    for weight in training:
        weight.requires_grad_(True)
    return found


def assert_same_answers(model: LoadedModel, base: LoadedModel) -> None:
    """Bit for bit; a head with a change on it is read whole instead of in slices, so its sums may round otherwise."""
    sliced = [sliced_head(one) is not None for one in (model, base)] if model.answers_by_head else [True, True]
    rounding = 0 if sliced[0] == sliced[1] else 2e-6
    torch.testing.assert_close(log_probs(model), log_probs(base), rtol=0, atol=rounding)


def plain_log_probs(module: torch.nn.Module) -> Tensor:
    """Log-probability of each token of the first row by a module of transformers or PEFT, nothing of ours."""
    with torch.no_grad():
        log_probs = module(input_ids=IDS, use_cache=False).logits.log_softmax(-1)
    return log_probs[0, :-1].gather(1, IDS[0, 1:, None])[:, 0]


def trained_a_bit(method: Any, model: LoadedModel) -> LoadedModel:
    """Stands in for training: every trained weight moves."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for weight in method.trained(model).values():
            weight.add_(torch.randn(weight.shape, generator=generator), alpha=0.05)
    return model


def test_the_folder_holds_the_methods_of_this_version():
    assert {"full", "last", "lora", "norm"} <= set(METHODS)
    assert find("methods", "bitfit") is find("methods", "norm")


@every_kind
@every_method
def test_only_trained_weights_require_grad_in_float32_and_the_rest_keeps_its_dtype(name, kind, open_tiny):
    method = build("methods", name)
    opened = open_tiny(kind, torch.bfloat16 if method.frozen_dtype == "auto" else torch.float32)
    before = {id(weight): weight.dtype for weight in opened.module.parameters()}
    model = method.attach(opened, seed=1)
    trained = method.trained(model)
    assert trained
    assert {id(w) for w in trained.values()} == {id(w) for w in model.module.parameters() if w.requires_grad}
    assert {w.dtype for w in trained.values()} == {torch.float32}
    frozen = [w for w in model.module.parameters() if not w.requires_grad]
    assert all(before[id(w)] == w.dtype for w in frozen)
    assert len({id(w) for w in trained.values()}) == len(trained), "a weight is named twice"


@every_method
def test_bfloat16_models_train_in_float32(name, open_tiny):
    method = build("methods", name)
    model = method.attach(open_tiny("qwen3", torch.bfloat16), seed=1)
    answers(model).sum().backward()
    assert all(w.dtype == w.grad.dtype == torch.float32 for w in method.trained(model).values())


@every_kind
@every_method
def test_every_trained_weight_gets_a_gradient_and_no_frozen_one_does(name, kind, open_tiny):
    method = build("methods", name)
    model = trained_a_bit(method, method.attach(open_tiny(kind), seed=1))
    answers(model).sum().backward()
    idle = [n for n, w in method.trained(model).items() if w.grad is None or not w.grad.abs().sum() > 0]
    # Keys' biases cancel in the softmax; relu-like gates may close. Nothing else may stay idle.
    assert [n for n in idle if not n.endswith("k_proj.bias")] == []
    assert [n for n, w in model.module.named_parameters() if not w.requires_grad and w.grad is not None] == []


@every_method
def test_two_attaches_with_one_seed_are_equal_and_leave_the_random_stream_alone(name, open_tiny):
    method = build("methods", name)
    torch.manual_seed(3)
    state = torch.get_rng_state()
    one = method.trained(method.attach(open_tiny("llama"), seed=1))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(4)
    two = method.trained(method.attach(open_tiny("llama"), seed=1))
    assert list(one) == list(two) == sorted(one)
    assert all(torch.equal(one[n], two[n]) for n in one)


@every_kind
@every_method
def test_attaching_changes_no_answer(name, kind, open_tiny):
    assert_same_answers(build("methods", name).attach(open_tiny(kind), seed=1), open_tiny(kind))


@every_kind
@every_method
def test_saved_and_loaded_answers_bit_for_bit(name, kind, open_tiny, tmp_path):
    method = build("methods", name)
    dtype = torch.bfloat16 if method.frozen_dtype == "auto" else torch.float32
    model = trained_a_bit(method, method.attach(open_tiny(kind, dtype), seed=1))
    method.save(model, tmp_path / "model")
    loaded = method.load(open_tiny(kind, dtype), tmp_path / "model")
    assert torch.equal(log_probs(loaded), log_probs(model))
    assert not torch.equal(log_probs(loaded), log_probs(open_tiny(kind, dtype))), "the change was lost"
    assert not any(w.requires_grad for w in loaded.module.parameters())
    want, got = method.trained(model), method.trained(loaded)
    assert list(want) == list(got)
    assert all(torch.equal(want[n], got[n]) and got[n].dtype == torch.float32 for n in want)


@every_kind
@every_method
def test_merged_equals_adapted_and_the_adapted_is_untouched(name, kind, open_tiny):
    method = build("methods", name)
    model = trained_a_bit(method, method.attach(open_tiny(kind), seed=1))
    adapted = log_probs(model)
    merged = method.merge(model)
    assert torch.allclose(log_probs(merged), adapted, rtol=1e-5, atol=1e-5)
    assert type(merged.module) is type(open_tiny(kind).module), "merged is not the plain model"
    assert torch.equal(log_probs(model), adapted)
    assert {w.dtype for w in merged.module.parameters()} == {torch.float32}


@every_kind
@every_method
def test_off_answers_as_the_base_or_refuses(name, kind, open_tiny):
    method = build("methods", name)
    model = trained_a_bit(method, method.attach(open_tiny(kind), seed=1))
    if method.overwrites:
        with pytest.raises(RuntimeError, match=f"'{name}' overwrites"), method.off(model):
            pass
        return
    changed, training = log_probs(model), [w for w in model.module.parameters() if w.requires_grad]
    with method.off(model):
        assert_same_answers(model, open_tiny(kind))
    assert torch.equal(log_probs(model), changed)
    assert [id(w) for w in model.module.parameters() if w.requires_grad] == [id(w) for w in training]


@every_method
def test_what_is_saved_has_safetensors_and_a_tokenizer_and_no_pickle(name, open_tiny, tmp_path):
    method = build("methods", name)
    method.save(method.attach(open_tiny("llama"), seed=1), tmp_path)
    files = {path.suffix for path in tmp_path.iterdir()}
    assert ".safetensors" in files
    assert not files & {".bin", ".pt", ".pth", ".pkl"}
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer.chat_template == open_tiny("llama").tokenizer.chat_template
    assert tokenizer("A nurse").input_ids == open_tiny("llama").tokenizer("A nurse").input_ids


@pytest.mark.parametrize("name", [m.plugin_name() for m in everything("methods") if m.overwrites])
def test_whole_models_open_in_transformers_as_they_are(name, open_tiny, tmp_path):
    method = build("methods", name)
    model = trained_a_bit(method, method.attach(open_tiny("gemma3"), seed=1))
    method.save(model, tmp_path)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.allclose(plain_log_probs(plain), log_probs(model)[: IDS.shape[1] - 1], rtol=1e-5, atol=1e-5)


@every_method
def test_an_empty_folder_is_a_fault_told_in_a_sentence(name, open_tiny, tmp_path):
    with pytest.raises(UserError, match=r"found no .*Give the model folder"):
        build("methods", name).load(open_tiny("llama"), tmp_path)


@every_method
def test_unknown_settings_are_refused(name):
    with pytest.raises(UserError, match="unknown key"):
        build("methods", {"name": name, "rang": 8})


# --- which weights ---------------------------------------------------------------------------------------------


def test_full_trains_a_tied_head_once_and_keeps_it_tied(open_tiny):
    model = build("methods", "full").attach(open_tiny("qwen3"), seed=0)
    trained = build("methods", "full").trained(model)
    assert "lm_head.weight" not in trained
    assert model.module.lm_head.weight is trained["model.embed_tokens.weight"]


def test_full_leaves_a_tied_table_frozen_when_asked_and_says_so(open_tiny):
    method = build("methods", {"name": "full", "tied": "freeze"})
    tied = method.attach(open_tiny("qwen3"), 1)
    assert set(build("methods", "full").trained(tied)) - set(method.trained(tied)) == {"model.embed_tokens.weight"}
    assert not tied.module.lm_head.weight.requires_grad
    assert "model.embed_tokens.weight is tied" in method.notes(tied)[0]
    untied = method.attach(open_tiny("llama"), 1)
    assert method.trained(untied).keys() == build("methods", "full").trained(untied).keys()
    assert method.notes(untied) == []


def test_last_trains_an_untied_head(open_tiny):
    method = build("methods", {"name": "last", "layers": 1})
    model = method.attach(open_tiny("llama"), seed=0)
    trained = method.trained(model)
    assert {"lm_head.weight", "model.norm.weight"} <= set(trained)
    assert all(n.startswith(("model.layers.2.", "model.norm.", "lm_head.")) for n in trained)
    inside = [n for n, _ in model.module.named_parameters() if n.startswith("model.layers.2.")]
    assert set(inside) <= set(trained)
    assert method.notes(model) == []


@pytest.mark.parametrize("kind", ["gpt2", "qwen2", "gemma3", "mamba"])
def test_last_leaves_a_tied_head_frozen(kind, open_tiny):
    method = build("methods", {"name": "last", "layers": 3})
    model = method.attach(open_tiny(kind), seed=0)
    assert not model.module.get_input_embeddings().weight.requires_grad
    assert not any("lm_head" in n or "embed" in n for n in method.trained(model))


def test_last_says_when_the_top_shares_a_weight_with_the_bottom(open_tiny, monkeypatch):
    model = open_tiny("qwen3")
    monkeypatch.setattr(type(model.family), "blocks", lambda *_: ["model.layers.2", "model.norm", "lm_head"])
    method = build("methods", {"name": "last", "layers": 1})
    attached = method.attach(model, seed=0)
    assert not attached.module.lm_head.weight.requires_grad
    assert [note for note in method.notes(attached) if "lm_head.weight is tied" in note]


def test_last_refuses_more_layers_than_there_are(open_tiny):
    with pytest.raises(UserError, match=r"found 4, but tiny llama has 3 blocks. Allowed: 1 to 3"):
        build("methods", {"name": "last", "layers": 4}).attach(open_tiny("llama"), seed=0)
    with pytest.raises(UserError, match=r"method.layers: found 0"):
        build("methods", {"name": "last", "layers": 0})


def test_norm_trains_gains_and_biases_and_nothing_else(open_tiny):
    method = build("methods", "norm")
    model = method.attach(open_tiny("qwen2"), seed=0)
    want = {n for n, _ in model.module.named_parameters() if "norm" in n or n.endswith(".bias")}
    assert set(method.trained(model)) == want
    assert any(n.endswith("q_proj.bias") for n in want)
    assert max(w.dim() for w in method.trained(model).values()) == 1


def test_norm_refuses_a_model_without_any(open_tiny):
    model = open_tiny("llama").with_module(torch.nn.Linear(2, 2, bias=False))
    with pytest.raises(UserError, match="neither norm gains nor biases"):
        build("methods", "norm").attach(model, seed=0)


def test_a_damaged_whole_model_is_a_fault_told_in_a_sentence(open_tiny, tmp_path: Path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="found no whole model"):
        build("methods", "full").load(open_tiny("llama"), tmp_path)
