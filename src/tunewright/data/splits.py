"""Train, validation and test: made so that nothing is on two sides, or proven so where the user made them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from tunewright.core.errors import UserError
from tunewright.core.seeds import key
from tunewright.data.duplicates import Groups, Identity
from tunewright.data.formats import counted

NAMES = ("train", "valid", "test")
_KINDS = ("exact", "prompt_only", "near", "unit")


def make_splits(
    rows: Sequence[Identity], near: Groups, shares: tuple[float, float, float], max_test_units: int, seed: int
) -> list[str]:
    """The split of each row: by unit, with near duplicates and equal prompts on one side.

    Rows that share a unit, a prompt or a near duplicate form a group; groups are taken in an order that
    depends on their content and the seed alone, first for the test, then for validation; the rest trains.

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
    groups.sort(key=lambda group: key(seed, "split", min(rows[i].content for i in group)))
    sizes = [_units(rows, group) for group in groups]
    total = sum(sizes)
    goals = {"test": min(round(total * shares[2]), max_test_units), "valid": round(total * shares[1])}
    split = ["train"] * len(rows)
    left = list(range(len(groups)))
    for name, share, kept_back in (("test", shares[2], 1 + (shares[1] > 0)), ("valid", shares[1], 1)):
        # A single unit with more rows than the whole split should have trains, however few units it counts as.
        fit = [g for g in left if len(groups[g]) <= max(1, share * len(rows))]
        taken = _take(fit, len(left) - kept_back, sizes, max(1, goals[name])) if share else set()
        taken = taken or ({min(left, key=lambda g: len(groups[g]))} if share else set())
        left = [g for g in left if g not in taken]
        for g in taken:
            for i in groups[g]:
                split[i] = name
    return split


def grouped(rows: Sequence[Identity], near: Groups) -> list[list[int]]:
    """Rows that must stay on one side: linked by unit, prompt or near duplicate."""
    groups = Groups(len(rows))
    groups.join_equal(near.root(i) for i in range(len(rows)))
    groups.join_equal(row.prompt for row in rows)
    groups.join_equal(row.pair for row in rows)
    groups.join_equal(row.unit for row in rows)
    return groups.members()


def _units(rows: Sequence[Identity], group: Sequence[int]) -> int:
    """Distinct units of a group; a row without one counts for itself."""
    return len({rows[i].unit or i for i in group})


def _take(fit: Sequence[int], most: int, sizes: Sequence[int], goal: int) -> set[int]:
    """Groups in order as long as they fit the goal, at most `most` of them."""
    taken: set[int] = set()
    room = goal
    for g in fit:
        if sizes[g] <= room and len(taken) < most:
            taken.add(g)
            room -= sizes[g]
    return taken


def _too_few(rows: Sequence[Identity], found: int, wanted: int) -> str:
    reason = ""
    if len({row.prompt for row in rows}) == 1 and rows[0].prompt:
        reason = " (all rows have the same prompt)"
    elif any(row.unit for row in rows):
        reason = f" ({len({row.unit for row in rows})} units)"
    return (
        f"{counted(len(rows), 'row')} make {counted(found, 'group')} that share no unit, prompt or "
        f"near duplicate{reason}; {wanted} are needed for train, validation and test. Give more rows, or a folder "
        "with train, valid and test files."
    )


@dataclass(frozen=True, slots=True)
class Overlap:
    """A row that also stands, in one sense, in a split that must be unseen."""

    kind: str
    """exact, prompt_only, near or unit."""
    row: int
    held_out: int


def overlaps(rows: Sequence[Identity], split: Sequence[str], near: Groups) -> list[Overlap]:
    """Rows of train that stand in validation or test, and rows of validation that stand in test.

    One finding a row, by the strictest kind: exact (prompt and answer), prompt alone, near duplicate, unit.
    """
    found = []
    keys = [(row.pair, row.prompt or None, near.root(i), row.unit) for i, row in enumerate(rows)]
    seen: list[dict[object, int]] = [{} for _ in _KINDS]
    for name in reversed(NAMES):
        members = [i for i, its in enumerate(split) if its == name]
        for i in members:
            hit = next((n for n, value in enumerate(keys[i]) if value is not None and value in seen[n]), None)
            if hit is not None:
                found.append(Overlap(_KINDS[hit], i, seen[hit][keys[i][hit]]))
        for i in members:
            for n, value in enumerate(keys[i]):
                seen[n].setdefault(value, i)
    return found


def overlap_counts(found: Sequence[Overlap]) -> dict[str, int]:
    """How many rows overlap, by kind."""
    counts: dict[str, int] = defaultdict(int, dict.fromkeys(_KINDS, 0))
    for overlap in found:
        counts[overlap.kind] += 1
    return dict(counts)
