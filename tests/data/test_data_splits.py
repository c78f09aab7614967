"""Splits keep units, prompts and near duplicates on one side, whatever the rows and their order."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunewright.core.errors import UserError
from tunewright.core.records import Answer, Example, Turn, text_part
from tunewright.data.duplicates import identify, near_groups, normal, shingles, similarity
from tunewright.data.splits import make_splits, overlap_counts, overlaps

SHARES = (0.7, 0.1, 0.2)
vocabulary = [f"w{n}" for n in range(40)]


def example(prompt: str, answer: str, unit: str | None = None, label: bool = False) -> Example:
    return Example((Turn("user", (text_part(prompt),)),), (Answer((text_part(answer),)),), unit=unit, label=label)


def split(
    rows: Sequence[Example], shares: tuple[float, float, float] = SHARES, cap: int = 1000, seed: int = 0
) -> list[str]:
    found = identify(rows)
    return make_splits(found, near_groups([row.near for row in found])[0], shares, cap, seed)


@st.composite
def labelled(draw: st.DrawFn) -> list[Example]:
    """Rows of long texts, some copied with a few words changed, some with a shared unit or prompt."""
    rng = random.Random(draw(st.integers(0, 10**6)))
    texts = [" ".join(rng.choices(vocabulary, k=rng.randint(3, 60))) for _ in range(draw(st.integers(3, 25)))]
    for _ in range(draw(st.integers(0, 10))):
        copied = rng.choice(texts).split()
        copied[rng.randrange(len(copied))] = rng.choice(vocabulary)
        texts.append(" ".join(copied))
    units = [None, *(f"u{n}" for n in range(12))]
    return [example(text, rng.choice("ab"), rng.choice(units), label=True) for text in texts]


@settings(max_examples=40, deadline=None)
@given(rows=labelled(), seed=st.integers(0, 3))
def test_nothing_is_on_two_sides(rows: list[Example], seed: int) -> None:
    try:
        sides = split(rows, seed=seed)
    except UserError:
        return
    sets = [shingles(normal(row.prompt_text)) for row in rows]
    for i, one in enumerate(rows):
        for j in range(i):
            if sides[i] != sides[j]:
                assert one.unit is None or one.unit != rows[j].unit
                assert normal(one.prompt_text) != normal(rows[j].prompt_text)
                if min(len(row.prompt_text.split()) for row in (one, rows[j])) >= 20:
                    both = len(set(sets[i].tolist()) & set(sets[j].tolist()))
                    assert both / len(set(sets[i].tolist()) | set(sets[j].tolist())) < 0.9
    assert set(sides) == {"train", "valid", "test"}


@settings(max_examples=25, deadline=None)
@given(rows=labelled(), shuffle=st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_nothing(rows: list[Example], shuffle: random.Random) -> None:
    moved = list(range(len(rows)))
    shuffle.shuffle(moved)
    try:
        sides = split(rows)
    except UserError:
        return
    again = split([rows[i] for i in moved])
    assert sorted((rows[i].prompt_text, side) for i, side in enumerate(sides)) == sorted(
        (rows[i].prompt_text, side) for i, side in zip(moved, again, strict=True)
    )


def test_shares_are_kept_by_unit_and_the_seed_moves_them() -> None:
    rows = [example(f"question {n}", "yes", unit=f"u{n // 4}") for n in range(400)]
    sides = split(rows)
    units = {name: {row.unit for row, side in zip(rows, sides, strict=True) if side == name} for name in set(sides)}
    assert {name: len(members) for name, members in units.items()} == {"train": 70, "valid": 10, "test": 20}
    assert sides == split(rows)
    assert sides != split(rows, seed=1)


def test_the_test_is_capped_and_the_rest_trains() -> None:
    sides = split([example(f"question {n}", "yes") for n in range(100)], cap=5)
    assert [sides.count(name) for name in ("train", "valid", "test")] == [85, 10, 5]


@pytest.mark.parametrize("count", [3, 4, 5])
def test_few_units_still_reach_every_split(count: int) -> None:
    assert set(split([example(f"question {n}", "yes") for n in range(count)])) == {"train", "valid", "test"}


def test_one_giant_unit_trains() -> None:
    rows = [example(f"question {n}", "yes", unit="big" if n > 4 else None) for n in range(100)]
    for seed in range(5):
        sides = split(rows, seed=seed)
        assert set(sides[5:]) == {"train"}
        assert {"valid", "test"} <= set(sides)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([example("same", f"answer {n}") for n in range(9)], "all rows have the same prompt"),
        ([example(f"q {n}", "a", unit=f"u{n % 2}") for n in range(9)], "2 units"),
    ],
)
def test_too_few_groups_are_refused(rows: list[Example], said: str) -> None:
    with pytest.raises(UserError, match=said):
        split(rows)


@pytest.mark.parametrize("shares", [(0.5, 0.1, 0.1), (1.2, -0.1, -0.1), (0.0, 0.5, 0.5), (float("nan"), 0.1, 0.2)])
def test_shares_must_be_shares(shares: tuple[float, float, float]) -> None:
    with pytest.raises(UserError, match=r"data\.splits"):
        split([example(f"q {n}", "a") for n in range(9)], shares)


def test_a_split_may_be_left_out() -> None:
    assert set(split([example(f"q {n}", "a") for n in range(10)], (0.8, 0.0, 0.2))) == {"train", "test"}


LONG = " ".join(f"word{n}" for n in range(60)) + " "


@pytest.mark.parametrize(
    ("here", "there", "kind"),
    [
        (example("what is it", "a cat"), example("What is it?", "A cat."), "exact"),
        (example("what is it", "a cat"), example("what is  IT", "a dog"), "prompt_only"),
        (example(LONG + "tonight", "x"), example(LONG + "today", "x"), "near"),
        (example("one", "x", unit="u"), example("two", "x", unit="u"), "unit"),
        (example("one", "x"), example("two", "x"), None),
    ],
)
@pytest.mark.parametrize("held_out", ["valid", "test"])
def test_planted_overlap_is_found(here: Example, there: Example, kind: str | None, held_out: str) -> None:
    rows = identify([example("filler", "y"), there, here])
    found = overlaps(rows, ["train", held_out, "train"], near_groups([row.near for row in rows])[0])
    assert [(o.kind, o.row, o.held_out) for o in found] == ([(kind, 2, 1)] if kind else [])
    assert sum(overlap_counts(found).values()) == len(found)


def test_equal_rows_in_one_split_are_no_overlap() -> None:
    rows = identify([example("q", "a")] * 3 + [example("other", "a")])
    assert overlaps(rows, ["train", "train", "train", "test"], near_groups([row.near for row in rows])[0]) == []


def test_similarity_is_that_of_sets() -> None:
    one, other = shingles("a b c d e f"), shingles("a b c d e g")
    exact = len(set(one.tolist()) & set(other.tolist())) / len(set(one.tolist()) | set(other.tolist()))
    assert similarity(one, one) == 1
    assert similarity(one, other) == pytest.approx(exact)
