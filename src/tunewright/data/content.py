"""What rows are by their content: the order they stand in, and a hash of all of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

from tunewright.core.records import Example
from tunewright.data.duplicates import Identities
from tunewright.data.keys import Keys, Numbers, Same


def by_content(examples: Sequence[Example], rows: Identities) -> Numbers:
    """All rows in the order of their content hashes, equal ones by id; draws of one unit stand together."""
    order = np.argsort(rows.content, kind="stable").astype(np.int32)
    for same in Same(rows.content).several():
        start = np.searchsorted(rows.content, rows.content[same[0]], sorter=order)
        order[start : start + len(same)] = sorted(same, key=lambda i: examples[i].id)
    return order[np.argsort(rows.unit[order], kind="stable")] if rows.draws else order


def first_rows(members: Numbers, most: int, rows: Identities) -> Numbers:
    """The first so many of some rows, unit by unit, in the order in which they were given.

    So a share of the rows is that share of the units too, where these have several rows.
    """
    known_by = np.where(rows.unit[members] == 0, rows.content[members], rows.unit[members])
    return members[np.sort(np.argsort(known_by, kind="stable")[:most])]


def fingerprint_of(contents: Mapping[str, Keys]) -> str:
    """`digest({split: [content, ...]})`, without the whole of it as one text."""
    total = hashlib.sha256(b"[{")
    for number, name in enumerate(sorted(contents)):
        total.update(f'{", " * (number > 0)}"{name}": ['.encode())
        for start in range(0, len(contents[name]), 4096):
            part = ", ".join(f'"{content:016x}"' for content in contents[name][start : start + 4096].tolist())
            total.update(f"{', ' * (start > 0)}{part}".encode())
        total.update(b"]")
    total.update(b"}]")
    return total.hexdigest()[:16]
