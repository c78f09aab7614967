"""What came before, in rows of running text: the titles so far, the years, the facts of the person."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tunewright.core.records import Example


@dataclass(frozen=True, slots=True)
class History:
    """A row's past, as the format put it beside the text."""

    titles: tuple[str, ...]
    years: tuple[int, ...]
    """Of the titles, and last the year that is to be foreseen."""
    facts: Mapping[str, str]
    """What does not change."""
    yearly: tuple[Mapping[str, str], ...]
    """What is known of each of the years."""
    weights: tuple[float, ...]
    """How much each title is trained on, and last the answer."""


def history_of(example: Example) -> History | None:
    """The past of a row, oldest first; None when it is no row of a career."""
    if not example.running:
        return None
    leads = [turn for turn in example.context if turn.role == "text"]
    said = [turn for turn in example.context if turn.role == "assistant"]
    return History(
        titles=tuple(str(turn.extra.get("title", turn.text.strip())) for turn in said),
        years=tuple(int(turn.extra.get("year", place)) for place, turn in enumerate(leads)),
        facts=dict(leads[0].extra.get("facts", {})),
        yearly=tuple(dict(turn.extra.get("yearly", {})) for turn in leads),
        weights=(*(turn.weight for turn in said), example.answer.weight if example.answers else 0.0),
    )


def previous(example: Example) -> str | None:
    """The title before the one to be foreseen; None when there is none."""
    if not example.running:
        return None
    said = [turn for turn in example.context if turn.role == "assistant"]
    return str(said[-1].extra.get("title", said[-1].text.strip())) if said else None
