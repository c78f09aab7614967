"""What plugins there are, told by the code itself: names, aliases, first sentences and fields."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tunewright.core.errors import unknown

_MODELS = "models"
"""No kind of plugin, but listed like one."""


def kinds() -> list[str]:
    """A line for each kind: its name and the names of its plugins."""
    from tunewright.core import plugins

    width = max(map(len, plugins.KINDS))
    return [
        *(f"{kind:<{width}}  {', '.join(plugins.names(kind))}" for kind in plugins.KINDS),
        f"{_MODELS:<{width}}  {', '.join(_models())}",
    ]


def describe_kind(kind: str) -> list[str]:
    """Every plugin of a kind with its fields.

    Raises:
        UserError: There is no such kind.
    """
    from tunewright.core import plugins
    from tunewright.core.settings import TRAINED_BASELINES

    singular = {_singular(name): name for name in plugins.KINDS}
    kind = singular.get(kind, kind)
    if kind == _MODELS:
        return list(_models().values())
    if kind not in plugins.KINDS:
        raise unknown("kind", kind, [*plugins.KINDS, _MODELS])
    lines = [line for plugin in plugins.everything(kind) for line in _describe(plugin)]
    return [*lines, *(f"{name}: {what}" for name, what in TRAINED_BASELINES.items())] if kind == "baselines" else lines


def _models() -> dict[str, str]:
    """Models that can be fetched by name: name -> what to know of it."""
    from tunewright.models.embedded import EMBEDDED, RECORD

    return {
        name: f"{name}: {model.licence}; "
        + (f"fetched, {model.folder}" if (model.folder / RECORD).is_file() else f"not fetched: tunewright fetch {name}")
        for name, model in EMBEDDED.items()
    }


def _singular(kind: str) -> str:
    return "family" if kind == "families" else kind.removesuffix("s")


def _describe(plugin: Any) -> Iterator[str]:
    also = f" (also {', '.join(plugin.aliases)})" if plugin.aliases else ""
    yield f"{plugin.plugin_name()}{also}: {plugin.summary()}"
    for name, info in plugin.model_fields.items():
        default = "required" if info.is_required() else f"default {info.get_default(call_default_factory=True)!r}"
        about = f"  {info.description}" if info.description else ""
        yield f"    {name}: {_shape(info.annotation)}, {default}{about}"


def _shape(annotation: Any) -> str:
    """A type as it is written in code."""
    plain = annotation.__name__ if type(annotation) is type else str(annotation)
    return plain.replace("typing.", "").replace("NoneType", "None")
