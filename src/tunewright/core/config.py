"""One plan from its layers: defaults < recipe < plan file < command line, and where each value came from."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tunewright.core import plan_text, plugins
from tunewright.core.errors import UserError
from tunewright.core.files import write_atomic
from tunewright.core.plan_layers import COMMAND_LINE, DEFAULT, LEAVES, PLUGINS, Asked, Layers
from tunewright.core.plan_layers import DataShape as DataShape
from tunewright.core.plan_layers import RecipeValues as RecipeValues
from tunewright.core.settings import PlanSettings


@dataclass(frozen=True, slots=True)
class Request:
    """What a command was asked to do, as it was typed."""

    data: str | None = None
    plan_file: Path | None = None
    sets: tuple[str, ...] = ()
    maps: tuple[str, ...] = ()
    out: Path | None = None
    recipe: str | None = None
    model: str | None = None


@dataclass(frozen=True, slots=True)
class ProbeRequest:
    """What `probe` was asked to do, as it was typed."""

    name: str
    model: str | None
    run: Path | None
    out: Path
    form: str = "full"
    precision: str = "float32"
    fields: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Settings of the probe, each given once or several times."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Settings, where each came from, and what to tell the user about how they were read."""

    settings: PlanSettings
    origins: dict[str, str]
    """Dotted key -> `default`, `recipe X`, `plan file X`, `command line` or `derived: why`."""
    notes: tuple[str, ...] = ()
    asked: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Origin -> what was written there, under the names that were used."""

    def dump(self) -> dict[str, Any]:
        """What plan.yaml holds: asked, resolved and origins, in plain values."""
        return {"asked": self.asked, "resolved": self.settings.model_dump(mode="json"), "origins": self.origins}

    def write(self, path: Path) -> None:
        """Writes plan.yaml, whole or not at all."""
        write_atomic(path, plan_text.written(self.dump()))

    def changed(self, values: Mapping[str, Any], why: str) -> Plan:
        """The plan with other values under dotted keys, which come from `why`; nothing else is derived anew."""
        settings = self.settings
        for key, value in values.items():
            section, _, leaf = key.rpartition(".")
            if section:
                value = getattr(settings, section).model_copy(update={leaf: value})
            settings = settings.model_copy(update={section or leaf: value})
        return replace(self, settings=settings, origins=self.origins | dict.fromkeys(values, why))

    @classmethod
    def load(cls, path: Path) -> Plan:
        """Reads what `write` wrote.

        Raises:
            UserError: The file is not the plan of a run.
        """
        try:
            tree = plan_text.parse(path.read_text(encoding="utf-8"))
            settings = PlanSettings.model_validate_json(json.dumps(tree["resolved"]), strict=True)
            return cls(settings, dict(tree["origins"]), (), dict(tree["asked"]))
        except ValidationError as error:
            faults = plugins.describe(error, "", list(LEAVES))
            raise UserError([f"{path}: {fault}" for fault in faults]) from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} is not the plan of a run ({error}). Give the folder of a run.") from None


def plan_of(request: Request, recipe: RecipeValues | None = None, rows: DataShape | None = None) -> Plan:
    """The plan of a command: reads its plan file and words, then resolves.

    Raises:
        UserError: All faults at once.
    """
    faults: list[str] = []
    file = plan_text.read_file(request.plan_file, faults) if request.plan_file else None
    options = {"data.path": request.data, "recipe": request.recipe, "model": request.model}
    asked = [(key, value) for key, value in options.items() if value is not None]
    asked += plan_text.read_map(request.maps, faults) + plan_text.read_sets(request.sets, faults)
    build = Layers(faults)
    build.recipe_layer(recipe)
    build.layer(f"plan file {request.plan_file}", plan_text.flatten(file or {}))
    build.layer(COMMAND_LINE, asked)
    path = build.values.get("data.path")
    if not (path and path.value) and not any("Plan file" in fault for fault in faults):
        faults.append("No data. Name a file or folder after the verb, or set data.path in the plan file.")
    return _plan(build, recipe, rows)


def resolve(
    asked: Mapping[str, Any],
    file: Mapping[str, Any] | None = None,
    file_name: str = "",
    recipe: RecipeValues | None = None,
    rows: DataShape | None = None,
) -> Plan:
    """The plan of given layers, each nested or under dotted or flat names.

    Args:
        asked: The command line.
        file: The content of a plan file.
        file_name: What to call it.
        recipe: Brings defaults and rules; without it nothing is derived.
        rows: Derives what depends on the training rows; without it epochs and instruction stay open.

    Raises:
        UserError: All faults at once, each with where its value came from.
    """
    build = Layers([])
    build.recipe_layer(recipe)
    build.layer(f"plan file {file_name}".strip(), plan_text.flatten(file or {}))
    build.layer(COMMAND_LINE, plan_text.flatten(asked))
    return _plan(build, recipe, rows)


def override(plan: Plan, sets: Iterable[str]) -> Plan:
    """A run's plan with `--set` words on top; every other value keeps its origin.

    Raises:
        UserError: All faults at once.
    """
    faults: list[str] = []
    asked = plan_text.read_sets(sets, faults)
    build = Layers(faults)
    for key, value in plan_text.flatten(plan.settings.model_dump(mode="json")):
        if key.startswith("privacy.") and not plan.settings.privacy.on:
            continue  # means nothing there; older plans may hold it
        build.values[key] = Asked(value, plan.origins.get(key, DEFAULT), key)
    build.asked |= plan.asked
    build.layer(COMMAND_LINE, asked)
    return _plan(build, None, None)


def schema() -> dict[str, Any]:
    """JSON Schema of a plan file, the fields of every method and objective included."""
    tree = PlanSettings.model_json_schema()
    definitions = tree.setdefault("$defs", {})
    for root, kind in PLUGINS.items():
        choices: list[dict[str, Any]] = [{"enum": plugins.names(kind)}]
        for plugin in plugins.everything(kind):
            own = plugin.model_json_schema()
            definitions.update(own.pop("$defs", {}))
            own["properties"] = {"name": {"enum": [plugin.plugin_name(), *plugin.aliases]}} | own.get("properties", {})
            own["required"] = ["name", *own.get("required", [])]
            choices.append(own)
        tree["properties"][root] = {"anyOf": choices, "default": tree["properties"][root].get("default")}
    return tree


def _plan(build: Layers, recipe: RecipeValues | None, rows: DataShape | None) -> Plan:
    settings, origins = build.finish(recipe, rows)
    return Plan(settings, origins, tuple(build.notes), build.asked)
