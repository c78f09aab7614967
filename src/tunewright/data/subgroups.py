"""Subgroups that nobody has to name: held-out rows by the facts of whom they are of."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace

from tunewright.core.records import Example
from tunewright.core.settings import DataSettings
from tunewright.data.kept import KeptRows

FEWEST, MOST = 2, 8
"""Values that a fact has among the people of the test, to be a slice by itself; any column is one that is named."""


def by_facts(
    valid: KeptRows[Example], test: KeptRows[Example], settings: DataSettings
) -> tuple[KeptRows[Example], KeptRows[Example]]:
    """Validation and test with their static facts of few values as slices, under the names of the user's columns.

    They come after splits are made and rows are hashed, which they must not move: a table by gender is another view
    of the same test. What is a slice is told from the test alone, so that nothing of training rows shows in it. A
    column that is named in `data.slices` stays as its rows have it.
    """
    values: dict[str, set[str]] = defaultdict(set)
    for example in test:
        for name, found in _facts(example).items():
            values[name].add(found)
    names = {
        name: settings.map.get(name, name)
        for name, found in values.items()
        if FEWEST <= len(found) <= MOST and settings.map.get(name, name) not in settings.slices
    }
    if not names:
        return valid, test

    def sliced(number: int, example: Example) -> Example:
        facts = {names[name]: found for name, found in _facts(example).items() if name in names}
        return replace(example, slices={**facts, **example.slices})

    return valid.change(sliced), test.change(sliced)


def _facts(example: Example) -> Mapping[str, str]:
    """What the format put beside the text of the row as known of its person; also where the text leaves it out."""
    return example.context[0].extra.get("facts", {}) if example.running else {}
