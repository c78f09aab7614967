"""Fused parts of a layer: gradients against float64 differences, and the library's module where formulas differ."""

from __future__ import annotations

import copy

import pytest
import torch
from peft.tuners.lora import Linear
from torch.nn.functional import silu
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from tunewright.core.plugins import build
from tunewright.models import fused
from tunewright.models.fused import GatedLora, LoraLinear, RmsNorm, Swiglu, fuse
from tunewright.models.per_unit import Units, Watch

RMS_NORMED = {"gemma3": False, "gpt2": False, **dict.fromkeys(("llama", "qwen2", "qwen3", "mamba", "mamba2"), True)}


def drawn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype).requires_grad_()


def replaced(module):
    return [part for part in module.modules() if "forward" in vars(part)]


@pytest.mark.parametrize("bias", [None, drawn(5, seed=3).detach()])
def test_lora_linear_is_the_formula_and_so_is_its_gradient(bias):
    x, w, a, b = drawn(2, 3, 4), drawn(5, 4, seed=1).detach(), drawn(2, 4, seed=4), drawn(5, 2, seed=5)
    plain = torch.nn.functional.linear(x, w, bias) + 0.5 * (x @ a.T) @ b.T
    assert torch.allclose(LoraLinear.apply(x, (w, bias), a, b, (0.5, None)), plain, rtol=1e-12)
    assert torch.autograd.gradcheck(lambda x, a, b: LoraLinear.apply(x, (w, bias), a, b, (0.5, None)), (x, a, b))
    assert torch.autograd.gradcheck(lambda a, b: LoraLinear.apply(x.detach(), (w, bias), a, b, (0.5, None)), (a, b))


def test_rms_norm_is_the_formula_and_so_is_its_gradient():
    x, weight = drawn(2, 3, 4), drawn(4, seed=1)
    plain = x / (x.square().mean(-1, keepdim=True) + 0.01).sqrt() * weight
    assert torch.allclose(RmsNorm.apply(x, weight, 0.01), plain, rtol=1e-12)
    assert torch.autograd.gradcheck(lambda x, w: RmsNorm.apply(x, w, 0.01), (x, weight))
    assert torch.autograd.gradcheck(lambda x: RmsNorm.apply(x, weight.detach(), 0.01), (x,))


def test_swiglu_is_the_formula_and_so_is_its_gradient():
    gate, up = drawn(2, 3), drawn(2, 3, seed=1)
    assert torch.allclose(Swiglu.apply(gate, up), silu(gate) * up, rtol=1e-12)
    assert torch.autograd.gradcheck(Swiglu.apply, (gate, up))


def test_a_gated_part_with_adapters_is_the_formula_and_so_is_its_gradient():
    x, weights = drawn(2, 3, 4), [drawn(*shape, seed=n).detach() for n, shape in enumerate([(5, 4), (5, 4), (6, 5)])]
    matrices = [drawn(*shape, seed=9 + n) for n, shape in enumerate([(2, 4), (5, 2), (3, 4), (5, 3), (1, 5), (6, 1)])]
    scales = (0.5, 1.5, 2.5)

    def fused_form(x, *matrices):
        pairs = zip(weights, matrices[::2], matrices[1::2], strict=True)
        return GatedLora.apply(x, (scales, None), *(tensor for layer in pairs for tensor in layer))

    gate, up, down = (
        lambda x, w=w, a=a, b=b, scale=scale: x @ w.T + scale * (x @ a.T) @ b.T
        for w, a, b, scale in zip(weights, matrices[::2], matrices[1::2], scales, strict=True)
    )
    assert torch.allclose(fused_form(x, *matrices), down(silu(gate(x)) * up(x)), rtol=1e-12)
    assert torch.autograd.gradcheck(fused_form, (x, *matrices))
    assert torch.autograd.gradcheck(lambda *matrices: fused_form(x.detach(), *matrices), tuple(matrices))


def test_a_watched_gated_part_gives_each_units_gradients_and_the_same_answer():
    x, along = drawn(1, 5, 4), drawn(1, 5, 6, seed=30).detach()
    weights = [drawn(*shape, seed=n).detach() for n, shape in enumerate([(5, 4), (5, 4), (6, 5)])]
    matrices = [drawn(*shape, seed=9 + n) for n, shape in enumerate([(2, 4), (5, 2), (3, 4), (5, 3), (1, 5), (6, 1)])]
    layers = [t for n, w in enumerate(weights) for t in (w, matrices[2 * n], matrices[2 * n + 1])]
    whose = torch.tensor([0, 0, 1, 1, 1])

    def answered(x, along, watch):
        return (GatedLora.apply(x, ((0.5, 1.5, 2.5), watch), *layers) * along).sum()

    watch = Watch()
    watch.begin(Units(("a", "b"), torch.tensor([0, 1]), whose, torch.tensor([0, 1]), True))
    (watched,) = torch.autograd.grad(answered(x, along, watch), x)
    found = watch.end()
    assert torch.allclose(watched, torch.autograd.grad(answered(x, along, None), x)[0], rtol=1e-12)
    for unit in (0, 1):
        there = whose == unit
        wanted = torch.autograd.grad(answered(x.detach()[:, there], along[:, there], None), matrices)
        for matrix, grad in zip(matrices, wanted, strict=True):
            assert torch.allclose(found[id(matrix)].dense().value_UW[unit], grad, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", RMS_NORMED)
def test_only_formulas_that_agree_are_replaced(kind, open_tiny):
    parts = replaced(open_tiny(kind).module)
    norms = [part for part in parts if "RMSNorm" in type(part).__name__]
    assert bool(norms) is RMS_NORMED[kind]
    assert bool(set(parts) - set(norms)) is (kind in ("llama", "qwen2", "qwen3"))


def test_norms_whose_weights_are_all_equal_are_replaced_too():
    """A model from random weights, as the baseline from scratch trains one."""
    shape = {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 4, "vocab_size": 16}
    module = LlamaForCausalLM(LlamaConfig(hidden_size=320, intermediate_size=480, **shape))
    fuse(module)
    assert [type(part).__name__ for part in replaced(module)].count("LlamaRMSNorm") == 5


def test_a_norm_that_takes_a_gate_keeps_its_own_forward(open_tiny):
    norms = [part for part in open_tiny("mamba2").module.modules() if type(part).__name__ == "MambaRMSNormGated"]
    assert len(norms) == 3
    assert not any("forward" in vars(norm) for norm in norms)


def test_in_float64_the_librarys_own_path_stays(open_tiny):
    assert not replaced(open_tiny("llama", torch.float64).module)


@pytest.mark.parametrize("kind", RMS_NORMED)
def test_in_bfloat16_the_same_parts_are_replaced_and_answers_stay_bit_for_bit(kind, open_tiny):
    ours = open_tiny(kind, torch.bfloat16)
    plain = AutoModelForCausalLM.from_pretrained(ours.origin.folder, dtype=torch.bfloat16)
    assert len(replaced(ours.module)) == len(replaced(open_tiny(kind).module))
    fuse(trained := copy.deepcopy(plain))
    ids = torch.arange(3, 20)[None]
    logits = [module(input_ids=ids, use_cache=False).logits for module in (plain, trained)]
    assert torch.equal(*logits)
    for one in logits:
        one.float().square().sum().backward()
    wanted, found = (torch.cat([w.grad.float().flatten() for w in m.parameters()]) for m in (plain, trained))
    assert float((wanted - found).norm()) <= 0.01 * float(wanted.norm())


def test_beside_a_bfloat16_base_an_adapter_keeps_less_for_its_gradient_than_pefts_own(open_tiny):
    method = build("methods", "lora")
    model = method.attach(open_tiny("llama", torch.bfloat16), 1)
    layer = model.module.base_model.model.model.layers[0].mlp.down_proj
    with torch.no_grad():
        for weight in method.trained(model).values():
            weight.normal_(std=0.1, generator=torch.Generator().manual_seed(2))
    x = drawn(700, 48, dtype=torch.float32).detach().bfloat16().requires_grad_()
    answers, kept = [], []
    for forward in (layer.forward, lambda x: Linear.forward(layer, x)):
        bytes_of: dict[int, int] = {}
        packing = lambda t, seen=bytes_of: seen.update({t.data_ptr(): t.numel() * t.element_size()}) or t  # noqa: E731
        with torch.autograd.graph.saved_tensors_hooks(packing, lambda t: t):
            value = forward(x)
        weights = (x, *layer.lora_A.parameters(), *layer.lora_B.parameters())
        answers.append((value, *torch.autograd.grad(value.float().square().sum(), weights)))
        kept.append(sum(bytes_of.values()))
    assert kept[0] < 0.7 * kept[1]
    for found, wanted in zip(*answers, strict=True):
        assert found.dtype == wanted.dtype
        assert float((found - wanted).detach().float().norm()) <= 1e-2 * float(wanted.detach().float().norm())


@pytest.mark.parametrize("kind", RMS_NORMED)
def test_a_fused_model_answers_and_learns_as_the_library_does(kind, open_tiny):
    ours = open_tiny(kind)
    plain = AutoModelForCausalLM.from_pretrained(ours.origin.folder)
    fuse(trained := copy.deepcopy(plain))
    ids = torch.arange(3, 20)[None]
    losses = []
    for module in (plain, trained):
        loss = module(input_ids=ids, labels=ids, use_cache=False).loss
        loss.backward()
        losses.append(loss)
    assert torch.allclose(*losses, rtol=1e-6)
    for (name, wanted), found in zip(plain.named_parameters(), trained.parameters(), strict=True):
        assert torch.allclose(wanted.grad, found.grad, rtol=1e-4, atol=1e-5 * float(wanted.grad.abs().max())), name


def test_a_wrong_formula_is_noticed_and_left_out(open_tiny, monkeypatch):
    monkeypatch.setattr(fused, "silu", torch.relu)
    module = copy.deepcopy(AutoModelForCausalLM.from_pretrained(open_tiny("llama").origin.folder))
    fuse(module)
    assert {type(part).__name__ for part in replaced(module)} == {"LlamaRMSNorm"}


def test_a_copy_of_a_fused_model_uses_its_own_weights(open_tiny):
    module = open_tiny("llama").module
    twin = copy.deepcopy(module)
    x = drawn(3, 32, dtype=torch.float32)
    before = module.model.layers[0].mlp(x)
    with torch.no_grad():
        for weight in twin.parameters():
            weight.zero_()
    assert torch.equal(module.model.layers[0].mlp(x), before)
    assert not twin.model.layers[0].mlp(x).any()
    assert not twin.model.norm(x).any()


def test_a_fused_adapter_equals_pefts_own(open_tiny):
    method = build("methods", "lora")
    model = method.attach(open_tiny("llama"), 1)
    layer = model.module.base_model.model.model.layers[0].mlp.down_proj
    with torch.no_grad():
        for weight in method.trained(model).values():
            weight.normal_(generator=torch.Generator().manual_seed(2))
    x = drawn(7, 48, dtype=torch.float32)
    assert type(layer) is not Linear
    grads = []
    for forward in (layer.forward, lambda x: Linear.forward(layer, x)):
        value = forward(x)
        grads.append(
            (
                value,
                *torch.autograd.grad(value.square().sum(), (x, *layer.lora_A.parameters(), *layer.lora_B.parameters())),
            )
        )
    for found, wanted in zip(*grads, strict=True):
        assert torch.allclose(found, wanted, rtol=1e-4, atol=1e-5 * float(wanted.detach().abs().max()))
