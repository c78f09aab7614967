"""Mitigations: rows mixed in, adapters projected against a dense oracle, the prompt in the saved template."""

from __future__ import annotations

import copy
import json
from collections import Counter
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tunewright.core.errors import UserError
from tunewright.core.plugins import build, everything
from tunewright.core.records import Answer, Example, Turn, text_part
from tunewright.data.hazards import is_refusal
from tunewright.evaluate.probes._safety_sets import requests
from tunewright.mitigations._base import Effect, Mitigation
from tunewright.mitigations.safety_mix import _SHIPPED, refusals
from tunewright.models.contracts import EncodeSettings
from tunewright.train.order import Order

ROWS = [Example((Turn("user", (text_part(f"Question {k}?"),)),), (Answer((text_part("Yes."),)),)) for k in range(200)]


@pytest.mark.parametrize("plugin", everything("mitigations"), ids=lambda plugin: plugin.plugin_name())
def test_every_mitigation_says_what_is_wrong_before_anything_runs_and_leaves_other_steps_alone(plugin, open_tiny):
    one, model = plugin(), open_tiny("qwen2")
    assert isinstance(one, Mitigation)
    assert all(isinstance(sentence, str) and sentence for sentence in one.check(ROWS, model, "lora"))
    assert all(isinstance(row, Example) for row in one.more_rows(ROWS))
    served = one.serve(model)
    assert one.serve(served).tokenizer.chat_template == served.tokenizer.chat_template
    assert served.module is model.module


def test_shipped_refusals_refuse_and_are_none_of_what_the_probe_asks():
    pairs = refusals(_SHIPPED)
    assert len(pairs) == len({request for request, _ in pairs}) == 80
    assert all(is_refusal(answer) for _, answer in pairs)
    assert not {request for request, _ in pairs} & {asked.text for asked in requests("shipped")}


@pytest.mark.parametrize(("share", "rows"), [(0.03, 6), (0.001, 1), (0.3, 60), (1.0, 80)])
def test_as_many_refusals_as_the_share_of_rows_at_most_all(share, rows):
    mix = build("mitigations", {"name": "safety_mix", "share": share})
    added = mix.more_rows(ROWS)
    assert len(added) == rows
    assert added == mix.more_rows(ROWS)
    assert len({row.id for row in added}) == rows


def test_fewer_refusals_than_the_share_asks_for_are_told_before_training(caplog):
    mix = build("mitigations", {"name": "safety_mix", "share": 0.5})
    assert mix.check(ROWS, None, "lora") == []
    assert "80 of 100 refusals asked for" in caplog.text
    assert "rows: FILE" in caplog.text
    caplog.clear()
    assert build("mitigations", {"name": "safety_mix", "share": 0.4}).check(ROWS, None, "lora") == []
    assert caplog.text == ""


def test_own_refusals_come_from_a_file_and_faults_name_the_line(tmp_path):
    path = tmp_path / "own.jsonl"
    path.write_text('{"prompt": "a", "completion": "No."}\n\n')
    assert refusals(path) == [("a", "No.")]
    path.write_text('{"prompt": "a"}\nnonsense\n{"prompt": "a", "completion": " "}\n')
    mix = build("mitigations", {"name": "safety_mix", "rows": str(path)})
    assert [f"line {k}" in sentence for k, sentence in enumerate(mix.check(ROWS, None, "lora"), 1)] == [True] * 3
    with pytest.raises(UserError, match="does not exist"):
        refusals(tmp_path / "none.jsonl")


@pytest.mark.parametrize(("rows", "woven"), [(100, 7), (100, 25), (96, 30), (5, 3), (100, 1)])
@pytest.mark.parametrize("prompts", [None, "pairs"])
def test_woven_rows_lie_evenly_in_every_epoch_and_leave_the_others_where_they_were(rows, woven, prompts):
    numbers = None if prompts is None else np.arange(rows) // 2
    plain, mixed = Order(rows, 4, 3, numbers), Order(rows, 4, 3, numbers, woven)
    steps = plain.steps_an_epoch
    assert mixed.steps_an_epoch == steps
    for epoch in range(2):
        added = []
        for k in range(epoch * steps, (epoch + 1) * steps):
            step = mixed.step(k)
            assert [row for row in step if row < rows] == plain.step(k)
            added.append([row for row in step if row >= rows])
            assert sorted(chain.from_iterable(mixed.micro_batches(k, 2))) == sorted(step)
        assert Counter(chain.from_iterable(added)) == Counter(range(rows, rows + woven))
        running = np.cumsum([len(one) for one in added])
        assert np.abs(running - woven * np.arange(1, steps + 1) / steps).max() < 1
    assert mixed.step(0) != mixed.step(steps) or rows <= 5


@pytest.fixture
def adapted(open_tiny, tmp_path):
    """A LoRA model with adapters that do something, and the folder of a model that it was aligned from."""

    def make(kind, r=4, **fields):
        model = open_tiny(kind)
        method = build("methods", {"name": "lora", "r": r})
        folder = tmp_path / "unaligned"
        folder.mkdir()
        weights = load_file(model.origin.folder / "model.safetensors")
        draw = torch.Generator().manual_seed(5)
        moved = {
            name: weight + 0.1 * torch.randn(weight.shape, generator=draw) if weight.dim() == 2 else weight
            for name, weight in weights.items()
        }
        save_file(moved, folder / "model.safetensors", {"format": "pt"})
        (folder / "config.json").write_bytes((model.origin.folder / "config.json").read_bytes())
        tuned = method.attach(model, 0)
        with torch.no_grad():
            for name, weight in method.trained(tuned).items():
                weight.copy_(torch.randn(weight.shape, generator=draw) * (0.3 if "lora_B" in name else 1))
        return tuned, moved, build("mitigations", {"name": "safe_lora", "unaligned": str(folder), **fields})

    return make


def layers(model):
    return {n.removeprefix("base_model.model."): m for n, m in model.module.named_modules() if hasattr(m, "lora_A")}


@pytest.mark.parametrize(("kind", "r"), [("qwen2", 4), ("gpt2", 4), ("qwen2", 32)])
def test_projection_is_that_of_the_dense_matrix_module_by_module(adapted, kind, r):
    """With r = 32 = the width, A and B cannot be told by their shapes: names must pair them."""
    model, unaligned, mitigation = adapted(kind, r, threshold=1.0)
    before = {
        name: (m.lora_A["default"].weight.detach().clone(), m.lora_B["default"].weight.detach().clone())
        for name, m in layers(model).items()
    }
    effect = mitigation.project(model)
    assert isinstance(effect, Effect)
    told = {fact["module"]: fact for fact in effect.facts["adapters"]}
    for name, layer in layers(model).items():
        a, b = before[name]
        v = layer.base_layer.weight - unaligned[f"{name}.weight"]
        v = v.T if layer.fan_in_fan_out else v
        c = v @ v.T / torch.linalg.norm(v)
        assert torch.allclose(layer.lora_B["default"].weight, c @ b, atol=1e-4)
        assert torch.equal(layer.lora_A["default"].weight, a)
        cosine = torch.cosine_similarity((c @ b @ a).flatten(), (b @ a).flatten(), 0)
        assert told[name]["cosine"] == pytest.approx(float(cosine), abs=1e-4)
        assert told[name]["projected"]


def test_a_threshold_or_a_number_chooses_the_adapters_of_lowest_cosine(adapted):
    model, _, mitigation = adapted("qwen2", layers=3)
    before = {name: m.lora_B["default"].weight.detach().clone() for name, m in layers(model).items()}
    facts = mitigation.project(model).facts["adapters"]
    lowest = {fact["module"] for fact in sorted(facts, key=lambda fact: fact["cosine"])[:3]}
    assert {fact["module"] for fact in facts if fact["projected"]} == lowest
    changed = {n for n, m in layers(model).items() if not torch.equal(m.lora_B["default"].weight, before[n])}
    assert changed == lowest


def test_modules_without_a_direction_are_told_and_stay_as_they_were_trained(adapted):
    model, unaligned, mitigation = adapted("qwen2", threshold=1.0)
    path = Path(mitigation.unaligned) / "model.safetensors"
    aligned = load_file(model.origin.folder / "model.safetensors")
    alike = [name for name in layers(model) if "q_proj" not in name]
    same = {f"{name}.weight": aligned[f"{name}.weight"] for name in alike}
    save_file({**unaligned, **same}, path, {"format": "pt"})
    before = {name: m.lora_B["default"].weight.detach().clone() for name, m in layers(model).items()}
    effect = mitigation.project(model)
    turned = len(before) - len(alike)
    assert f"{turned} of {len(before)} adapters were projected" in effect.sentence
    assert f"In {len(alike)} modules both models have the same weights" in effect.sentence
    assert effect.facts["without_direction"] == alike
    assert all(torch.equal(layers(model)[name].lora_B["default"].weight, before[name]) for name in alike)


def test_what_cannot_be_projected_is_told_before_training_or_refused(adapted, open_tiny, tmp_path):
    model, _, mitigation = adapted("qwen2")
    assert mitigation.check(ROWS, open_tiny("qwen2"), "lora") == []
    assert "method 'full' has none" in mitigation.check(ROWS, model, "full")[0]
    assert "name the model" in build("mitigations", "safe_lora").check(ROWS, model, "lora")[0]
    itself = build("mitigations", {"name": "safe_lora", "unaligned": str(model.origin.folder)})
    other = build("mitigations", {"name": "safe_lora", "unaligned": str(open_tiny("gpt2").origin.folder)})
    for wrong, why in ((itself, "no direction of alignment"), (other, "has no such weight")):
        assert why in wrong.check(ROWS, open_tiny("qwen2"), "lora")[0]
        with pytest.raises(UserError, match=why):
            wrong.project(model)
    with pytest.raises(UserError, match="threshold"):
        build("mitigations", {"name": "safe_lora", "threshold": None})


def test_another_shape_is_told_before_training(adapted, open_tiny):
    _, moved, mitigation = adapted("qwen2")
    name = next(name for name in moved if name.endswith("q_proj.weight"))
    save_file(moved | {name: torch.zeros(3, 5)}, f"{mitigation.unaligned}/model.safetensors", {"format": "pt"})
    (fault,) = mitigation.check(ROWS, open_tiny("qwen2"), "lora")
    assert f"of '{name}' {mitigation.unaligned} has the shape (3, 5)" in fault


@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16])
def test_rounding_to_bfloat16_is_no_direction_of_alignment(adapted, open_tiny, tmp_path, stored):
    """The model opened in bfloat16, and itself, stored as it is or rounded, as the one before its alignment."""
    model, _, _ = adapted("qwen2")
    weights = load_file(model.origin.folder / "model.safetensors")
    folder = tmp_path / "same"
    folder.mkdir()
    save_file({name: w.to(stored) for name, w in weights.items()}, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_bytes((model.origin.folder / "config.json").read_bytes())
    same = build("mitigations", {"name": "safe_lora", "unaligned": str(folder)})
    for layer in layers(model).values():
        layer.base_layer.to(torch.bfloat16)
    assert "no direction" in same.check(ROWS, open_tiny("qwen2"), "lora")[0]
    with pytest.raises(UserError, match="no direction"):
        same.project(model)


def test_in_bfloat16_the_direction_is_that_of_the_stored_weights(adapted):
    model, unaligned, mitigation = adapted("qwen2", threshold=1.0)
    stored = load_file(model.origin.folder / "model.safetensors")
    before = {name: m.lora_B["default"].weight.detach().clone() for name, m in layers(model).items()}
    for layer in layers(model).values():
        layer.base_layer.to(torch.bfloat16)
    mitigation.project(model)
    for name, layer in layers(model).items():
        v = stored[f"{name}.weight"] - unaligned[f"{name}.weight"]
        assert torch.allclose(layer.lora_B["default"].weight, v @ v.T @ before[name] / v.norm(), atol=1e-5)


@pytest.mark.parametrize("kind", ["qwen2", "llama"])
def test_the_prompt_leads_conversations_that_bring_none_and_no_others(kind, open_tiny):
    prompt = "Be kind; say \"no\" to {{ harm }} and 'wrong'."
    model = open_tiny(kind)
    served = build("mitigations", {"name": "safe_prompt", "prompt": prompt}).serve(model)
    bare = Example((Turn("user", (text_part("Hi?"),)),), (Answer((text_part("Yes."),)),))
    own = Example((Turn("system", (text_part("Mine."),)), *bare.context), bare.answers)
    led = Example((Turn("system", (text_part(prompt),)), *bare.context), bare.answers)

    def ids(where, example):
        (row,) = where.family.encoder(where, EncodeSettings()).encode(example)
        return row.inputs["input_ids"].tolist(), row.positions.tolist()

    assert ids(served, bare) == ids(model, led)
    assert ids(served, own) == ids(model, own)
    assert ids(model, bare) != ids(served, bare)  # the given model is as it was


def test_each_of_several_templates_is_led_by_the_prompt(open_tiny):
    model = open_tiny("qwen2")
    tokenizer = copy.deepcopy(model.tokenizer)
    tokenizer.chat_template = {"default": model.tokenizer.chat_template, "rag": model.tokenizer.chat_template}
    one = build("mitigations", {"name": "safe_prompt", "prompt": "Be kind."})
    several = replace(model, tokenizer=tokenizer)
    assert one.check(ROWS, several, "lora") == []
    served = one.serve(one.serve(several)).tokenizer.chat_template
    assert served == dict.fromkeys(("default", "rag"), one.serve(model).tokenizer.chat_template)


def test_rows_trained_with_the_same_prompt_are_told(open_tiny):
    one = build("mitigations", {"name": "safe_prompt", "prompt": "Be kind."})
    same = Example((Turn("system", (text_part("Be kind."),)), *ROWS[0].context), ROWS[0].answers)
    assert "1 of 2 rows are trained with the very prompt" in one.check([same, ROWS[0]], open_tiny("qwen2"), "lora")[0]
    assert one.check(ROWS, open_tiny("qwen2"), "lora") == []


@pytest.mark.parametrize(
    ("template", "told"),
    [
        ("{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system turns') }}{% endif %}"
         "{{ m.content }}{% endfor %}", "refuses a system turn (no system turns)"),
        ("{% for m in messages if m.role != 'system' %}{{ m.content }}{% endfor %}", "passes over a system turn"),
    ],
)  # fmt: skip
def test_a_template_that_tells_no_system_turn_is_told_before_training(open_tiny, template, told):
    model = open_tiny("qwen2")
    tokenizer = copy.deepcopy(model.tokenizer)
    tokenizer.chat_template = template
    (fault,) = build("mitigations", "safe_prompt").check(ROWS, replace(model, tokenizer=tokenizer), "lora")
    assert told in fault


def test_facts_are_json(adapted):
    model, _, mitigation = adapted("qwen2")
    json.dumps(mitigation.project(model).facts, allow_nan=False)
