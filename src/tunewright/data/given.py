"""Splits that the user gave: nobody may stand on two sides of them, and each must ask something."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from tunewright.data.formats import counted
from tunewright.data.reading import Aside
from tunewright.data.splits import Overlap, overlap_counts

_LISTED = 20
_KINDS = {
    "exact": "the same row as",
    "prompt_only": "the same prompt as",
    "near": "nearly the same text as",
    "unit": "the same unit as",
}
_LATER = (
    "To test later years of those whose earlier years train, give one table without splits and set "
    "data.options.test_from to the first year of the test."
)


def overlap_sentences(
    found: Sequence[Overlap], split: Sequence[str], place: Callable[[int], str], independent: bool
) -> list[str]:
    """What stands on two sides, row by row, and what to do; nothing where nothing does.

    Args:
        found: The overlaps.
        split: The split of each row.
        place: File and line of a row.
        independent: Whether the rows are draws, each with the earlier ones of its unit in its text.
    """
    if not found:
        return []
    sentences = [
        f"{place(o.row)} ({split[o.row]}) has {_KINDS[o.kind]} {place(o.held_out)} ({split[o.held_out]})."
        for o in found[:_LISTED]
    ]
    rest = [f"... and {len(found) - _LISTED} more."] if len(found) > _LISTED else []
    counts = overlap_counts(found)
    kinds = ", ".join(f"{kind} {count}" for kind, count in counts.items() if count)
    end = (
        f"{counted(len(found), 'row')} overlap ({kinds}); what is tested must be unseen. Take them out of one side, "
        "or set data.on_overlap: drop to take them out of train (and out of validation where test has them)."
    )
    later = f" All rows of a unit belong in one split. {_LATER}" if independent and counts["unit"] else ""
    return [*sentences, *rest, end + later]


def unasked(files: Mapping[str, Path], asked: Collection[str], aside: Sequence[Aside]) -> dict[str, str]:
    """Splits that were given and hold no row that anything is asked of, each with a sentence.

    Nothing is carved in their place: whoever gives a test wants that one.

    Args:
        files: The files by split; '' is a file of no split.
        asked: The splits of the rows that there are; '' of a row without one.
        aside: Rows that nothing is asked of.
    """
    firsts: dict[str, list[Aside]] = defaultdict(list)
    for row in aside:
        firsts[row.split or ""].append(row)
    # A file of no split may have them in a column: it is mute only where there is no row at all.
    mute = [name for name in {**files, **firsts} if name not in asked and (name or not asked)]
    return {name: _mute(name, str(files.get(name) or firsts[name][0].file), firsts[name]) for name in mute}


def _mute(split: str, file: str, firsts: Sequence[Aside]) -> str:
    place = f"{file} ({split})" if split else file
    if not firsts:
        return f"{place}: every row of it was skipped as bad; expected one at least. Mend the rows, or leave it out."
    rows, units = counted(len(firsts), "row"), counted(len({row.unit for row in firsts}), "unit")
    end = f", or leave it out. {_LATER}" if split else "."
    return (
        f"{place}: nothing is asked in it. Found {rows} of {units}, and of the first row of a unit nothing is asked; "
        f"expected a unit with two rows at least. Give more rows of each{end}"
    )
