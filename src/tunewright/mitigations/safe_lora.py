"""Adapters projected onto the direction of alignment."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from pydantic import Field, model_validator
from safetensors import safe_open
from torch import Tensor

from tunewright.core.errors import UserError
from tunewright.core.records import Example
from tunewright.mitigations._base import Effect, Mitigation
from tunewright.models.contracts import LoadedModel
from tunewright.models.embedded import resolve_model

_PREFIX = "base_model.model."
"""What PEFT puts before a module's own name."""


class SafeLora(Mitigation):
    """After training, adapters that point away from the alignment are projected onto it (Safe LoRA).

    Hsu et al., NeurIPS 2024. With V = W_aligned - W_unaligned of a module and C = V V^T / |V|, an adapter B A becomes
    C B A where the cosine of the two is below a threshold. Needs no data and no training, but the model before its
    alignment. Modules are paired by name.
    """

    unaligned: str = ""
    """The model before its alignment: folder or name, same architecture."""
    threshold: float | None = Field(0.5, ge=-1, le=1)
    """Adapters whose cosine is at most this are projected."""
    layers: int | None = Field(None, gt=0)
    """In place of a threshold: so many adapters, those with the lowest cosine."""

    @model_validator(mode="after")
    def _one_rule(self) -> SafeLora:
        if self.threshold is None and self.layers is None:
            raise ValueError("give a threshold, or a number of layers")
        return self

    def check(self, train: Sequence[Example], model: LoadedModel, method: str) -> list[str]:
        """Needs LoRA and the unaligned model's weights."""
        if method != "lora":
            return [f"safe_lora projects adapters, and method '{method}' has none. Use method lora."]
        if not self.unaligned:
            return ["safe_lora.unaligned: name the model before its alignment (folder or name)."]
        try:
            return self._faults(model.family.adapter_targets(model), *self._both(model))
        except UserError as error:
            return error.problems

    def project(self, model: LoadedModel) -> Effect:
        """Replaces B by C B in the adapters that the rule chooses.

        Raises:
            UserError: The unaligned model lacks a module, has another shape, or is the aligned one itself.
        """
        aligned, unaligned = self._both(model)
        layers = dict(_adapters(model))
        faults = self._faults(list(layers), aligned, unaligned)
        if faults:
            raise UserError(faults)
        found, alike = list[_Adapter](), list[str]()
        for name, layer in layers.items():
            v_OI = _direction(name, aligned, unaligned)  # one at a time: together they are as large as the model
            alike += [] if bool(v_OI.any()) else [name]
            adapter = _Adapter.of(name, layer, v_OI)
            found += [] if adapter is None else [adapter]
        ranked = sorted(found, key=lambda adapter: adapter.cosine)
        chosen = ranked[: self.layers] if self.layers else [a for a in ranked if a.cosine <= (self.threshold or 0.0)]
        with torch.no_grad():
            for adapter in chosen:
                adapter.weight.copy_(adapter.projected)
        names = {adapter.name for adapter in chosen}
        facts = [
            {"module": a.name, "cosine": a.cosine, "projected": a.name in names, "length_kept": a.length_kept}
            for a in found
        ]
        kept = sum(a.length_kept for a in chosen) / len(chosen) if chosen else 1.0
        sentence = (
            f"safe_lora: {len(chosen)} of {len(layers)} adapters were projected onto the direction of alignment; "
            f"they keep {kept:.1%} of their length on average."
        )
        if alike:
            sentence += (
                f" In {len(alike)} modules both models have the same weights, which shows no direction: the adapters "
                "there stay as they were trained."
            )
        return Effect(sentence, {"adapters": facts, "without_direction": alike})

    def _both(self, model: LoadedModel) -> tuple[_Weights, _Weights]:
        """The weights of the model that is tuned and of the one before its alignment, both as they are stored."""
        return _Weights(model.origin.folder), _Weights(resolve_model(self.unaligned).folder)

    def _faults(self, modules: Sequence[str], aligned: _Weights, unaligned: _Weights) -> list[str]:
        """Why the two show no direction of alignment for these modules; empty when they do."""
        for name in modules:
            shapes = aligned.shape(name), unaligned.shape(name)
            if None in shapes or shapes[0] != shapes[1]:
                here, there = (f"the shape {shape}" if shape else "no such weight" for shape in shapes)
                return [
                    f"safe_lora.unaligned: of '{name}.weight' {unaligned.folder} has {there}, the model that is tuned "
                    f"({aligned.folder}) {here}; it must have the same architecture."
                ]
        if not any(bool(_direction(name, aligned, unaligned).any()) for name in modules):
            return [
                f"safe_lora.unaligned: {self.unaligned} has the very weights of the model that is tuned, so it shows "
                "no direction of alignment. Name the model before its alignment."
            ]
        return []


@dataclass(frozen=True, slots=True)
class _Adapter:
    name: str
    weight: torch.nn.Parameter
    projected: Tensor
    cosine: float
    length_kept: float

    @classmethod
    def of(cls, name: str, layer: Any, v_OI: Tensor) -> _Adapter | None:
        """The adapter with its projection; None where the module has no direction, or the adapter does nothing."""
        (active,) = layer.active_adapters
        if getattr(layer, "fan_in_fan_out", False):
            v_OI = v_OI.T
        a_RI, b_OR = layer.lora_A[active].weight.detach().float(), layer.lora_B[active].weight.detach().float()
        length = v_OI.norm()
        change = b_OR @ a_RI
        if not bool(length > 0) or not bool(change.norm() > 0):
            return None
        projected = v_OI @ (v_OI.T @ b_OR) / length
        turned = projected @ a_RI
        cosine = float((turned * change).sum() / (turned.norm() * change.norm()).clamp(min=1e-30))
        return cls(name, layer.lora_B[active].weight, projected, cosine, float(turned.norm() / change.norm()))


class _Weights:
    """A model folder's weights by name, read one at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        index = folder / "model.safetensors.index.json"
        if index.is_file():
            self.files: dict[str, str] = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        else:
            self.files = {}
            for path in sorted(folder.glob("*.safetensors")):
                with safe_open(path, "pt") as file:
                    self.files |= dict.fromkeys(file.keys(), path.name)
        if not self.files:
            raise UserError(f"safe_lora: {folder} holds no *.safetensors.")

    def shape(self, module: str) -> tuple[int, ...] | None:
        """Of the module's weight, by the file's header; None where there is none."""
        name = f"{module}.weight"
        if name not in self.files:
            return None
        with safe_open(self.folder / self.files[name], "pt") as file:
            return tuple(file.get_slice(name).get_shape())

    def get(self, module: str) -> Tensor:
        """The module's weight as it is stored."""
        name = f"{module}.weight"
        with safe_open(self.folder / self.files[name], "pt") as file:
            found: Tensor = file.get_tensor(name)
        return found


def _direction(module: str, aligned: _Weights, unaligned: _Weights) -> Tensor:
    """W_aligned - W_unaligned; where one is stored more coarsely, of both rounded so: rounding is no direction."""
    weights = aligned.get(module), unaligned.get(module)
    coarser = max((weight.dtype for weight in weights), key=lambda dtype: torch.finfo(dtype).eps)
    first, second = (weight.to(coarser).float() for weight in weights)
    return first - second


def _adapters(model: LoadedModel) -> Iterator[tuple[str, LoraLayer]]:
    for name, layer in model.module.named_modules():
        if isinstance(layer, LoraLayer):
            yield name.removeprefix(_PREFIX), layer
