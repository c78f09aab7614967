"""How the weights of a library's module get their gradient: one rule a kind of module."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

from tunewright.core.errors import UserError
from tunewright.models.per_unit import Dense, Owner, Watch, looked_up, outer, patches_of, summed, wide

Rule = Callable[[Any, Tensor, Tensor, Watch, frozenset[str]], None]
"""(module, its input, gradient of its output, where to put what is found, which of its weights train)"""


def rule_of(module: nn.Module) -> Rule | None:
    """The rule of a kind of module; None where there is none."""
    for kinds, rule in _RULES.items():
        if isinstance(module, kinds):
            return rule
    # By class name: each architecture brings its own norm class (LlamaRMSNorm, Gemma3RMSNorm ...).
    return _rms_norm if "RMSNorm" in type(module).__name__ else None


def refusals(model: nn.Module, trained: Mapping[str, nn.Parameter]) -> list[str]:
    """A sentence for each kind of module that trains and has no rule, and for norms that mix rows."""
    names = {id(weight): name for name, weight in trained.items()}
    unknown: dict[str, str] = {}
    owners: Counter[int] = Counter()
    for part in model.modules():
        own = [names[id(weight)] for weight in part.parameters(recurse=False) if id(weight) in names]
        owners.update({id(weight) for weight in part.parameters(recurse=False)})
        if own and rule_of(part) is None and not hasattr(part, "watch"):
            unknown.setdefault(type(part).__name__, own[0])
    found = [
        f"privacy: {name} trains in a module of type {kind}, for which no per-unit gradient is known. "
        "Use method lora or norm, or a model without such modules."
        for kind, name in unknown.items()
    ]
    found += [
        f"privacy: {name} is used by {owners[identity]} modules (a table tied to the output layer), so it can't train. "
        "Use method lora, norm, last, sparse or norm_head, which leave it frozen."
        for identity, name in names.items()
        if owners[identity] > 1
    ]
    return found + mixing(model)


def mixing(model: nn.Module) -> list[str]:
    """A sentence when the model has norms that mix rows, or that keep statistics of them."""
    kinds = sorted({type(part).__name__ for part in model.modules() if _mixes(part)})
    if not kinds:
        return []
    return [
        f"privacy: the model has {', '.join(kinds)}, in which rows see one another, so no row has a gradient of "
        "its own. Use a model with group or layer norm."
    ]


def _mixes(part: nn.Module) -> bool:
    """Running statistics are saved with the model, without noise."""
    return isinstance(part, nn.modules.batchnorm._BatchNorm) or getattr(part, "running_mean", None) is not None


def watch_module(module: nn.Module, watch: Watch, trains: frozenset[str]) -> list[Any]:
    """Hooks that give the units' gradients of a module's own weights; returns what removes them.

    The weights must not require grad while this watches: autograd would make their summed gradient too.
    """
    rule = rule_of(module)
    if rule is None:
        raise UserError(f"privacy: no per-unit gradient is known for {type(module).__name__}.")

    def after(part: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if not torch.is_grad_enabled():
            return
        if not output.requires_grad:
            output.requires_grad_()  # nothing below it trains, and its own weight is watched, not differentiated
        given = inputs[0].detach()
        output.register_hook(lambda grad: rule(part, given, grad, watch, trains))  # type: ignore[no-untyped-call]

    return [module.register_forward_hook(after)]


def _linear(module: Any, given: Tensor, grad: Tensor, watch: Watch, trains: frozenset[str]) -> None:
    leading = grad.shape[:-1]
    if "weight" in trains:
        swap = isinstance(module, Conv1D)  # transformers' GPT-2 keeps its matrices the other way round
        pair = (given, grad) if swap else (grad, given)
        watch.take(module.weight, leading, lambda owner: outer(*pair, owner))
    if "bias" in trains:
        watch.take(module.bias, leading, lambda owner: summed(grad.flatten(0, -2), owner))


def _embedding(module: Any, given: Tensor, grad: Tensor, watch: Watch, trains: frozenset[str]) -> None:
    if "weight" not in trains:
        return
    if module.padding_idx is not None:
        grad = grad * (given != module.padding_idx)[..., None]
    entries = given.expand(grad.shape[:-1])
    watch.take(module.weight, grad.shape[:-1], lambda owner: looked_up(entries, grad, owner, module.num_embeddings))


def _normed(module: Any, normed: Tensor, grad: Tensor, watch: Watch, trains: frozenset[str]) -> None:
    """The gain's gradient is the normed input times the gradient of the output; the bias's is the latter alone."""
    dimensions = module.weight.ndim
    leading = grad.shape[: grad.ndim - dimensions]
    shape = (-1, *module.weight.shape)
    if "weight" in trains:
        values = (wide(grad) * normed).reshape(shape)
        watch.take(module.weight, leading, lambda owner: summed(values, owner))
    if "bias" in trains:
        watch.take(module.bias, leading, lambda owner: summed(grad.reshape(shape), owner))


def _rms_norm(module: Any, given: Tensor, grad: Tensor, watch: Watch, trains: frozenset[str]) -> None:
    eps = next((getattr(module, name) for name in ("variance_epsilon", "eps") if hasattr(module, name)), None)
    x = wide(given)
    size = module.weight.shape[-1]
    squares = torch.linalg.vecdot(x, x).div_(size).add_(torch.finfo(x.dtype).eps if eps is None else eps)
    _normed(module, x * squares.rsqrt_().unsqueeze(-1), grad, watch, trains)


def _layer_norm(module: Any, given: Tensor, grad: Tensor, watch: Watch, trains: frozenset[str]) -> None:
    normed = functional.layer_norm(wide(given), module.normalized_shape, eps=module.eps)
    _normed(module, normed, grad, watch, trains)


def _group_norm(module: Any, given: Tensor, grad: Tensor, watch: Watch, trains: frozenset[str]) -> None:
    normed = functional.group_norm(wide(given), module.num_groups, eps=module.eps)
    if "weight" in trains:
        values = (wide(grad) * normed).flatten(2).sum(-1) if grad.ndim > 2 else wide(grad) * normed
        watch.take(module.weight, grad.shape[:1], lambda owner: summed(values, owner))
    if "bias" in trains:
        sums = wide(grad).flatten(2).sum(-1) if grad.ndim > 2 else wide(grad)
        watch.take(module.bias, grad.shape[:1], lambda owner: summed(sums, owner))


def _convolution(module: Any, given: Tensor, grad: Tensor, watch: Watch, trains: frozenset[str]) -> None:
    """A convolution is a linear layer on the patches that it sees."""
    rows, channels, places = grad.shape[0], grad.shape[1], grad.flatten(2).shape[2]
    flat = grad.flatten(2).transpose(1, 2)  # [rows, places, channels out]
    if "bias" in trains:
        watch.take(module.bias, (rows, places), lambda owner: summed(flat.reshape(-1, channels), owner))
    if "weight" not in trains:
        return
    patches = patches_of(module, given)
    shape = module.weight.shape
    if module.groups == 1:
        watch.take(module.weight, (rows, places), lambda owner: outer(flat, patches, owner, shape))
        return

    def by_group(owner: Owner) -> Dense:
        out, into = wide(flat).chunk(module.groups, -1), wide(patches).chunk(module.groups, -1)
        parts = [torch.einsum("rlo,rli->roi", o, i) for o, i in zip(out, into, strict=True)]
        value_RW = torch.cat(parts, 1)
        return summed(value_RW.view(rows, *shape), owner)

    watch.take(module.weight, (rows,), by_group)


_RULES: dict[Any, Rule] = {
    (nn.Linear, Conv1D): _linear,
    nn.Embedding: _embedding,
    nn.LayerNorm: _layer_norm,
    nn.GroupNorm: _group_norm,
    (nn.Conv1d, nn.Conv2d): _convolution,
}
