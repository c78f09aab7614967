"""Careers in splits: people stay whole or years do, a pool trains and is never judged, and nobody is on two sides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from career_tables import HEAD, LIFE, faults, people, table

from tunewright.core.errors import UserError
from tunewright.core.settings import DataSettings
from tunewright.data.dataset import Dataset, open_dataset
from tunewright.data.pool import from_pool


def strangers(count: int) -> list[str]:
    """Other people under the same numbers."""
    return [f"{row.rsplit(',', 1)[0]},unknown" for row in people(count)]


def test_equal_careers_of_different_people_are_no_leak_and_nobody_is_in_two_splits(tmp_path):
    alike = [f"p{n},{1990 + y},{title},male" for n in range(40) for y, title in enumerate(["Cook", "Cook", "Nurse"])]
    found = open_dataset(DataSettings(path=str(table(tmp_path, *alike)), format="careers"))
    units = [{row.unit for row in split} for split in (found.train, found.valid, found.test)]
    assert [len(one) for one in units] == [28, 4, 8]
    assert not units[0] & units[2]
    assert not units[0] & units[1]
    assert not units[1] & units[2]
    assert found.facts["overlap"] == {"exact": 0, "prompt_only": 0, "near": 0, "unit": 0}
    assert found.facts["contradictions"] == 0


def test_a_person_in_two_given_splits_is_an_error(tmp_path):
    (tmp_path / "set").mkdir()
    table(tmp_path / "set", *people(6), name="train.csv")
    table(tmp_path / "set", *(row.replace(",199", ",198") for row in people(2)), name="test.csv")
    with pytest.raises(UserError, match="the same unit as"):
        open_dataset(DataSettings(path=str(tmp_path / "set"), format="careers"))


def test_out_of_time_the_latest_years_are_the_test(tmp_path):
    path = table(tmp_path, *people(8))
    found = open_dataset(DataSettings(path=str(path), format="careers", options={"test_from": 1993}))
    years = [{row.id[-4:] for row in split} for split in (found.train, found.valid, found.test)]
    assert years == [{"1991"}, {"1992"}, {"1993"}]
    assert found.splits_given


def test_a_pool_trains_and_is_never_judged(tmp_path):
    path, pool = table(tmp_path, *people(20)), table(tmp_path, *strangers(7), name="others.csv")
    alone = open_dataset(DataSettings(path=str(path), format="careers"))
    both = open_dataset(DataSettings(path=str(path), format="careers", pool=str(pool)))
    assert list(both.test) == list(alone.test)
    assert list(both.valid) == list(alone.valid)
    assert [row for row in both.train if not from_pool(row)] == list(alone.train)
    added = [row for row in both.train if from_pool(row)]
    assert len(added) == 7 * 3
    assert not {row.unit for row in added} & {row.unit for row in (*alone.train, *alone.test)}


def test_a_pool_beside_given_splits_and_of_other_formats_is_held_against_the_test(tmp_path):
    (tmp_path / "set").mkdir()
    for name, words in (("train", "abcdef"), ("test", "uvwxyz")):
        rows = [f"{w} word,{'yes' if n % 2 else 'no'}" for n, w in enumerate(words)]
        table(tmp_path / "set", *rows, head="text,label", name=f"{name}.csv")
    pool = table(tmp_path, "u word,yes", "k word,no", head="text,label", name="pool.csv")
    given = DataSettings(path=str(tmp_path / "set"), pool=str(pool))
    with pytest.raises(UserError, match=r"pool\.csv, line 2"):
        open_dataset(given)
    found = open_dataset(given.model_copy(update={"on_overlap": "drop"}))
    assert [row.prompt_text for row in found.train if from_pool(row)] == ["k word"]


def test_a_limit_of_rows_keeps_people_whole_but_one(tmp_path):
    path = table(tmp_path, *people(30))
    found = open_dataset(DataSettings(path=str(path), format="careers", max_train_rows=10))
    sizes = sorted(sum(row.unit == unit for row in found.train) for unit in {row.unit for row in found.train})
    assert sizes == [1, 3, 3, 3]


def test_out_of_time_a_pool_trains_on_no_year_that_is_held_out(tmp_path):
    path, pool = table(tmp_path, *people(20)), table(tmp_path, *strangers(7), name="others.csv")
    late = DataSettings(path=str(path), format="careers", pool=str(pool), options={"test_from": 1993})
    found = open_dataset(late)
    assert {row.id[-4:] for row in found.train if from_pool(row)} == {"1991"}
    assert found.facts["dropped"]["late_pool"] == 7 * 2
    whole = open_dataset(late.model_copy(update={"options": {}}))
    assert whole.facts["dropped"]["late_pool"] == 0
    assert sum(map(from_pool, whole.train)) == 7 * 3


@pytest.mark.parametrize(
    ("first", "said"),
    [
        (1994, "test_from: 1994 leaves no row for test; the rows to foresee are of the years 1991 to 1993"),
        (1992, "test_from: 1992 leaves no row for train; the rows to foresee are of the years 1991 to 1993"),
        (1980, "Name a year from 1993 to 1993"),
        (1990, "leaves no row for train"),
        (2001, "leaves no row for test"),
    ],
)
@pytest.mark.parametrize("pool", [False, True])
def test_out_of_time_nothing_is_carved_in_place_of_years_that_are_not_there(tmp_path, first, said, pool):
    path, others = table(tmp_path, *people(40)), table(tmp_path, *strangers(7), name="others.csv")
    late = DataSettings(path=str(path), format="careers", options={"test_from": first})
    with pytest.raises(UserError, match=said):
        open_dataset(late.model_copy(update={"pool": str(others)}) if pool else late)


def test_out_of_time_years_too_few_are_said_so(tmp_path):
    assert "too few years; leave it out" in faults(table(tmp_path, *people(40, years=3)), test_from=1992)[0]


def test_out_of_time_without_rows_in_the_year_before_there_is_no_validation(tmp_path):
    rows = [row for row in people(8, years=6) if ",1993," not in row]
    found = open_dataset(DataSettings(path=str(table(tmp_path, *rows)), format="careers", options={"test_from": 1994}))
    assert [len(split) for split in (found.train, found.valid, found.test)] == [8 * 2, 0, 8 * 2]
    assert found.splits_given


def test_out_of_time_and_given_splits_are_not_both_taken(tmp_path):
    (tmp_path / "set").mkdir()
    for name in ("train", "valid", "test"):
        table(tmp_path / "set", *people(6), name=f"{name}.csv")
    found = faults(tmp_path / "set", test_from=1993)
    assert len(found) == 1, found
    assert "splits are given (as files, or in the column 'split')" in found[0]
    column = table(
        tmp_path, *(f"{row},{'train' if n % 2 else 'test'}" for n, row in enumerate(LIFE)), head=f"{HEAD},split"
    )
    assert "Leave out test_from" in faults(column, test_from=1993)[0]
    (tmp_path / "set" / "valid.csv").unlink()
    (tmp_path / "set" / "test.csv").unlink()
    alone = DataSettings(path=str(tmp_path / "set"), format="careers", options={"test_from": 1993})
    assert len(open_dataset(alone).test) == 6


def lives(count: int, name: str, years: range = range(1990, 1996), salt: int = 0) -> list[str]:
    """People of whom no two are alike, told apart by their first four years."""
    titles = [f"Job {word}" for word in "abcdefg"]
    return [
        f"{name}{n},{year},{titles[((n + salt) // 7 ** min(place, 3)) % 7]},x"
        for n in range(count)
        for place, year in enumerate(years)
    ]


def pooled(folder: Path, rows: list[str], **settings: Any) -> Dataset:
    path = table(folder, *lives(60, "a"))
    pool = table(folder, *rows, name="pool.csv")
    return open_dataset(DataSettings(path=str(path), format="careers", pool=str(pool), **settings))


@pytest.mark.parametrize(
    ("name", "years"), [("a", range(1990, 1996)), ("b", range(1990, 1996)), ("a", range(1990, 1999))]
)
def test_a_pool_that_holds_people_of_the_test_is_told_and_they_can_be_dropped(tmp_path, name, years):
    rows = lives(60, name, years)
    with pytest.raises(UserError, match=r"pool\.csv, line \d+ \(train\) has the same (unit|row) as") as told:
        pooled(tmp_path, rows)
    assert "data.on_overlap: drop" in told.value.problems[-1]
    found = pooled(tmp_path, rows, on_overlap="drop")
    held = {str(row.unit)[1:] for split in (found.valid, found.test) for row in split}
    taught = {str(row.unit).removeprefix("pool/")[1:] for row in found.train if from_pool(row)}
    assert len(held) == 18
    assert taught == {str(n) for n in range(60)} - held
    assert sum(found.facts["overlap_given"].values()) == 18 * (len(years) - 1)


def test_other_people_under_the_same_numbers_and_a_career_that_happens_to_be_equal_are_no_leak(tmp_path):
    found = pooled(tmp_path, lives(60, "a", salt=343))
    assert sum(map(from_pool, found.train)) == 60 * 5
    twins = lives(60, "a")
    tested = next(row for row in found.test).unit
    twin = [row.replace("a", "z", 1) for row in twins if row.startswith(f"{tested},")]
    path = table(tmp_path, *lives(60, "a"), *lives(60, "c", salt=400))
    alike = DataSettings(path=str(path), format="careers", pool=str(table(tmp_path, *twin, name="pool.csv")))
    assert sum(map(from_pool, open_dataset(alike).train)) == 5
