"""The folder is the registry: file name = plugin name, and outside packages use entry points.

A plugin is a frozen value that is its own configuration: `method: {name: lora, r: 16}` becomes `Lora(r=16)`.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
import sys
from collections.abc import Sequence
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, ClassVar, Protocol

from pydantic import BaseModel, ConfigDict, ValidationError

from tunewright.core.errors import UserError, nearest, unknown

KINDS = {
    "formats": "tunewright.data.formats",
    "families": "tunewright.models.families",
    "methods": "tunewright.methods",
    "objectives": "tunewright.objectives",
    "gradients": "tunewright.gradients",
    "mitigations": "tunewright.mitigations",
    "metrics": "tunewright.evaluate.metrics",
    "baselines": "tunewright.evaluate.baselines",
    "probes": "tunewright.evaluate.probes",
    "judges": "tunewright.evaluate.judges",
    "scorers": "tunewright.evaluate.scorers",
    "recipes": "tunewright.recipes",
}
"""Kind of plugin -> the folder that is its registry; the entry-point group is `tunewright.<kind>`."""
_BASES = {
    "methods": ("tunewright.models.contracts", "Method"),
    "objectives": ("tunewright.models.contracts", "Objective"),
    "mitigations": ("tunewright.mitigations._base", "Mitigation"),
    "metrics": ("tunewright.evaluate.contracts", "Metric"),
    "baselines": ("tunewright.evaluate.contracts", "Baseline"),
    "probes": ("tunewright.evaluate.probes._base", "Probe"),
}
"""Kind -> what its plugins derive from, which says what one that says nothing is taken to be; other kinds have none."""


class Named(Protocol):
    """What a plugin is to those who know its contract alone."""

    def plugin_name(self) -> str:
        """Its name in plans."""


class Plugin(BaseModel):
    """Base of every plugin: immutable, strict, documented by its own docstring and fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    aliases: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def plugin_name(cls) -> str:
        """The name in plans: the file's name, or the one an entry point gave."""
        return _OUTSIDE_NAMES.get(cls, cls.__module__.rsplit(".", 1)[-1])

    def written(self) -> str:
        """The name with the settings that differ from their defaults: `top_k(k=3)`."""
        own = {name: value for name, value in self if value != type(self).model_fields[name].default}
        told = ", ".join(f"{name}={value}" for name, value in own.items())
        return f"{self.plugin_name()}({told})" if told else self.plugin_name()

    @classmethod
    def summary(cls) -> str:
        """First line of the docstring."""
        return (cls.__doc__ or "").strip().splitlines()[0]


_OUTSIDE_NAMES: dict[type[Plugin], str] = {}


def names(kind: str) -> list[str]:
    """All plugin names of a kind, inside and outside, sorted."""
    package = importlib.import_module(KINDS[kind])
    inside = {m.name for m in pkgutil.iter_modules(package.__path__) if not m.name.startswith("_") and not m.ispkg}
    return sorted(inside | {point.name for point in _outside(kind, tuple(sys.path))})


def find(kind: str, name: str, others: Sequence[str] = ()) -> type[Any]:
    """The plugin class of a name or alias.

    Args:
        kind: The folder.
        name: What was asked for.
        others: Words that are no plugin but allowed in the same place, for the sentence.

    Raises:
        UserError: No plugin has that name; the sentence names the nearest.
    """
    known = names(kind)
    if name in known:
        return _load(kind, name)
    for candidate in known:
        plugin = _load(kind, candidate)
        if name in plugin.aliases:
            return plugin
    raise unknown(kind.rstrip("s") if kind != "families" else "family", name, [*known, *others])


def everything(kind: str) -> list[type[Any]]:
    """All plugin classes of a kind, by name."""
    return [_load(kind, name) for name in names(kind)]


def build(kind: str, setting: str | dict[str, Any]) -> Any:
    """A plugin value from what stands in a plan: a name, `name(field=value)`, or `{name: ..., field: ...}`.

    Raises:
        UserError: Unknown name or field, or a value out of range; all faults at once.
    """
    fields = read(setting) if isinstance(setting, str) else dict(setting)
    what = kind.rstrip("s")
    if not isinstance(fields.get("name"), str):
        raise UserError(f"{what}: needs a 'name'. Allowed: {', '.join(names(kind))}.")
    plugin = find(kind, fields.pop("name"))
    try:
        return plugin(**fields)
    except ValidationError as error:
        raise UserError(describe(error, what, list(plugin.model_fields))) from None


def read(text: str) -> dict[str, Any]:
    """`name` or `name(field=value, ...)` as fields; what is no number or true/false is text."""
    name, bracket, rest = text.strip().partition("(")
    if not bracket or not rest.endswith(")"):
        return {"name": text}
    fields: dict[str, Any] = {"name": name.strip()}
    for piece in filter(None, (piece.strip() for piece in rest[:-1].split(","))):
        field, _, value = (part.strip() for part in piece.partition("="))
        try:
            fields[field] = json.loads(value)
        except ValueError:
            fields[field] = value
    return fields


def describe(error: ValidationError, where: str, allowed: list[str]) -> list[str]:
    """Pydantic's findings as sentences: where, what was found, what is expected."""
    sentences = []
    for item in error.errors():
        path = ".".join(str(step) for step in (where, *item["loc"]) if step != "")
        if item["type"] == "extra_forbidden":
            key = str(item["loc"][-1])
            sentences.append(f"{path}: unknown key.{nearest(key, allowed)} Allowed: {', '.join(sorted(allowed))}.")
        else:
            sentences.append(f"{path}: found {item['input']!r}; {item['msg'][0].lower()}{item['msg'][1:]}.")
    return sentences


@lru_cache(maxsize=32)
def _outside(kind: str, search_path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """Entry points of a kind; looked up once for each search path, since looking reads every installed package."""
    return tuple(entry_points(group=f"tunewright.{kind}"))


def _require_base(kind: str, name: str, plugin: type[Any]) -> None:
    """What another package brings may be older than the base class of its kind."""
    if kind not in _BASES:
        return
    module, base = _BASES[kind]
    if not issubclass(plugin, getattr(importlib.import_module(module), base)):
        raise UserError(
            f"The {kind.rstrip('s')} '{name}' of the package that brings {plugin.__module__} does not derive from "
            f"{module}.{base}. Derive it from that class, or remove the package."
        )


def _load(kind: str, name: str) -> type[Any]:
    for point in _outside(kind, tuple(sys.path)):
        if point.name == name:
            plugin: type[Plugin] = point.load()
            _require_base(kind, name, plugin)
            _OUTSIDE_NAMES[plugin] = name
            return plugin
    module = importlib.import_module(f"{KINDS[kind]}.{name}")
    found = [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, Plugin)
        and value.__module__ == module.__name__
        and not value.__name__.startswith("_")
    ]
    if len(found) != 1:
        raise TypeError(f"{module.__name__} must define exactly one public plugin class, found {len(found)}")
    return found[0]
