"""Train, validation and test: made so that nothing is on two sides, or proven so where the user made them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunewright.core.errors import UserError
from tunewright.core.seeds import key
from tunewright.data.duplicates import Groups, Identities
from tunewright.data.formats import counted
from tunewright.data.keys import Keys, Numbers, Same, firsts

NAMES = ("train", "valid", "test")
_SIDES = {name: number for number, name in enumerate(("", *NAMES))}
_KINDS = ("exact", "prompt_only", "near", "unit")


def make_splits(
    rows: Identities, near: Groups, shares: tuple[float, float, float], max_test_units: int, seed: int
) -> list[str]:
    """The split of each row: by unit, with near duplicates and equal prompts on one side.

    Rows that share a unit, a prompt or a near duplicate form a group; groups are taken in an order that
    depends on their content (of draws, on whose they are) and the seed alone, first for the test, then for validation;
    the rest trains.

    Raises:
        UserError: The shares are not shares, or there are fewer groups than splits.
    """
    if not (min(shares) >= 0 and abs(sum(shares) - 1) < 1e-6 and shares[0] > 0):
        raise UserError(
            f"data.splits: found {list(shares)}; expected shares of train, validation, test that add up to 1, "
            "with some left for train. Write [0.7, 0.1, 0.2]."
        )
    groups = grouped(rows, near)
    wanted = sum(share > 0 for share in shares)
    if len(groups) < wanted:
        raise UserError(_too_few(rows, len(groups), wanted))
    known_by = rows.unit if rows.draws else rows.content  # so the same people are tested in other words
    least = np.minimum.reduceat(known_by[groups.rows], groups.bounds[:-1])
    drawn = np.fromiter((key(seed, "split", f"{known:016x}") for known in map(int, least)), np.uint64)
    order = np.argsort(drawn, kind="stable")
    sizes = _units(rows, groups)
    total = int(sizes.sum())
    goals = {"test": min(round(total * shares[2]), max_test_units), "valid": round(total * shares[1])}
    split = ["train"] * len(rows)
    left = order
    for name, share, kept_back in (("test", shares[2], 1 + (shares[1] > 0)), ("valid", shares[1], 1)):
        if not share:
            continue
        # A single unit with more rows than the whole split should have trains, however few units it counts as.
        fit = left[groups.sizes[left] <= max(1, share * len(rows))]
        taken = _take(fit, len(left) - kept_back, sizes, max(1, goals[name]))
        taken = taken or [int(left[groups.sizes[left].argmin()])]
        left = left[~np.isin(left, taken)]
        for group in taken:
            for i in groups[group]:
                split[i] = name
    return split


def grouped(rows: Identities, near: Groups) -> Same:
    """Rows that must stay on one side: linked by unit, prompt or near duplicate."""
    groups = Groups(len(rows))
    groups.join_equal(near.roots().astype(np.uint64) + np.uint64(1))
    for keys in (rows.prompt, rows.pair, rows.unit):
        groups.join_equal(keys)
    return groups.members()


def _units(rows: Identities, groups: Same) -> Numbers:
    """[groups] distinct units of each; a row without one counts for itself. All rows of a unit are in one group."""
    counts = firsts(rows.unit) == np.arange(len(rows))
    return np.add.reduceat(counts[groups.rows].astype(np.int32), groups.bounds[:-1])


def _take(fit: NDArray[np.integer], most: int, sizes: Numbers, goal: int) -> list[int]:
    """Groups in order as long as they fit the goal, at most `most` of them."""
    taken: list[int] = []
    room = goal
    for group in fit:
        if len(taken) == most or not room:
            break
        if sizes[group] <= room:
            taken.append(int(group))
            room -= int(sizes[group])
    return taken


def _too_few(rows: Identities, found: int, wanted: int) -> str:
    reason = ""
    if rows.prompt[0] and (rows.prompt == rows.prompt[0]).all():
        reason = " (all rows have the same prompt)"
    elif rows.unit.any():
        reason = f" ({len(np.unique(rows.unit))} units)"
    return (
        f"{counted(len(rows), 'row')} make {counted(found, 'group')} that share no unit, prompt or "
        f"near duplicate{reason}; {wanted} are needed for train, validation and test. Give more rows, or a folder "
        "with train, valid and test files."
    )


def check_time(split: Sequence[str], years: Iterable[int | None], test_from: Any) -> None:
    """Refuses a split by time that leaves nothing to train on or nothing to test; validation may be empty.

    Nothing is carved in its place: people drawn at random are another test than later years.

    Args:
        split: The split of each row.
        years: The year of each.
        test_from: The first year of the test, as it was set.
    """
    empty = [name for name in ("train", "test") if name not in split]
    if not empty:
        return
    there = [year for year in years if year is not None]
    first, last = min(there, default=0), max(there, default=0)
    mend = f"Name a year from {first + 2} to {last}" if first + 2 <= last else "These are too few years; leave it out"
    raise UserError(
        f"data.options.test_from: {test_from} leaves no row for {' and '.join(empty)}; the rows to foresee are of the "
        f"years {first} to {last}, the year before the test is validation, and what is earlier trains. {mend}."
    )


@dataclass(frozen=True, slots=True)
class Overlap:
    """A row that also stands, in one sense, in a split that must be unseen."""

    kind: str
    """exact, prompt_only, near or unit."""
    row: int
    held_out: int


def overlaps(rows: Identities, split: Sequence[str], near: Groups, aside: Sequence[int] = ()) -> list[Overlap]:
    """Rows of train that stand in validation or test, and rows of validation that stand in test.

    One finding a row, by the strictest kind: exact (prompt and answer), prompt alone, near duplicate, unit.

    Args:
        rows: What they are compared by.
        split: The split of each, and then of each of `aside`.
        near: Near duplicates.
        aside: The units (`text_keys`) of rows that nothing is asked of; they are counted on after the others.
    """
    found: list[Overlap] = []
    nothing = np.zeros(len(aside), np.uint64)
    texts = (rows.pair, rows.prompt, near.roots().astype(np.uint64) + np.uint64(1))
    kinds = (*(np.r_[keys, nothing] for keys in texts), np.r_[rows.unit, np.array(aside, np.uint64)])
    side = np.fromiter((_SIDES[name] for name in split), np.int8)
    seen = np.flatnonzero(side == _SIDES["test"])
    for name in ("valid", "train"):
        members = np.flatnonzero(side == _SIDES[name])
        hits: dict[int, Overlap] = {}
        for kind, keys in reversed([*zip(_KINDS, kinds, strict=True)]):  # the strictest last: it stays
            for row, held_out in _meet(keys, members, seen):
                hits[row] = Overlap(kind, row, held_out)
        found += [hits[row] for row in sorted(hits)]
        seen = np.r_[seen, members]
    return found


def _meet(keys: Keys, rows: NDArray[np.int64], others: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Rows whose key one of the others has, each with the first of those."""
    known, first = np.unique(keys[others], return_index=True)
    if not len(known):
        return []
    at = np.minimum(np.searchsorted(known, keys[rows]), len(known) - 1)
    met = np.flatnonzero((known[at] == keys[rows]) & (keys[rows] != 0))
    return [*zip(rows[met].tolist(), others[first[at[met]]].tolist(), strict=True)]


def overlap_counts(found: Sequence[Overlap]) -> dict[str, int]:
    """How many rows overlap, by kind."""
    counts: dict[str, int] = defaultdict(int, dict.fromkeys(_KINDS, 0))
    for overlap in found:
        counts[overlap.kind] += 1
    return dict(counts)
