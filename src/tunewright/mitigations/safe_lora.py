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
            _Weights(resolve_model(self.unaligned).folder)
        except UserError as error:
            return error.problems
        return []

    def project(self, model: LoadedModel) -> Effect:
        """Replaces B by C B in the adapters that the rule chooses.

        Raises:
            UserError: The unaligned model lacks a module, has another shape, or is the aligned one itself.
        """
        weights = _Weights(resolve_model(self.unaligned).folder)
        every = [_Adapter.of(name, layer, weights) for name, layer in _adapters(model)]
        found = [adapter for adapter in every if adapter is not None]
        if not found:
            raise UserError(
                f"safe_lora: {self.unaligned} has the very weights of the model that was tuned, so it shows no "
                "direction of alignment. Name the model before its alignment."
            )
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
            f"safe_lora: {len(chosen)} of {len(found)} adapters were projected onto the direction of alignment; "
            f"they keep {kept:.1%} of their length on average."
        )
        return Effect(sentence, {"adapters": facts})


@dataclass(frozen=True, slots=True)
class _Adapter:
    name: str
    weight: torch.nn.Parameter
    projected: Tensor
    cosine: float
    length_kept: float

    @classmethod
    def of(cls, name: str, layer: Any, weights: _Weights) -> _Adapter | None:
        """The adapter with its projection; None where the module has no direction, or the adapter does nothing."""
        (active,) = layer.active_adapters
        aligned = layer.base_layer.weight.detach().float()
        v_OI = aligned - weights.get(name, aligned.shape)
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
            raise UserError(f"safe_lora.unaligned: {folder} holds no *.safetensors.")

    def get(self, module: str, shape: torch.Size) -> Tensor:
        name = f"{module}.weight"
        if name not in self.files:
            raise UserError(f"safe_lora.unaligned: {self.folder} has no '{name}'; it must have the same architecture.")
        with safe_open(self.folder / self.files[name], "pt") as file:
            found: Tensor = file.get_tensor(name).float()
        if found.shape != shape:
            raise UserError(
                f"safe_lora.unaligned: '{name}' has shape {tuple(found.shape)} in {self.folder}, here {tuple(shape)}; "
                "it must have the same architecture."
            )
        return found


def _adapters(model: LoadedModel) -> Iterator[tuple[str, LoraLayer]]:
    for name, layer in model.module.named_modules():
        if isinstance(layer, LoraLayer):
            yield name.removeprefix(_PREFIX), layer
