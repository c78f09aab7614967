"""The same numbers in fewer passes over memory: parts of a layer with their gradients written out.

Autograd keeps an intermediate of each small operation and reads it back; on a CPU that traffic is what remains beside
the matrix products. Each function here keeps its inputs alone. A library's module is replaced only where the fused
form answers as the module does, value and gradient (`fuse` tries it), so an architecture with another formula (Gemma's
norms scale by 1 + weight) keeps its own.

In bfloat16 sums over a row stay in float32, as the libraries keep them, and what is kept for the gradient is bfloat16.
Adapters beside a bfloat16 base stay float32 themselves and are rounded for the products, which add up in float32 inside
and are then as fast as the base's (torch's own mixed precision does the same).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from inspect import signature
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, silu

from tunewright.models.per_unit import Watch, outer

_How = tuple[float, Watch | None]
_AGREE = {torch.float32: (1e-5, 1e-5), torch.bfloat16: (0.0, 1e-2)}
"""Dtypes that are fused -> how far values and gradients may lie apart, as a share of the largest. In bfloat16 values
are rounded alike or are another formula's, gradients are rounded less often than the library's."""
_PROBED = 4
"""Rows of the random input on which a fused form must agree."""


class LoraLinear(torch.autograd.Function):
    """`x W^T + bias + scale (x A^T) B^T`, the frozen weight with its adapter added in place (Hu et al. 2021, eq. 3)."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, frozen: tuple[Tensor, Tensor | None], a_RI: Tensor, b_OR: Tensor, how: _How
    ) -> Tensor:
        """[..., out] of x [..., in]; `frozen` is the layer's weight and bias, `how` the scale and who watches."""
        (weight, bias), (scale, watch) = frozen, how
        x_NI, a, b = x.reshape(-1, x.shape[-1]), a_RI.to(x.dtype), b_OR.to(x.dtype)
        low_NR = x_NI @ a.t()
        out = linear(x, weight, bias)
        out_NO = out.view(-1, out.shape[-1]).addmm_(low_NR, b.t(), alpha=scale)
        ctx.save_for_backward(x_NI, weight, a, b, low_NR)
        ctx.scale, ctx.shape, ctx.watch, ctx.adapters = scale, x.shape, watch, (a_RI, b_OR)
        return out_NO.view(out.shape)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        """Gradients of x and of the adapter's two matrices; weight and bias are frozen."""
        x_NI, weight, a, b, low_NR = ctx.saved_tensors
        grad_NO = grads[0].reshape(-1, grads[0].shape[-1])
        low_grad_NR = (grad_NO @ b).mul_(ctx.scale)
        x_grad = None
        if ctx.needs_input_grad[0]:
            x_grad = (grad_NO @ weight).addmm_(low_grad_NR, a).view(ctx.shape)
        if ctx.watch is None:
            return x_grad, None, low_grad_NR.t() @ x_NI, (grad_NO.t() @ low_NR).mul_(ctx.scale), None
        _watched(ctx, ((low_grad_NR, x_NI), (grad_NO, low_NR * ctx.scale)))
        return x_grad, None, None, None, None


class RmsNorm(torch.autograd.Function):
    """`x / sqrt(mean(x^2) + eps) * weight` over the last dimension (Zhang and Sennrich 2019)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """Like x."""
        wide = _wide(x)
        with torch.autocast("cpu", enabled=False):  # it would round the sum of squares
            squares = torch.linalg.vecdot(wide, wide)
        inverse = squares.div_(x.shape[-1]).add_(eps).rsqrt_().unsqueeze(-1)
        ctx.save_for_backward(x, weight, inverse)
        normed: Tensor = (wide * inverse).to(x.dtype).mul_(weight)
        return normed

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        """Gradients of x, and of the weight where it trains."""
        narrow, weight, inverse = ctx.saved_tensors
        x, grad = _wide(narrow), _wide(grads[0])
        weight_grad = None
        if ctx.needs_input_grad[1]:
            weight_grad = (grad * x).mul_(inverse).flatten(0, -2).sum(0).to(weight.dtype)
        scaled = grad * weight
        along = torch.linalg.vecdot(scaled, x).unsqueeze(-1).mul_(inverse.square()).div_(-x.shape[-1])
        return scaled.addcmul_(x, along).mul_(inverse).to(narrow.dtype), weight_grad, None


class Swiglu(torch.autograd.Function):
    """`silu(gate) * up` (Shazeer 2020); silu is computed again in the backward pass instead of kept."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        """Like both."""
        ctx.save_for_backward(gate, up)
        return silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        """Gradients of gate and up."""
        gate, up = ctx.saved_tensors
        return torch.ops.aten.silu_backward(grads[0] * up, gate), silu(gate).mul_(grads[0])


@dataclass(frozen=True, slots=True)
class Adapter:
    """A frozen linear layer with a plain low-rank adapter beside it: `x W^T + bias + scale (x A^T) B^T`."""

    weight: Tensor
    bias: Tensor | None
    a_RI: Tensor
    b_OR: Tensor
    scale: float
    watch: Watch | None = None
    """Takes each unit's gradient instead of their sum, in private training."""


class GatedLora(torch.autograd.Function):
    """`down(silu(gate(x)) * up(x))`, an adapter on each; what goes into `down` is computed again instead of kept.

    The adapters of gate and up read x in one product.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, how: tuple[Sequence[float], Watch | None], *layers: Tensor) -> Tensor:
        """[..., out] of x [..., in]; `layers` are the weight, a and b of gate, then of up, then of down; `how` their
        scales, and who watches."""
        scales, watch = how
        ctx.adapters = tuple(layers[place] for place in (1, 2, 4, 5, 7, 8))
        layers = tuple(layer.to(x.dtype) for layer in layers)
        gate_w, gate_a, gate_b, up_w, up_a, up_b, down_w, down_a, down_b = layers
        x_NI = x.reshape(-1, x.shape[-1])
        low_NR = x_NI @ torch.cat((gate_a, up_a)).t()
        gate_low, up_low = torch.split(low_NR, [len(gate_a), len(up_a)], 1)
        gate_NM = linear(x_NI, gate_w).addmm_(gate_low, gate_b.t(), alpha=scales[0])
        up_NM = linear(x_NI, up_w).addmm_(up_low, up_b.t(), alpha=scales[1])
        product_NM = silu(gate_NM).mul_(up_NM)
        down_low = product_NM @ down_a.t()
        out_NO = linear(product_NM, down_w).addmm_(down_low, down_b.t(), alpha=scales[2])
        ctx.save_for_backward(x_NI, low_NR, gate_NM, up_NM, down_low, *layers)
        ctx.scales, ctx.shape, ctx.watch = scales, x.shape, watch
        return out_NO.view(*x.shape[:-1], out_NO.shape[-1])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        """Gradients of x, and of the three adapters' matrices; the weights are frozen."""
        x_NI, low_NR, gate_NM, up_NM, down_low, *layers = ctx.saved_tensors
        gate_w, gate_a, gate_b, up_w, up_a, up_b, down_w, down_a, down_b = layers
        gate_scale, up_scale, down_scale = ctx.scales
        grad_NO = grads[0].reshape(-1, grads[0].shape[-1])
        down_back = (grad_NO @ down_b).mul_(down_scale)
        product_grad = (grad_NO @ down_w).addmm_(down_back, down_a)
        opened_NM = silu(gate_NM)
        product_NM = opened_NM * up_NM
        up_grad = opened_NM.mul_(product_grad)
        gate_grad = torch.ops.aten.silu_backward(product_grad.mul_(up_NM), gate_NM)
        back_NR = torch.cat(((gate_grad @ gate_b).mul_(gate_scale), (up_grad @ up_b).mul_(up_scale)), 1)
        ranks = [len(gate_a), len(up_a)]
        gate_low, up_low = torch.split(low_NR, ranks, 1)
        x_grad = None
        if ctx.needs_input_grad[0]:
            x_grad = (gate_grad @ gate_w).addmm_(up_grad, up_w)
            x_grad = x_grad.addmm_(back_NR, torch.cat((gate_a, up_a))).view(ctx.shape)
        if ctx.watch is not None:
            gate_back, up_back = torch.split(back_NR, ranks, 1)
            sides = (
                (gate_back, x_NI), (gate_grad, gate_low * gate_scale), (up_back, x_NI), (up_grad, up_low * up_scale),
                (down_back, product_NM), (grad_NO, down_low * down_scale),
            )  # fmt: skip
            _watched(ctx, sides)
            return x_grad, None, *[None] * len(layers)
        gate_a_grad, up_a_grad = torch.split(back_NR.t() @ x_NI, ranks)
        down_a_grad = down_back.t() @ product_NM
        return (
            x_grad, None,
            None, gate_a_grad, (gate_grad.t() @ gate_low).mul_(gate_scale),
            None, up_a_grad, (up_grad.t() @ up_low).mul_(up_scale),
            None, down_a_grad, (grad_NO.t() @ down_low).mul_(down_scale),
        )  # fmt: skip


def _wide(x: Tensor) -> Tensor:
    """In the dtype that sums are kept in."""
    return x.float() if x.dtype == torch.bfloat16 else x


def _watched(ctx: Any, sides: Sequence[tuple[Tensor, Tensor]]) -> None:
    """Gives each unit's gradients of the adapters' matrices, each the product of two sides."""
    for weight, (out_NO, in_NI) in zip(ctx.adapters, sides, strict=True):
        ctx.watch.take(weight, ctx.shape[:-1], lambda owner, out=out_NO, into=in_NI: outer(out, into, owner))


def fuse(module: nn.Module) -> None:
    """Replaces, in place, the forward of every norm and gated feed-forward part that a fused form answers alike.

    Not in float64: libraries compute norms in float32 whatever the weights are, and there the plain path is the oracle.
    """
    proven: dict[object, bool] = {}
    for part in module.modules():
        forward = _form(part)
        if forward is None or (first := next(part.parameters())).dtype not in _AGREE:
            continue
        kind = (type(part), first.shape, first.dtype)
        if kind not in proven:
            proven[kind] = _agrees(part, forward)
        if proven[kind]:
            part.forward = MethodType(forward, part)  # a method, so that a copy of the module uses its own weights


def _form(part: nn.Module) -> Callable[[Any, Tensor], Tensor] | None:
    """The fused form that may stand for this module, by its make."""
    if {name for name, _ in part.named_children()} == {"gate_proj", "up_proj", "down_proj", "act_fn"}:
        return _gated
    if "RMSNorm" in type(part).__name__ and isinstance(getattr(part, "weight", None), nn.Parameter):
        return _norm
    return None


def _gated(self: Any, x: Tensor) -> Tensor:
    layers = (self.gate_proj, self.up_proj, self.down_proj)
    adapted = [one for layer in layers if (one := _adapter(layer, x.dtype)) is not None and one.bias is None]
    if len(adapted) == len(layers):
        given = [tensor for one in adapted for tensor in (one.weight, one.a_RI, one.b_OR)]
        how = (tuple(one.scale for one in adapted), adapted[0].watch)  # one watches all
        whole: Tensor = GatedLora.apply(x, how, *given)  # type: ignore[no-untyped-call]
        return whole
    down: Tensor = self.down_proj(Swiglu.apply(self.gate_proj(x), self.up_proj(x)))  # type: ignore[no-untyped-call]
    return down


def _adapter(layer: nn.Module, dtype: torch.dtype) -> Adapter | None:
    """The layer's plain adapter, where it has one."""
    found: Callable[[torch.dtype], Adapter | None] | None = getattr(layer, "plain_adapter", None)
    return None if found is None else found(dtype)


def keeps_half(module: nn.Module) -> bool:
    """Whether what layers keep for their gradients is bfloat16: weights that are, and no adapter that PEFT computes,
    which keeps its inputs in float32."""
    half = any(weight.dtype == torch.bfloat16 for weight in module.parameters())
    adapted = (part for part in module.modules() if hasattr(part, "lora_A"))
    return half and all(_adapter(part, torch.bfloat16) is not None for part in adapted)


def _norm(self: Any, x: Tensor) -> Tensor:
    eps = self.variance_epsilon if hasattr(self, "variance_epsilon") else self.eps
    normed: Tensor = RmsNorm.apply(x, self.weight, eps)  # type: ignore[no-untyped-call]
    return normed


def _agrees(part: nn.Module, forward: Callable[[Any, Tensor], Tensor]) -> bool:
    """Whether both forms give the same value and gradient on random rows, as closely as `_AGREE` says.

    The gradient is that along random numbers: the squares of what a norm with equal weights gives always add up to the
    same, so their gradient would be rounding alone.
    """
    if len(signature(part.forward).parameters) != 1:
        return False  # it takes more than x (in Mamba2's norm a gate), which no probe of x alone would give it
    first = next(part.parameters())
    drawn = torch.Generator().manual_seed(0)
    x, along = torch.randn(2, _PROBED, first.shape[-1], generator=drawn).to(first.dtype)
    answers = []
    for function in (part.forward, MethodType(forward, part)):
        asked = x.clone().requires_grad_()
        try:
            value = function(asked)
            (grad,) = torch.autograd.grad((value * along).sum(), asked)
        except (RuntimeError, TypeError, ValueError, AttributeError):
            return False
        answers.append((value.detach(), grad))
    return all(map(_close, *answers, _AGREE[first.dtype]))


def _close(wanted: Tensor, found: Tensor, share: float) -> bool:
    return wanted.shape == found.shape and float((wanted - found).abs().max()) <= share * float(wanted.abs().max())
