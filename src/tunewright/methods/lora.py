"""Low-rank adapters beside frozen linear layers, by PEFT."""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from peft.tuners.lora import Linear, LoraLayer
from pydantic import Field, field_validator
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from tunewright.core.errors import UserError, nearest
from tunewright.core.files import read_json, write_json
from tunewright.core.seeds import key
from tunewright.methods._freeze import read_past
from tunewright.models.contracts import LoadedModel, Method
from tunewright.models.fused import Adapter, LoraLinear
from tunewright.models.per_unit import Watch

_WEIGHTS, _CONFIG = "adapter_model.safetensors", "adapter_config.json"


class Lora(Method):
    """Trains low-rank adapters beside the model's linear layers; the base stays as it is.

    Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models". The adapters are float32 whatever the
    base is; beside a bfloat16 base they are rounded for their products (`models/fused.py`), or, with dropout, PEFT
    casts each layer's input to float32 and the sum back.
    """

    r: int = Field(default=16, ge=1)
    """Rank of each adapter."""
    lora_alpha: float = Field(default=32, gt=0, allow_inf_nan=False)
    """The adapter's output is scaled by `lora_alpha / r`."""
    lora_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of an adapter's inputs dropped in training."""
    target_modules: Literal["all-linear"] | tuple[str, ...] = "all-linear"
    """`all-linear`, or names of linear modules: in full, or their last part (`q_proj`)."""

    @field_validator("target_modules", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        """One sentence instead of one for each member of the union; an empty list would train nothing."""
        listed = isinstance(value, list | tuple) and value and all(isinstance(name, str) for name in value)
        if value != "all-linear" and not listed:
            raise ValueError("allowed are all-linear or a list of module names, such as [q_proj, v_proj]")
        return value

    def attach(self, model: LoadedModel, seed: int) -> LoadedModel:
        """Puts a fresh adapter around the model; its answers don't change yet.

        Raises:
            UserError: `target_modules` names what the model does not have.
        """
        targets = self._targets(model)
        module, mode = model.module, model.module.training
        with torch.random.fork_rng(), _quiet():
            torch.manual_seed(key(seed, "lora"))
            adapted = get_peft_model(module, self._config(module, targets), autocast_adapter_dtype=False)
            adapters = [layer for layer in adapted.modules() if isinstance(layer, LoraLayer)]
            for weight in _adapter_weights(adapted).values():
                weight.data = weight.data.to(torch.float32)
            # PEFT draws, then rounds to the base's dtype; drawn again, a bf16 base starts from the same adapter.
            for layer in adapters:
                layer.reset_lora_parameters("default", True)
        _fuse(adapted)
        adapted.train(mode)  # the adapters' dropout is new, so it would be on in a model that is ready to answer
        adapted.peft_config["default"].base_model_name_or_path = str(model.origin.folder.absolute())
        return model.with_module(adapted)

    def trained(self, model: LoadedModel) -> dict[str, nn.Parameter]:
        """The adapters' matrices by name, sorted."""
        return _adapter_weights(model.module)

    @contextmanager
    def off(self, model: LoadedModel) -> Iterator[None]:
        """Within it the adapters are bypassed: the base answers, bit for bit."""
        before = [(weight, weight.requires_grad) for weight in self.trained(model).values()]
        try:
            with model.module.disable_adapter():
                yield
        finally:  # PEFT lets all adapters train when it switches them on, even ones that were frozen
            for weight, trains in before:
                weight.requires_grad_(trains)

    def save(self, model: LoadedModel, folder: Path) -> None:
        """Writes PEFT's files and, where a library made it, the tokenizer; opens in PEFT and transformers as it is."""
        # Embeddings never train here, and PEFT's "auto" would ask the hub about them.
        model.module.save_pretrained(folder, save_embedding_layers=False)
        if hasattr(model.tokenizer, "save_pretrained"):
            model.tokenizer.save_pretrained(folder)
        if getattr(model.module, "generation_config", None) is not None:  # says where answers end
            model.module.generation_config.to_json_file(folder / "generation_config.json")
        # PEFT writes sets in the order of the process's hash seed; equal runs must leave equal files.
        config = read_json(folder / _CONFIG)
        ordered = {name: sorted(value) if name == "target_modules" else value for name, value in config.items()}
        write_json(folder / _CONFIG, ordered)

    def load(self, model: LoadedModel, folder: Path) -> LoadedModel:
        """Puts the adapter that `save` (or PEFT) wrote around a freshly opened base, frozen, float32.

        Raises:
            UserError: There is no adapter in the folder, or it does not fit this base.
        """
        stored = _stored_shapes(folder)
        try:
            with _quiet():
                adapted = PeftModel.from_pretrained(model.module, str(folder), autocast_adapter_dtype=True)
        except (ValueError, RuntimeError, TypeError) as error:
            raise _misfit(folder, model, str(error).strip().splitlines()[0]) from None
        _fuse(adapted)
        wanted = get_peft_model_state_dict(adapted, save_embedding_layers=False)
        if wanted.keys() != stored.keys():
            example = sorted(wanted.keys() ^ stored.keys())[0]
            raise _misfit(folder, model, f"the weights' names differ, the first is {example}")
        return model.with_module(adapted)

    def merge(self, model: LoadedModel) -> LoadedModel:
        """A plain float32 copy of the model with the adapters added to its weights; the given one is unchanged."""
        merged = copy.deepcopy(model.module).to(torch.float32).merge_and_unload()
        return model.with_module(merged.requires_grad_(False))

    def _targets(self, model: LoadedModel) -> list[str]:
        available = _attachable(model)
        if self.target_modules == "all-linear":
            return available
        endings = {name.rpartition(".")[2] for name in available}
        allowed = sorted(endings)
        problems = [
            f"method.target_modules: found '{name}', which is no linear module of {model.origin.name}."
            f"{nearest(name, allowed)} Allowed: all-linear, or some of {', '.join(allowed)}, or full module names."
            for name in self.target_modules
            if name not in endings and name not in available
        ]
        if problems:
            raise UserError(problems)
        return [n for n in available if n in self.target_modules or n.rpartition(".")[2] in self.target_modules]

    def _config(self, module: nn.Module, targets: list[str]) -> LoraConfig:
        speaks = getattr(module, "can_generate", bool)() and not getattr(module.config, "is_encoder_decoder", False)
        return LoraConfig(
            r=self.r,
            lora_alpha=int(self.lora_alpha) if float(self.lora_alpha).is_integer() else self.lora_alpha,
            lora_dropout=self.lora_dropout,
            target_modules=targets,
            fan_in_fan_out=any(isinstance(module.get_submodule(name), Conv1D) for name in targets),
            task_type="CAUSAL_LM" if speaks else None,
        )


class _Fused(Linear):  # type: ignore[misc]
    """PEFT's layer with one plain adapter computed in one function; everything else it does stays PEFT's."""

    watch: Watch | None = None
    """Takes each unit's gradient instead of their sum, in private training."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        """[..., out] of x [..., in]."""
        if args or kwargs or not self._plain(x.dtype):
            return super().forward(x, *args, **kwargs)
        own = self._own()
        how = (own.scale, self.watch)
        return LoraLinear.apply(x, (own.weight, own.bias), own.a_RI, own.b_OR, how)  # type: ignore[no-untyped-call]

    def plain_adapter(self, dtype: torch.dtype) -> Adapter | None:
        """The layer as a larger fused form can compute it; None where it can't."""
        return self._own() if self._plain(dtype) else None

    def _own(self) -> Adapter:
        (name,) = self.active_adapters
        base = self.base_layer
        a_RI, b_OR = self.lora_A[name].weight, self.lora_B[name].weight
        return Adapter(base.weight, base.bias, a_RI, b_OR, self.scaling[name], self.watch)

    def _plain(self, dtype: torch.dtype) -> bool:
        """Whether the answer is W x + scale B A x and nothing else, in one dtype or float32 beside a bf16 base."""
        names = self.active_adapters
        if self.disable_adapters or self.merged or len(names) != 1 or names[0] not in self.lora_A or self.lora_variant:
            return False
        a, b = self.lora_A[names[0]], self.lora_B[names[0]]
        dropped = isinstance(self.lora_dropout[names[0]], nn.Dropout)
        summed = (dtype, torch.float32) if dtype == torch.bfloat16 else (dtype,)
        return not dropped and b.bias is None and dtype == self.base_layer.weight.dtype and a.weight.dtype in summed


def _fuse(adapted: nn.Module) -> None:
    """PEFT's plain linear adapters become fused ones, in place."""
    for layer in adapted.modules():
        if type(layer) is Linear and type(layer.base_layer) is nn.Linear:
            layer.__class__ = _Fused


def _attachable(model: LoadedModel) -> list[str]:
    """The family's linear modules, less those whose weights a state-space mixer reads past the adapter."""
    past = read_past(
        model
    )  # PEFT refuses some of them; an adapter there would get no gradient and yet count when merged
    return [name for name in model.family.adapter_targets(model) if name.rpartition(".")[2] not in past]


@contextmanager
def _quiet() -> Iterator[None]:
    """Mutes what PEFT says to itself (an old name of transformers), and what is told as an error instead."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)
        warnings.filterwarnings("ignore", "Found missing adapter keys", UserWarning)
        yield


def _adapter_weights(module: nn.Module) -> dict[str, nn.Parameter]:
    found = {
        f"{path}.{name}": weight
        for path, layer in module.named_modules()
        if isinstance(layer, LoraLayer)
        for name, weight in layer.named_parameters()
        if name.startswith("lora_")
    }
    return dict(sorted(found.items()))


def _stored_shapes(folder: Path) -> dict[str, Any]:
    """Names and shapes in an adapter's file; only safetensors is read (PEFT would fall back to a pickle)."""
    if not (folder / _CONFIG).is_file() or not (folder / _WEIGHTS).is_file():
        raise UserError(
            f"{folder}: found no adapter ({_CONFIG} and {_WEIGHTS}). Give the model folder of a finished LoRA run; "
            "adapters in other formats (*.bin) are not opened."
        )
    try:
        kind = json.loads((folder / _CONFIG).read_text(encoding="utf-8")).get("peft_type")
        with safe_open(folder / _WEIGHTS, "pt") as file:
            shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
    except (ValueError, AttributeError, SafetensorError) as error:
        raise UserError(f"{folder}: the adapter's files are damaged ({error}). Copy or make them again.") from None
    if kind != "LORA":
        raise UserError(f"{folder}: found an adapter of type {kind}. Allowed: LORA.")
    return shapes


def _misfit(folder: Path, model: LoadedModel, reason: str) -> UserError:
    return UserError(
        f"{folder}: the adapter does not fit {model.origin.name}: {reason}. "
        f"Open it on the model it was trained on (base_model_name_or_path in {_CONFIG})."
    )
