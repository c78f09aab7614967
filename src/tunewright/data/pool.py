"""Other people's rows, which train beside those of the target and are never judged."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from unicodedata import normalize

from tunewright.core.records import Example
from tunewright.data.keys import text_keys
from tunewright.data.splits import Overlap

POOL = "pool"
_CHANCE = 0.05
"""Share of held-out people of whom others may have the very same career by chance (0.007 in the made-up market)."""


def pooled(example: Example) -> Example:
    """The row of another population: its unit and id are never those of a row of the target."""
    name = f"{POOL}/{example.id}" if example.id else ""
    unit = None if example.unit is None else f"{POOL}/{example.unit}"
    return replace(example, id=name, unit=unit, slices={**example.slices, "population": POOL})


def from_pool(example: Example) -> bool:
    """Whether a row is of the pool."""
    return example.slices.get("population") == POOL


def without_pool(examples: Sequence[Example]) -> list[Example]:
    """The target's own rows, in their order."""
    return [example for example in examples if not from_pool(example)]


def _career(rows: Iterable[Example]) -> frozenset[tuple[int, str]]:
    """Every year with its title; empty where rows do not tell years."""
    found: set[tuple[int, str]] = set()
    for row in rows:
        years = [turn.extra["year"] for turn in row.context if "year" in turn.extra]
        titles = [turn.extra["title"] for turn in row.context if "title" in turn.extra]
        found.update(zip(years, [*titles, *(normalize("NFC", answer.text) for answer in row.answers)], strict=False))
    return frozenset(found)


def _one_life(some: Sequence[Example], others: Sequence[Example]) -> bool:
    """Whether one career stands in the other, year by year, and no fact that both state tells them apart."""
    one, other = _career(some), _career(others)
    facts, theirs = (rows[-1].context[0].extra.get("facts", {}) if rows[-1].context else {} for rows in (some, others))
    apart = any(theirs.get(name, value) != value for name, value in facts.items() if name != "population")
    return bool(one and other) and not apart and (one <= other or other <= one)


def known_again(examples: Sequence[Example], split: Sequence[str]) -> list[Overlap]:
    """Rows of people of the pool who are also held out, where rows are draws and no single one tells.

    Somebody is known again by an equal id when the whole text of one career is the beginning of the other's; an id
    alone says nothing, as two surveys may number their people alike. Of more people than chance explains it is enough
    that one career stands in the other, year by year, with no fact that tells them apart, or under another id that the
    texts are equal.

    Args:
        examples: All rows, those of a person in order.
        split: The split of each.
    """
    said = text_keys("\0".join((row.prompt_text, *(a.text for a in row.answers))) for row in examples).tolist()
    pool: dict[str, list[int]] = defaultdict(list)
    held: dict[str, list[int]] = defaultdict(list)
    for number, row in enumerate(examples):
        if row.unit is not None and from_pool(row):
            pool[row.unit.removeprefix(f"{POOL}/")].append(number)
        elif row.unit is not None and split[number] in ("valid", "test"):
            held[row.unit].append(number)
    wholes = {said[rows[-1]]: rows for rows in held.values()}
    found, alike = list[Overlap](), list[Overlap]()
    for unit, rows in pool.items():
        own, texts = held.get(unit, []), {said[number] for number in rows}
        if own and (said[own[-1]] in texts or said[rows[-1]] in {said[number] for number in own}):
            found += [Overlap("unit", number, own[-1]) for number in rows]
        elif own and _one_life(*([examples[number] for number in some] for some in (rows, own))):
            alike += [Overlap("unit", number, own[-1]) for number in rows]
        elif said[rows[-1]] in wholes:
            alike += [Overlap("exact", number, wholes[said[rows[-1]]][-1]) for number in rows]
    by_chance = len({overlap.held_out for overlap in alike}) <= _CHANCE * len(held)
    return found if by_chance else found + alike
