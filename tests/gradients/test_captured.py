"""In bfloat16 packed private gradients are exact sums of what the modules were given and got back.

Two backward passes in bfloat16 round differently, so the definition cannot be compared with closely. Here there is one:
each module's input and the gradient of its output are kept, and every unit's gradient is made of them in a loop.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

from tunewright.core.plugins import build
from tunewright.core.records import Answer, Example, text_part
from tunewright.data.encoder import Encoded
from tunewright.gradients.private import Watched
from tunewright.models import fused
from tunewright.models.per_unit import Dense, Ghost

EXACT = 1e-5
LORA = {"name": "lora", "r": 4}
DROPPED = LORA | {"lora_dropout": 0.2}
CASES = [
    ("llama", LORA, True),  # the fused layer
    ("llama", LORA, False),  # float32 adapters beside a bfloat16 base, as in a run
    ("llama", DROPPED, True),
    ("llama", "norm", True),
    ("gpt2", "norm", True),  # layer norms, and biases of matrices that stand the other way round
    ("llama", "full", True),
    ("gpt2", {"name": "last", "layers": 1}, True),
]


def make_rows(lengths=(9, 30, 4, 3, 12, 7), units=("a", "b", "a", "c", "d", "e")):
    draw, rows = np.random.default_rng(3), []
    for number, (unit, length) in enumerate(zip(units, lengths, strict=True)):
        ids = draw.integers(5, 300, length)
        at = np.arange(length // 2, length - 1)
        example = Example((), (Answer((text_part("x"),)),), id=f"r{number}", unit=unit)
        rows.append(Encoded(example, {"input_ids": ids}, length, at, ids[at + 1], np.ones(len(at), np.float32)))
    return rows


def opened(open_tiny, kind, method_name, all_bf16):
    method = build("methods", method_name)
    model = method.attach(open_tiny(kind, torch.bfloat16), seed=1)
    trained = method.trained(model)
    if all_bf16:
        model.module.to(torch.bfloat16)
    with torch.no_grad():
        for weight in trained.values():
            weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(2)).to(weight.dtype) * 0.05)
    model.module.train()
    return replace(model, apart=True), method.trained(model)


def watched_too(module, trained, kept):
    """Keeps (module, input, gradient of the output) of every call that the packed mode sees."""

    def after(part, inputs, output):
        given = inputs[0].detach()
        if output.requires_grad:
            output.register_hook(lambda grad: kept.append((part, given, grad.detach().clone())))

    own = {id(weight) for weight in trained.values()}
    return [
        part.register_forward_hook(after)
        for part in module.modules()
        if hasattr(part, "watch") or any(id(weight) in own for weight in part.parameters(recurse=False))
    ]


def flat(values: Tensor) -> Tensor:
    return values.reshape(-1, values.shape[-1])


def parts_of(part, given, grad) -> Iterator[tuple[nn.Parameter, Tensor, Tensor | None]]:
    """(weight, one factor, the other) by position: its gradient sums their outer products, or the first alone."""
    if hasattr(part, "watch"):
        if part._plain(grad.dtype):
            (name,) = part.active_adapters
            a, b, scale = part.lora_A[name].weight, part.lora_B[name].weight, part.scaling[name]
            # The two tensors in the middle of the adapter, as the layer rounds them: they too are what was given.
            x, back = flat(given), flat(grad)
            low, low_grad = x @ a.detach().to(x.dtype).t(), (back @ b.detach().to(x.dtype)).mul_(scale)
            yield a, low_grad, x
            yield b, back, low * scale
    elif isinstance(part, nn.Linear):
        yield part.weight, flat(grad), flat(given)
        yield part.bias, flat(grad), None
    elif isinstance(part, Conv1D):
        yield part.weight, flat(given), flat(grad)
        yield part.bias, flat(grad), None
    elif isinstance(part, nn.Embedding):
        yield part.weight, functional.one_hot(given.reshape(-1), part.num_embeddings), flat(grad)
    elif isinstance(part, nn.LayerNorm):
        x = flat(given).float()
        x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True, unbiased=False) + part.eps).sqrt()
        yield part.weight, flat(grad).float() * x, None
        yield part.bias, flat(grad), None
    elif "RMSNorm" in type(part).__name__:
        x = flat(given).float()
        x = x / (x.square().mean(-1, keepdim=True) + part.variance_epsilon).sqrt()
        yield part.weight, flat(grad).float() * x, None


def places_of(batch, rows):
    """How many positions a tensor has -> for each unit which are its own; the head sees predicted positions alone."""
    units: dict[str, list[int]] = {}
    for row, encoded in enumerate(rows):
        own = [place for start, stop in batch.spans(row) for place in range(start, stop)]
        units[encoded.example.unit] = sorted({*units.get(encoded.example.unit, []), *own})
    predicted = torch.unique(batch.targets.position_T).tolist()
    seen = [[predicted.index(place) for place in own if place in predicted] for own in units.values()]
    whole = next(iter(batch.inputs.values())).numel()
    return {whole: list(units.values()), len(predicted): seen}


def by_loop(kept, trained, places) -> dict[str, list[Tensor]]:
    """[units] the gradient of each unit for each weight, in float32."""
    names, found = {id(weight): name for name, weight in trained.items()}, {}
    for part, given, grad in kept:
        for weight, one, other in parts_of(part, given, grad):
            if id(weight) not in names:
                continue
            for unit, own in enumerate(places[len(one)]):
                mine = one[own].float()
                gradient = mine.sum(0) if other is None else mine.t() @ other[own].float()
                of_weight = found.setdefault(names[id(weight)], {})
                of_weight[unit] = of_weight.get(unit, 0) + gradient
    return {name: [of_weight[unit] for unit in sorted(of_weight)] for name, of_weight in found.items()}


def packed(model, trained, rows, monkeypatch):
    """One private step: its clipped sums, each unit's squared norms by weight and kind of rule, and what it saw."""
    by_unit, seen, kept = Watched.by_unit, {}, []

    def looked_at(self, loss, batch):
        loss_U, found = by_unit(self, loss, batch)
        seen.update({name: (type(found[id(w)]), found[id(w)].squares()) for name, w in trained.items()})
        return loss_U, found

    monkeypatch.setattr(Watched, "by_unit", looked_at)
    how = build("gradients", {"name": "private", "sigma": 0.0, "clip": 0.5, "expected": 1.0})
    with how.begin(model, trained, "s") as making:
        removers = watched_too(model.module, trained, kept)
        batch = model.family.collate(model, rows)
        making.accumulate(build("objectives", "next_token").loss(model, batch, 0), 1.0, batch)
        for remover in removers:
            remover.remove()
    return making.sums, seen, kept, batch


def close(found, wanted):
    assert found.dtype == torch.float32, "what is clipped and summed is float32"
    assert float((found - wanted).norm()) <= EXACT * float(wanted.norm())


@pytest.mark.parametrize(("kind", "method", "all_bf16"), CASES, ids=str)
def test_in_bf16_norms_and_clipped_sums_are_those_of_a_loop_over_what_was_captured(
    open_tiny, kind, method, all_bf16, monkeypatch
):
    monkeypatch.setattr(fused, "_adapter", lambda layer, dtype: None)  # so that every layer is called, and can be heard
    rows = make_rows()
    model, trained = opened(open_tiny, kind, method, all_bf16)
    sums, seen, kept, batch = packed(model, trained, rows, monkeypatch)
    wanted = by_loop(kept, trained, places_of(batch, rows))
    assert set(wanted) == set(sums) == set(trained)
    assert any(given.dtype == torch.bfloat16 or grad.dtype == torch.bfloat16 for _, given, grad in kept)
    for name, gradients in wanted.items():
        close(seen[name][1].sqrt(), torch.stack([one.norm() for one in gradients]))
    square_U = sum(torch.stack([one.double().square().sum() for one in of_weight]) for of_weight in wanted.values())
    factor_U = (0.5 / (square_U.sqrt() + 1e-6)).clamp(max=1).float()
    assert float(factor_U.min()) < 1, "something is clipped"
    for name, gradients in wanted.items():
        close(sums[name], sum(one * factor for one, factor in zip(gradients, factor_U, strict=True)))
    if method == "full":
        assert {Ghost, Dense} <= {rule for rule, _ in seen.values()}


def test_in_bf16_a_whole_gated_part_gives_each_unit_what_its_layers_give(open_tiny, monkeypatch):
    """Both round what lies between the layers in the same places, sums of the input's gradient excepted."""
    found = []
    for adapter in (fused._adapter, lambda layer, dtype: None):
        model, trained = opened(open_tiny, "llama", LORA, False)
        with monkeypatch.context() as patch:
            patch.setattr(fused, "_adapter", adapter)
            sums, seen, kept, _ = packed(model, trained, make_rows(), patch)
        heard = any(part is layer for part, _, _ in kept for layer in model.module.modules() if hasattr(layer, "watch"))
        found.append((sums, {name: squares for name, (_, squares) in seen.items()}, len(kept), heard))
    (sums, squares, calls, _), (by_layer, squares_by_layer, more, heard) = found
    assert heard
    assert calls < more, "the gated parts' layers are not called"
    for name, wanted in by_layer.items():
        assert float((sums[name] - wanted).norm()) <= 0.02 * float(wanted.norm()), name
        assert torch.allclose(squares[name], squares_by_layer[name], rtol=0.05), name
