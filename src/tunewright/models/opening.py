"""Finds the family of a model folder and opens it."""

from __future__ import annotations

from typing import Any

import torch

from tunewright.core import plugins
from tunewright.core.errors import UserError
from tunewright.models.contracts import LoadedModel, Origin


def family_of(origin: Origin) -> Any:
    """The family whose `match` takes the folder; outside families are asked first.

    Raises:
        UserError: No family opens it.
    """
    known = sorted(plugins.everything("families"), key=lambda plugin: plugin.__module__.startswith("tunewright."))
    found = [plugin() for plugin in known if plugin().match(origin.folder)]
    if not found:
        raise UserError(
            f"No family opens {origin.folder}. Known families: {', '.join(plugins.names('families'))}. "
            "A folder needs a config.json that names its architecture."
        )
    return found[0]


def open_model(origin: Origin, dtype: torch.dtype) -> LoadedModel:
    """Opens the model of an origin with its family."""
    model: LoadedModel = family_of(origin).open(origin, dtype)
    return model
