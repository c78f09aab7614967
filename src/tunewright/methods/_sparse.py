"""A change of a few chosen coordinates of frozen matrices, and of some small weights as a whole."""

from __future__ import annotations

import copy
import json
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MethodType
from typing import Any, ClassVar, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers.pytorch_utils import Conv1D

from tunewright.core.errors import UserError
from tunewright.core.files import write_json
from tunewright.methods._freeze import read_past, tied
from tunewright.models.contracts import LoadedModel, Method
from tunewright.models.per_unit import Watch, patches_of, picked

_WEIGHTS, _CONFIG = "sparse_change.safetensors", "sparse_config.json"
_KINDS = (nn.Linear, Conv1D, nn.Conv1d, nn.Conv2d)
"""Modules whose matrices can change in a few coordinates."""


class SparseLayer(torch.autograd.Function):
    """A linear layer whose weight holds its base plus a few changed coordinates; the gradient is of those alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, values_K: Tensor, how: _How) -> Tensor:
        """[..., out] of x [..., in]; `how` holds the coordinates, whether the weight is [in, out], and who watches."""
        ctx.save_for_backward(x, weight)
        ctx.values, ctx.how = values_K, how
        if how[1] and bias is not None:
            return torch.addmm(bias, x.reshape(-1, x.shape[-1]), weight).view(*x.shape[:-1], -1)
        return linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        """Gradients of x, of a trained bias, and of the changed coordinates."""
        x, weight = ctx.saved_tensors
        coordinate_K, swapped, watch = ctx.how
        grad = grads[0]
        x_grad = grad @ (weight.t() if swapped else weight) if ctx.needs_input_grad[0] else None
        bias_grad = grad.flatten(0, -2).sum(0) if ctx.needs_input_grad[2] else None
        out, into = (x, grad) if swapped else (grad, x)
        if watch is not None:
            watch.take(ctx.values, grad.shape[:-1], lambda owner: picked(out, into, owner, coordinate_K))
            return x_grad, None, bias_grad, None, None
        out_MO, in_MI = out.reshape(-1, out.shape[-1]), into.reshape(-1, into.shape[-1])
        return x_grad, None, bias_grad, (out_MO.t() @ in_MI).view(-1)[coordinate_K], None


_How = tuple[Tensor, bool, Watch | None]


class Change(nn.Module):
    """What changes in one weight: which coordinates, their base values, and the trained differences."""

    watch: Watch | None = None
    """Takes each unit's gradient instead of their sum, in private training."""

    def __init__(self, weight: Tensor, coordinate_K: Tensor) -> None:
        super().__init__()
        self.coordinate_K, self.base_K = coordinate_K, weight.detach().view(-1)[coordinate_K].clone()
        self.values = nn.Parameter(torch.zeros(len(coordinate_K), dtype=weight.dtype))
        self.on = True
        self._written: tuple[int, bool] | None = None

    def write(self, weight: Tensor) -> None:
        """Puts base plus change (or the base alone, when off) into the weight, if that is not what stands there."""
        wanted = (self.values._version, self.on)
        if wanted == self._written:
            return
        with torch.no_grad():
            now = self.base_K + self.values if self.on else self.base_K
            weight.view(-1).index_copy_(0, self.coordinate_K, now.to(weight.dtype))
        self._written = wanted

    def dense(self, weight: Tensor) -> Tensor:
        """The weight as a function of the changed coordinates."""
        now = (self.base_K + self.values).to(weight.dtype)
        return weight.detach().view(-1).index_copy(0, self.coordinate_K, now).view_as(weight)


def _layer(self: Any, x: Tensor) -> Tensor:
    """Writes the changed coordinates into the weight (few, so it costs nothing), then is the layer."""
    change: Change = self.sparse_change
    change.write(self.weight)
    how = (change.coordinate_K, isinstance(self, Conv1D), change.watch)
    layer: Tensor = SparseLayer.apply(x, self.weight, self.bias, change.values, how)  # type: ignore[no-untyped-call]
    return layer


def _convolution(self: Any, x: Tensor) -> Tensor:
    """The same for a convolution, whose weight is small enough to be copied."""
    change: Change = self.sparse_change
    change.write(self.weight)
    watch = change.watch if torch.is_grad_enabled() else None
    trains = change.on and torch.is_grad_enabled() and change.values.requires_grad and watch is None
    out: Tensor = self._conv_forward(x, change.dense(self.weight) if trains else self.weight, self.bias)
    if watch is not None:
        if not out.requires_grad:
            out.requires_grad_()
        flat, into = out.flatten(2).shape, x.detach()

        def take(grad: Tensor) -> None:
            grads, patches = grad.flatten(2).transpose(1, 2), patches_of(self, into)
            watch.take(
                change.values, (flat[0], flat[2]), lambda owner: picked(grads, patches, owner, change.coordinate_K)
            )

        out.register_hook(take)  # type: ignore[no-untyped-call]
    return out


class SparseChange(Method):
    """Changes chosen coordinates of matrices, and chosen small weights as a whole; a subclass says which."""

    frozen_dtype: ClassVar[Literal["auto", "float32"]] = "float32"

    @abstractmethod
    def coordinates(self, model: LoadedModel, seed: int) -> dict[str, Tensor]:
        """Name of a matrix -> its changed coordinates, in the flattened weight, sorted."""

    def whole(self, model: LoadedModel) -> list[str]:
        """Names of weights that change as a whole."""
        return []

    def attach(self, model: LoadedModel, seed: int) -> LoadedModel:
        """Marks the coordinates; nothing of the answers changes yet."""
        model.module.to(torch.float32).requires_grad_(False)
        _put_on(model.module, self.coordinates(model, seed), self.whole(model))
        for weight in self.trained(model).values():
            weight.requires_grad_(True)
        return model

    def trained(self, model: LoadedModel) -> dict[str, nn.Parameter]:
        """Changes of coordinates by their weight's name with `.sparse` behind it, and whole weights, sorted."""
        found = {
            f"{path}.weight.sparse": part.sparse_change.values
            for path, part in model.module.named_modules()
            if hasattr(part, "sparse_change")
        }
        whole = {name: model.module.get_parameter(name) for name in getattr(model.module, "sparse_whole", {})}
        return dict(sorted((found | whole).items()))

    @contextmanager
    def off(self, model: LoadedModel) -> Iterator[None]:
        """Within it the base's own values stand in the weights, bit for bit: the base answers.

        Where the output head has changed coordinates it is read whole and not in slices, so answers round otherwise.
        """
        whole: dict[str, Tensor] = model.module.sparse_whole
        now = {name: model.module.get_parameter(name).detach().clone() for name in whole}
        _switch(model.module, whole, on=False)
        try:
            yield
        finally:
            _switch(model.module, now, on=True)

    def save(self, model: LoadedModel, folder: Path) -> None:
        """Writes coordinates and values alone, a few megabytes, and the tokenizer."""
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {name: weight.detach().contiguous() for name, weight in self.trained(model).items()}
        for path, part in model.module.named_modules():
            if hasattr(part, "sparse_change"):
                tensors[f"{path}.weight.at"] = part.sparse_change.coordinate_K.to(torch.int32)
        save_file(tensors, folder / _WEIGHTS)
        write_json(folder / _CONFIG, {"format": 1, "base_model_name_or_path": str(model.origin.folder.absolute())})
        if hasattr(model.tokenizer, "save_pretrained"):
            model.tokenizer.save_pretrained(folder)

    def load(self, model: LoadedModel, folder: Path) -> LoadedModel:
        """Puts the change that `save` wrote on a freshly opened base, frozen, float32.

        Raises:
            UserError: There is no such change in the folder, or it does not fit this base.
        """
        tensors = _read(folder)
        model.module.to(torch.float32).requires_grad_(False)
        at = {name.removesuffix(".at"): t.long() for name, t in tensors.items() if name.endswith(".weight.at")}
        whole = [name for name in tensors if not name.endswith((".weight.at", ".weight.sparse"))]
        try:
            _put_on(model.module, at, whole)
            with torch.no_grad():
                for name, weight in self.trained(model).items():
                    weight.copy_(tensors[name])
        except (AttributeError, KeyError, IndexError, RuntimeError) as error:
            raise UserError(
                f"{folder}: the change does not fit {model.origin.name} ({error}). Open it on the model it was "
                f"trained on (base_model_name_or_path in {_CONFIG})."
            ) from None
        model.module.requires_grad_(False)
        _switch(model.module, {}, on=True)
        return model

    def merge(self, model: LoadedModel) -> LoadedModel:
        """A plain copy of the model with the changes in its weights; the given one is unchanged."""
        merged = copy.deepcopy(model.module)
        for part in merged.modules():
            if hasattr(part, "sparse_change"):
                part.sparse_change.write(part.weight)
                del part.sparse_change
                part.__dict__.pop("forward")
        merged.__dict__.pop("sparse_whole")
        return model.with_module(merged.requires_grad_(False))


def matrices(model: LoadedModel) -> dict[str, nn.Parameter]:
    """Matrices in which coordinates may be chosen: of linear layers and convolutions that share theirs with nobody."""
    shared = tied(model.module)
    found: dict[str, nn.Parameter] = {}
    past = read_past(model)
    for path, part in model.module.named_modules():
        called = path.rpartition(".")[2] not in past
        if called and isinstance(part, _KINDS) and getattr(part, "groups", 1) == 1:
            weight = part.get_parameter("weight")
            if id(weight) not in shared:
                found[f"{path}.weight"] = weight
    return found


def _put_on(module: nn.Module, coordinates: Mapping[str, Tensor], whole: list[str]) -> None:
    for name, coordinate_K in coordinates.items():
        part: Any = module.get_submodule(name.removesuffix(".weight"))
        part.sparse_change = Change(part.weight, coordinate_K)
        part.forward = MethodType(_convolution if isinstance(part, nn.Conv1d | nn.Conv2d) else _layer, part)
    kept: Any = module
    kept.sparse_whole = {name: module.get_parameter(name).detach().clone() for name in sorted(whole)}


def _switch(module: nn.Module, whole: Mapping[str, Tensor], *, on: bool) -> None:
    for part in module.modules():
        if isinstance(getattr(part, "sparse_change", None), Change):
            changed: Any = part
            changed.sparse_change.on = on
            changed.sparse_change.write(changed.weight)
    with torch.no_grad():
        for name, value in whole.items():
            module.get_parameter(name).copy_(value)


def _read(folder: Path) -> dict[str, Tensor]:
    if not (folder / _WEIGHTS).is_file() or not (folder / _CONFIG).is_file():
        raise UserError(
            f"{folder}: found no sparse change ({_WEIGHTS} and {_CONFIG}). Give the model folder of a finished run "
            "with method sparse or norm_head."
        )
    try:
        json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
        return load_file(folder / _WEIGHTS)
    except (ValueError, SafetensorError) as error:
        raise UserError(f"{folder}: the change's files are damaged ({error}). Copy or make them again.") from None
