"""Which columns settings name, and which of a table's a format reads."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from tunewright.core.errors import UserError, nearest
from tunewright.core.plugins import everything
from tunewright.core.settings import DataSettings

CARRIED = ("id", "unit", "split", "weight")
"""Columns that any format may have beside its own."""
IN_MESSAGES = ("role", "content", "from", "value")
"""Keys within messages, which may bear other names too."""


@cache
def known_formats() -> tuple[type[Any], ...]:
    """All format plugins; looking for those of other packages takes longer than reading a small file."""
    return tuple(everything("formats"))


def check_map(renames: Mapping[str, str]) -> None:
    """Refuses a `--map` of what is no field of any format.

    Raises:
        UserError: All such.
    """
    known = {name for plugin in known_formats() for name in _fields(plugin)}
    problems = [
        f"--map {ours}={theirs}: '{ours}' is not one of our fields.{nearest(ours, sorted(known))} "
        f"Allowed: {', '.join(sorted(known))}. Write ours=theirs."
        for ours, theirs in renames.items()
        if ours not in known
    ]
    if problems:
        raise UserError(problems)


def _fields(plugin: Any) -> set[str]:
    """Our names of columns that a format reads, and of keys within messages."""
    return {*plugin.columns, *plugin.optional, *CARRIED, *IN_MESSAGES}


def _known(plugin: Any) -> set[str]:
    """The same under their other names too."""
    return _fields(plugin).union(*plugin.columns.values())


def column_of(field: str, renames: Mapping[str, str]) -> str:
    """The user's name of a field's column; empty where the column of that name was given to another field."""
    return renames.get(field, "" if field in renames.values() else field)


def check_read(plugin: Any, renames: Mapping[str, str]) -> None:
    """Refuses a `--map` of what the rows' own format does not read.

    Raises:
        UserError: All such.
    """
    if problems := [
        f"--map {ours}={theirs}: format {plugin.plugin_name()} does not read '{ours}'. It reads "
        f"{', '.join(sorted(_known(plugin) - {*IN_MESSAGES}))}. Name another, or another format (data.format)."
        for ours, theirs in renames.items()
        if ours not in _known(plugin)
    ]:
        raise UserError(problems)


def unread_columns(plugin: Any, columns: set[str], settings: DataSettings) -> tuple[str, ...]:
    """Columns, by the user's names, that neither the format nor a setting reads."""
    mapped = {theirs: ours for ours, theirs in settings.map.items()}
    # A column of the user's that bears a mapped name gives way.
    ours = {mapped.get(name, name): name for name in columns if name in mapped or name not in settings.map}
    read = _known(plugin) - {*IN_MESSAGES}
    if hasattr(plugin, "reads"):  # its settings say which of its columns it reads
        read -= {*plugin.optional} - plugin.reads
        read |= plugin.reads
    for name, others in plugin.columns.items():  # of several names for one thing the first that is there is read
        there = [one for one in (name, *others) if one in ours]
        read -= {*there[1:]}
    asked = {settings.unit, settings.survey_weight, *settings.slices}
    return tuple(sorted(columns - asked - {theirs for name, theirs in ours.items() if name in read}))


def check_columns(path: Path, columns: set[str], settings: DataSettings) -> None:
    """Refuses settings that name columns which are not there.

    Raises:
        UserError: All such.
    """
    wanted = {f"--map {o}={t}": t for o, t in settings.map.items() if o not in IN_MESSAGES}
    if settings.unit:
        wanted["data.unit"] = settings.unit
    if settings.survey_weight:
        wanted["data.survey_weight"] = settings.survey_weight
    wanted |= {f"data.slices ({name})": name for name in settings.slices}
    problems = [
        f"{path}: {what} names the column '{name}', which is not there.{nearest(name, sorted(columns))} "
        f"Found: {', '.join(sorted(columns))}. Correct the name."
        for what, name in wanted.items()
        if name not in columns
    ]
    if problems:
        raise UserError(problems)
