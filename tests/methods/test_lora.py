"""LoRA through PEFT: accuracy in bfloat16, files that open elsewhere, and adapters that don't fit."""

from __future__ import annotations

import json
import re

import pytest
import torch
from peft import AutoPeftModelForCausalLM, PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from tunewright.core.errors import UserError
from tunewright.core.plugins import build

from .test_methods import IDS, log_probs, plain_log_probs, trained_a_bit


def saved(open_tiny, folder, kind="llama", **fields):
    method = build("methods", {"name": "lora", **fields})
    model = trained_a_bit(method, method.attach(open_tiny(kind), seed=1))
    method.save(model, folder)
    return method, model


def test_different_seeds_draw_different_adapters(open_tiny):
    method = build("methods", "lora")
    one, two = (method.trained(method.attach(open_tiny("llama"), seed)) for seed in (1, 2))
    assert all(torch.equal(one[n], two[n]) != ("lora_A" in n) for n in one)


def test_a_bfloat16_base_starts_from_the_same_adapter(open_tiny):
    method = build("methods", "lora")
    exact = method.trained(method.attach(open_tiny("llama"), 1))
    rough = method.trained(method.attach(open_tiny("llama", torch.bfloat16), 1))
    assert all(torch.equal(exact[n], rough[n]) for n in exact)
    assert any(not torch.equal(w, w.bfloat16().float()) for w in rough.values()), "drawn in bfloat16"


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_the_adapter_adds_the_scaled_product(kind, open_tiny):
    """Oracle: W + alpha / r * B A, written out."""
    method = build("methods", {"name": "lora", "r": 4, "lora_alpha": 12})
    model = trained_a_bit(method, method.attach(open_tiny(kind), seed=1))
    trained, plain = method.trained(model), open_tiny(kind)
    with torch.no_grad():
        for name in plain.family.adapter_targets(plain):
            a, b = (trained[f"base_model.model.{name}.lora_{m}.default.weight"] for m in "AB")
            change = 3.0 * b @ a
            plain.module.get_submodule(name).weight.add_(change.T if kind == "gpt2" else change)
    assert torch.allclose(log_probs(plain), log_probs(model), rtol=1e-5, atol=1e-5)


def test_a_bfloat16_base_adds_its_adapter_as_closely_as_its_own_output_is_rounded(open_tiny):
    """Adapters stay float32 and are rounded for the product, whose sums are float32."""
    method = build("methods", {"name": "lora", "target_modules": ["q_proj"]})
    model = trained_a_bit(method, method.attach(open_tiny("llama", torch.bfloat16), seed=1))
    layer = model.module.base_model.model.model.layers[0].self_attn.q_proj
    x = torch.randn(5, 32, dtype=torch.bfloat16, generator=torch.Generator().manual_seed(0))
    a, b = layer.lora_A["default"].weight.double(), layer.lora_B["default"].weight.double()
    want = layer.base_layer(x).double() + layer.scaling["default"] * x.double() @ a.T @ b.T
    got = layer(x)
    assert got.dtype == torch.bfloat16
    rounded = 2**-7 * layer.scaling["default"] * x.double().abs() @ a.T.abs() @ b.T.abs()
    assert bool(((got.double() - want).abs() <= 2**-8 * want.abs() + rounded).all())


def test_target_modules_by_ending_or_in_full(open_tiny):
    fields = {"name": "lora", "target_modules": ["v_proj", "model.layers.1.mlp.up_proj"]}
    trained = build("methods", fields).trained(build("methods", fields).attach(open_tiny("llama"), 0))
    places = {re.sub(r"^base_model\.model\.|\.lora_[AB].*$", "", n) for n in trained}
    assert places == {f"model.layers.{i}.self_attn.v_proj" for i in range(3)} | {"model.layers.1.mlp.up_proj"}


def test_unknown_targets_are_told_all_at_once_with_what_there_is(open_tiny):
    method = build("methods", {"name": "lora", "target_modules": ["q_pro", "v_proj", "lm_head"]})
    with pytest.raises(UserError) as caught:
        method.attach(open_tiny("llama"), seed=0)
    first, second = caught.value.problems
    assert "'q_pro'" in first
    assert "Did you mean 'q_proj'" in first
    assert "'lm_head'" in second
    assert "down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj" in second


@pytest.mark.parametrize(
    "fields",
    [
        {"r": 0},
        {"lora_alpha": 0},
        {"lora_alpha": float("nan")},
        {"lora_dropout": 1.0},
        {"target_modules": "q_proj"},
        {"target_modules": []},
        {"target_modules": [3]},
    ],
)
def test_values_out_of_range_are_refused_in_one_sentence(fields):
    with pytest.raises(UserError, match=f"method.{next(iter(fields))}: found") as caught:
        build("methods", {"name": "lora", **fields})
    assert len(caught.value.problems) == 1


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # PEFT's own use of an old name
@pytest.mark.parametrize("kind", ["llama", "gpt2", "gemma3"])
def test_the_files_open_in_peft_and_transformers_as_they_are(kind, open_tiny, tmp_path):
    _, model = saved(open_tiny, tmp_path, kind)
    by_peft = AutoPeftModelForCausalLM.from_pretrained(tmp_path, local_files_only=True)
    on_bare = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model.origin.folder), tmp_path)
    ours = log_probs(model)[: IDS.shape[1] - 1]
    for theirs in (by_peft, on_bare):
        assert torch.allclose(plain_log_probs(theirs), ours, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["gpt2", "qwen3"])
def test_the_merged_model_saves_and_opens_in_transformers(kind, open_tiny, tmp_path):
    method, model = saved(open_tiny, tmp_path / "adapter", kind)
    build("methods", "full").save(method.merge(model), tmp_path / "merged")
    assert not (tmp_path / "merged" / "adapter_config.json").exists()
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    ours = log_probs(model)[: IDS.shape[1] - 1]
    assert torch.allclose(plain_log_probs(plain), ours, rtol=1e-5, atol=1e-5)


def test_a_loaded_adapter_stays_frozen_after_it_was_switched_off(open_tiny, tmp_path):
    method, _ = saved(open_tiny, tmp_path)
    loaded = method.load(open_tiny("llama"), tmp_path)
    with method.off(loaded):
        pass
    assert not any(weight.requires_grad for weight in loaded.module.parameters())


def test_dropout_is_of_training_alone(open_tiny):
    method = build("methods", {"name": "lora", "lora_dropout": 0.5})
    model = trained_a_bit(method, method.attach(open_tiny("llama"), seed=1))
    assert torch.equal(log_probs(model), log_probs(model))
    model.module.train()
    assert not torch.equal(log_probs(model), log_probs(model))


def test_the_adapter_names_the_folder_it_was_trained_on(open_tiny, tmp_path):
    _, model = saved(open_tiny, tmp_path, lora_alpha=8)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(model.origin.folder)
    assert (config["r"], config["lora_alpha"], config["task_type"]) == (16, 8, "CAUSAL_LM")
    assert isinstance(config["lora_alpha"], int), "other readers of PEFT's files expect an integer"


def test_an_adapter_lacking_a_weight_is_refused(open_tiny, tmp_path):
    method, _ = saved(open_tiny, tmp_path)
    weights = load_file(tmp_path / "adapter_model.safetensors")
    del weights[next(n for n in weights if "layers.1.mlp.up_proj.lora_B" in n)]
    save_file(weights, tmp_path / "adapter_model.safetensors")
    with pytest.raises(UserError, match=r"does not fit tiny llama.*layers\.1\.mlp\.up_proj\.lora_B"):
        method.load(open_tiny("llama"), tmp_path)


def test_an_adapter_with_a_weight_of_elsewhere_is_refused(open_tiny, tmp_path):
    method, _ = saved(open_tiny, tmp_path)
    weights = load_file(tmp_path / "adapter_model.safetensors")
    weights["base_model.model.model.layers.7.mlp.up_proj.lora_B.weight"] = torch.zeros(3)
    save_file(weights, tmp_path / "adapter_model.safetensors")
    with pytest.raises(UserError, match=r"layers\.7"):
        method.load(open_tiny("llama"), tmp_path)


@pytest.mark.parametrize("other", ["gpt2", "mamba"])
def test_an_adapter_of_another_architecture_is_refused(other, open_tiny, tmp_path):
    method, _ = saved(open_tiny, tmp_path)
    with pytest.raises(UserError, match=f"does not fit tiny {other}"):
        method.load(open_tiny(other), tmp_path)


def test_an_adapter_of_another_shape_is_refused(open_tiny, tmp_path):
    method, _ = saved(open_tiny, tmp_path)
    weights = load_file(tmp_path / "adapter_model.safetensors")
    name = next(iter(weights))
    weights[name] = torch.zeros(16, 7)
    save_file(weights, tmp_path / "adapter_model.safetensors")
    with pytest.raises(UserError, match="does not fit"):
        method.load(open_tiny("llama"), tmp_path)


def test_a_damaged_file_is_a_sentence(open_tiny, tmp_path):
    method, _ = saved(open_tiny, tmp_path)
    content = (tmp_path / "adapter_model.safetensors").read_bytes()
    (tmp_path / "adapter_model.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="damaged"):
        method.load(open_tiny("llama"), tmp_path)
    (tmp_path / "adapter_config.json").write_text("{")
    with pytest.raises(UserError, match="damaged"):
        method.load(open_tiny("llama"), tmp_path)


def test_a_pickled_adapter_is_never_opened(open_tiny, tmp_path):
    method, _ = saved(open_tiny, tmp_path)
    (tmp_path / "adapter_model.safetensors").rename(tmp_path / "adapter_model.bin")
    with pytest.raises(UserError, match=r"\*\.bin"):
        method.load(open_tiny("llama"), tmp_path)


def test_an_adapter_of_another_type_is_refused(open_tiny, tmp_path):
    method, _ = saved(open_tiny, tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps({**config, "peft_type": "IA3"}))
    with pytest.raises(UserError, match="type IA3"):
        method.load(open_tiny("llama"), tmp_path)
