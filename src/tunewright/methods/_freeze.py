"""What methods that train the base's own weights share."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import nn

from tunewright.core.errors import UserError
from tunewright.core.files import file_digest
from tunewright.models.contracts import LoadedModel, Method, Origin


def train_only(module: nn.Module, trained: Iterable[nn.Parameter]) -> None:
    """Freezes every weight of the module but the given ones."""
    module.requires_grad_(False)
    for weight in trained:
        weight.requires_grad_(True)


_STATE_SPACE = {"mamba", "mamba2", "falcon_mamba", "falcon_h1", "nemotron_h"}


def read_past(model: LoadedModel) -> frozenset[str]:
    """Last names of linear modules whose weights a state-space mixer reads without calling them."""
    kind = getattr(getattr(model.module, "config", None), "model_type", None)
    return frozenset({"out_proj", "dt_proj"}) if kind in _STATE_SPACE else frozenset()


def tied(module: nn.Module) -> dict[int, str]:
    """Identity -> first name of each weight that several modules share."""
    owners = Counter(id(weight) for _, weight in module.named_parameters(remove_duplicate=False))
    return {id(weight): name for name, weight in module.named_parameters() if owners[id(weight)] > 1}


def norms_and_biases(module: nn.Module) -> list[str]:
    """Names of weights that sit directly in a norm, and of all biases."""
    # By class name: each architecture brings its own norm class (LlamaRMSNorm, Gemma3RMSNorm, LayerNorm ...).
    norms = {name for name, part in module.named_modules() if "norm" in type(part).__name__.lower()}
    return [
        name
        for name, _ in module.named_parameters()
        if name.rpartition(".")[0] in norms or name.rpartition(".")[2] == "bias"
    ]


class Overwriting(Method):
    """A method that trains some of the base's own weights; a subclass only says which."""

    frozen_dtype: ClassVar[Literal["auto", "float32"]] = "float32"
    overwrites: ClassVar[bool] = True

    @abstractmethod
    def chosen(self, model: LoadedModel) -> list[str]:
        """Names of the trained weights, in any order, each weight once.

        Raises:
            UserError: The model has none, or not as many as asked for.
        """

    def attach(self, model: LoadedModel, seed: int) -> LoadedModel:
        """Casts the whole model to float32 and freezes all but the chosen weights; draws nothing from the seed."""
        model.module.to(torch.float32)
        train_only(model.module, self.trained(model).values())
        return model

    def trained(self, model: LoadedModel) -> dict[str, nn.Parameter]:
        """The chosen weights by name, sorted."""
        return {name: model.module.get_parameter(name) for name in sorted(self.chosen(model))}

    def off(self, model: LoadedModel) -> AbstractContextManager[None]:
        """Refuses: the base's weights are gone.

        Raises:
            RuntimeError: Always.
        """
        raise RuntimeError(
            f"method '{self.plugin_name()}' overwrites the base's weights, so it can't be switched off; "
            "open the base again from its origin"
        )

    def save(self, model: LoadedModel, folder: Path) -> None:
        """Writes the whole model in the layout that its family opens."""
        model.family.save(model, folder)

    def load(self, model: LoadedModel, folder: Path) -> LoadedModel:
        """Opens the whole model that `save` wrote; of the given base only the family and the names are used.

        Raises:
            UserError: The folder holds no whole model.
        """
        files = [folder / "config.json", *sorted(folder.glob("*.safetensors"))]
        if len(files) == 1 or not files[0].is_file():
            raise UserError(
                f"{folder}: found no whole model (config.json and *.safetensors), which method "
                f"'{self.plugin_name()}' writes. Give the model folder of a finished run."
            )
        origin = Origin(model.origin.name, folder, file_digest(files), model.origin.licence)
        opened = model.family.open(origin, torch.float32)
        opened.module.requires_grad_(False)
        return opened

    def merge(self, model: LoadedModel) -> LoadedModel:
        """The model itself: the change is in its weights already."""
        return model
