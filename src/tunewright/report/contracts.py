"""A report: a headline, a few facts at a glance, and sections of blocks in reading order."""

from __future__ import annotations

from dataclasses import dataclass

from tunewright.core.blocks import Block, Text

TITLES = {
    "result": "Base against tuned",
    "training": "How training went",
    "privacy": "Privacy",
    "runs": "Other runs of the same plan",
    "forgot": "What it forgot",
    "safety": "Safety: what it still declines",
    "leaked": "What it gives away",
    "bias": "Prejudice, covert and overt",
    "classes": "Class by class",
    "groups": "Who it works for",
    "examples": "Examples that changed",
    "rows": "Look at these rows",
    "data": "The data",
    "forecast": "Forecast against actual",
    "use": "How to use the model",
    "limits": "Limits",
    "settings": "Settings and where they came from",
    "more": "More",
}
"""Chapters in reading order; a block of an unknown section goes to `more`."""


@dataclass(frozen=True, slots=True)
class Section:
    """One chapter."""

    name: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """What is known of a run, ready to be rendered."""

    name: str
    """The run's name."""
    headline: Text
    """The verdict in plain words; `title` is the verdict itself."""
    glance: tuple[tuple[str, str], ...]
    """A few facts: what, value."""
    sections: tuple[Section, ...]


def sections(blocks: list[Block]) -> tuple[Section, ...]:
    """Sorts blocks into chapters, keeping their order; empty chapters are left out."""
    found: dict[str, list[Block]] = {name: [] for name in TITLES}
    for block in blocks:
        found[block.section if block.section in TITLES else "more"].append(block)
    return tuple(Section(name, TITLES[name], tuple(rows)) for name, rows in found.items() if rows)
