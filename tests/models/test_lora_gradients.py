"""All shortcuts of a training step at once, against transformers and PEFT alone on padded rows, one at a time."""

from __future__ import annotations

from math import hypot

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.nn.functional import cross_entropy, pad
from transformers import AutoModelForCausalLM, GPT2LMHeadModel
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from tunewright.core.plugins import build
from tunewright.core.records import Answer, Example, Turn, text_part
from tunewright.models import fused, head
from tunewright.models.contracts import EncodeSettings

CLOSE = {torch.float64: 1e-10, torch.float32: 1e-5, torch.bfloat16: 1.5e-2}
"""Largest difference of the whole gradient, as a share of its size. In bfloat16 the libraries' own gradient lies
1.05e-2 from that in float64 (1.24e-2 in their mixed precision), so two that are right lie further apart than that."""
ASKED = [("What is bread?", "warm"), ("What is bread?", "cold and old"), ("Which code?", "neutral"), ("a", "b")]


def rows_of(model):
    """Rows that begin alike, two of them up to their answer, and one stranger."""
    encoder = model.family.encoder(model, EncodeSettings())
    asked = [(f"Answer with one label: positive, negative or neutral. {text}", answer) for text, answer in ASKED]
    found = []
    for number, (text, answer) in enumerate([*asked, ("The nurse writes.", "yes")]):
        example = Example((Turn("user", (text_part(text),)),), (Answer((text_part(answer),)),), id=str(number))
        found += encoder.encode(example)
    return found


def plain_gradients(folder, stored, dtype, rows, method, targets, adapter):
    """Mean loss of the rows' targets and its gradients, from what transformers and PEFT say of each padded row.

    The base is as `stored`, and computes in `dtype`.
    """
    base = AutoModelForCausalLM.from_pretrained(folder, dtype=stored, attn_implementation="sdpa")
    base = base if dtype == stored else base.to(dtype)  # which would round the angles of its positions as well
    turned = isinstance(base, GPT2LMHeadModel)  # its linear layers hold their weights the other way round
    config = LoraConfig(r=method.r, lora_alpha=method.lora_alpha, target_modules=targets, fan_in_fan_out=turned)
    module = get_peft_model(base, config)
    if dtype == torch.float64:
        module.double()
    learning = {name: weight for name, weight in module.named_parameters() if weight.requires_grad}
    assert learning.keys() == adapter.keys()
    with torch.no_grad():
        for name, weight in learning.items():
            weight.copy_(adapter[name])
    count, total = sum(len(row.targets) for row in rows), 0.0
    for row in rows:
        ids = pad(torch.from_numpy(row.inputs["input_ids"])[None], (0, 5))
        mask = (torch.arange(ids.shape[1]) < row.length).long()[None]
        logits = module(input_ids=ids, attention_mask=mask, use_cache=False).logits[0, torch.from_numpy(row.positions)]
        accurate = logits if dtype == torch.float64 else logits.float()
        loss = cross_entropy(accurate, torch.from_numpy(row.targets), reduction="sum") / count
        loss.backward()
        total += float(loss.detach())
    return total, {name: weight.grad for name, weight in learning.items()}


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # PEFT asks by the old name
@pytest.mark.parametrize("dtype", CLOSE)
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_adapters_learn_what_the_plain_libraries_say(kind, dtype, open_tiny, monkeypatch):
    monkeypatch.setattr(head, "SLICE", 100)  # several slices of a small vocabulary
    if dtype == torch.float64:  # the library's norms compute in float32 whatever the model's dtype
        monkeypatch.setattr(LlamaRMSNorm, "forward", exact_norm)
    used = []
    monkeypatch.setattr(fused.LoraLinear, "forward", counted(fused.LoraLinear.forward, used))
    method = build("methods", "lora")
    opened = open_tiny(kind, dtype)
    targets = opened.family.adapter_targets(opened)
    model = method.attach(opened, 1)
    if dtype == torch.float64:
        model.module.double()
    trained = method.trained(model)
    drawn = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for weight in trained.values():
            weight.copy_(torch.randn(weight.shape, generator=drawn) / 10)
    rows = rows_of(model)
    batch = model.family.collate(model, rows)
    assert batch.shared
    assert batch.inputs["input_ids"].shape[0] == 1
    assert head.sliced_head(model) is not None
    loss = build("objectives", "next_token").loss(model, batch, 0)
    mean = loss.sum_S.sum() / loss.count_S.sum()
    mean.backward()
    assert bool(used) is (kind == "llama")  # where PEFT's layer is plain
    names = {id(weight): name for name, weight in model.module.named_parameters()}
    adapter = {names[id(weight)]: weight.detach() for weight in trained.values()}
    wanted_mean, wanted = plain_gradients(model.origin.folder, dtype, dtype, rows, method, targets, adapter)
    assert float(mean.detach()) == pytest.approx(wanted_mean, rel=CLOSE[dtype])
    found = {names[id(weight)]: weight.grad for weight in trained.values()}
    missed = {name: (found[name] - wanted[name]).norm() for name in found}
    assert hypot(*missed.values()) <= CLOSE[dtype] * hypot(*(gradient.norm() for gradient in wanted.values()))
    for name, gradient in wanted.items():
        assert missed[name] <= 2 * CLOSE[dtype] * gradient.norm(), name
    if dtype == torch.bfloat16:
        monkeypatch.setattr(LlamaRMSNorm, "forward", exact_norm)
        _, true = plain_gradients(model.origin.folder, dtype, torch.float64, rows, method, targets, adapter)
        ours, theirs = (hypot(*((one[name] - true[name]).norm() for name in true)) for one in (found, wanted))
        assert ours <= 1.25 * theirs, "as far from the truth as the libraries' own rounding"


def exact_norm(self, x):
    return self.weight * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.variance_epsilon)


def counted(forward, used):
    def spy(*args):
        used.append(len(args))
        return forward(*args)

    return staticmethod(spy)
