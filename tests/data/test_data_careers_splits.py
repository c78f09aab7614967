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


def last_years(folder: Path, name: str) -> Path:
    """A folder whose test has one row of each person, a later one."""
    folder.mkdir()
    table(folder, *people(20), name="train.csv")
    table(folder, *(f"{name}{n},1994,Cook,{('female', 'male')[n % 2]}" for n in range(20)), name="test.csv")
    return folder


def test_a_test_of_the_next_year_of_those_who_train_is_an_error_that_names_test_from(tmp_path):
    found = faults(last_years(tmp_path / "set", "p"))
    assert found[0].endswith("test.csv, line 2 (test).")
    assert "train.csv, line 3 (train) has the same unit as" in found[0]
    assert "80 rows overlap (unit 80)" in found[-2]  # also the first rows, of which nothing is asked
    assert "data.options.test_from" in found[-2]
    assert "test.csv (test): nothing is asked in it. Found 20 rows of 20 units" in found[-1]


@pytest.mark.parametrize("on_overlap", ["error", "drop"])
@pytest.mark.parametrize("name", ["p", "q"])
def test_a_given_file_in_which_nothing_is_asked_is_an_error_and_no_test_is_made_in_its_place(
    tmp_path, on_overlap, name
):
    given = DataSettings(path=str(last_years(tmp_path / "set", name)), format="careers", on_overlap=on_overlap)
    with pytest.raises(UserError) as told:
        open_dataset(given)
    assert "expected a unit with two rows at least. Give more rows of each" in told.value.problems[-1]


def test_a_file_whose_rows_are_all_skipped_as_bad_is_an_error(tmp_path):
    (tmp_path / "set").mkdir()
    table(tmp_path / "set", *people(20), name="train.csv")
    table(tmp_path / "set", "q,1990,,x", "q,soon,Cook,x", name="test.csv")
    with pytest.raises(UserError, match=r"test\.csv \(test\): every row of it was skipped as bad"):
        open_dataset(DataSettings(path=str(tmp_path / "set"), format="careers", on_bad_row="skip"))


@pytest.mark.parametrize("alone", ["table", "pool"])
def test_a_table_of_one_row_a_person_asks_nothing_and_says_so(tmp_path, alone):
    whole = table(tmp_path, *people(20))
    firsts = table(tmp_path, *people(6, years=1), name="firsts.csv")
    given = {"path": str(firsts)} if alone == "table" else {"path": str(whole), "pool": str(firsts)}
    with pytest.raises(UserError, match=r"firsts\.csv.*: nothing is asked in it\. Found 6 rows of 6 units"):
        open_dataset(DataSettings(**given, format="careers"))


def split_column(folder: Path, sides: dict[str, str], other: str = "train") -> Path:
    """People of whom some years, or persons and years, are in another split."""
    rows = []
    for row in people(20):
        person, year = row.split(",")[:2]
        rows.append(f"{row},{sides.get(f'{person},{year}', sides.get(year, other))}")
    rows += [f"t{n},{year},Cook,x,test" for n in range(4) for year in range(1990, 1993)]
    return table(folder, *rows, head=f"{HEAD},split")


def test_a_persons_first_row_in_another_split_than_the_rest_is_an_error(tmp_path):
    found = faults(split_column(tmp_path, {"p7,1990": "test"}))
    assert [sentence.split(" (train) has ")[0][-7:] for sentence in found[:3]] == ["line 31", "line 32", "line 33"]
    assert all("has the same unit as" in sentence and "line 30 (test)" in sentence for sentence in found[:3])
    assert "3 rows overlap (unit 3)" in found[3]
    (other, end) = faults(split_column(tmp_path, dict.fromkeys(("p7,1991", "p7,1992", "p7,1993"), "valid")))
    assert "line 30 (train) has the same unit as" in other
    assert "1 row overlap" in end


def test_a_person_whose_first_row_is_in_the_test_can_be_dropped_from_train(tmp_path):
    path = split_column(tmp_path, {"p7,1990": "test"})
    found = open_dataset(DataSettings(path=str(path), format="careers", on_overlap="drop"))
    assert {row.unit for row in found.train} == {f"p{n}" for n in range(20)} - {"p7"}
    assert found.facts["dropped"]["overlap"] == 3
    assert found.facts["overlap_given"]["unit"] == 3
    pool = table(tmp_path, *strangers(3), name="pool.csv")
    beside = open_dataset(DataSettings(path=str(path), format="careers", on_overlap="drop", pool=str(pool)))
    assert [row for row in beside.train if not from_pool(row)] == list(found.train)


def test_a_split_of_a_first_row_that_is_none_or_missing_is_told_as_of_any_row(tmp_path):
    assert "field 'split'" in faults(split_column(tmp_path, {"p7,1990": "tets"}))[0]
    assert "one of train, valid, test" in faults(split_column(tmp_path, {"p7,1990": "tets"}))[0]
    rows = ['"year": 1990', '"year": 1991, "split": "train"', '"year": 1992, "split": "test"']
    lines = [f'{{"person": "a", "occupation": "Job {n}", {row}}}' for n, row in enumerate(rows)]
    path = tmp_path / "half.jsonl"
    path.write_text("\n".join(lines))
    assert "The column 'split' is missing in 1 row" in faults(path)[0]
    assert "half.jsonl, line 1" in faults(path)[0]


def test_a_first_row_is_of_its_household_where_that_is_the_unit(tmp_path):
    (tmp_path / "set").mkdir()
    head = f"{HEAD},home"
    table(tmp_path / "set", *(f"{row},h{row.split(',')[0]}" for row in people(8)), head=head, name="train.csv")
    more = [f"{row},hq" for row in ("q,1990,Cook,x", "q,1991,Nurse,x")]
    table(tmp_path / "set", *more, "r,1990,Cook,x,hp3", head=head, name="test.csv")
    with pytest.raises(UserError, match="the same unit as") as told:
        open_dataset(DataSettings(path=str(tmp_path / "set"), format="careers", unit="home"))
    assert "4 rows overlap (unit 4)" in told.value.problems[-1]


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


@pytest.mark.parametrize(
    "changed", [{"options": {"history": 1}}, {"options": {"header": "A life."}}, {"options": {"titles": "codes"}}]
)
def test_the_same_people_are_tested_however_their_careers_are_written(tmp_path, changed):
    path = table(tmp_path, *people(40))
    plain, other = (open_dataset(DataSettings(path=str(path), format="careers", **how)) for how in ({}, changed))
    for name in ("train", "valid", "test"):
        assert {row.unit for row in getattr(plain, name)} == {row.unit for row in getattr(other, name)}
    assert plain.test[0].prompt_text != other.test[0].prompt_text or "titles" in changed["options"]


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


@pytest.mark.parametrize("told", ["less", "more", "otherwise"])
def test_people_of_the_test_are_known_by_their_years_where_the_pool_tells_less_or_more(tmp_path, told):
    """In a pool without the column of facts, with earlier years in front, or with the population named."""
    survey = lives(60, "a", range(1992, 1996))
    earlier = [[f"a{n},{year},Job z,x" for year in (1990, 1991)] for n in range(60)]
    head, rows = {
        "less": (HEAD.rsplit(",", 1)[0], [row.rsplit(",", 1)[0] for row in survey]),
        "more": (HEAD, [row for n in range(60) for row in (*earlier[n], *survey[4 * n : 4 * n + 4])]),
        "otherwise": (f"{HEAD},population", [f"{row},elsewhere" for row in survey]),
    }[told]
    path, pool = table(tmp_path, *survey), table(tmp_path, *rows, head=head, name="pool.csv")
    settings = DataSettings(path=str(path), format="careers", pool=str(pool))
    with pytest.raises(UserError, match=r"pool\.csv, line \d+ \(train\) has the same unit as"):
        open_dataset(settings)
    found = open_dataset(settings.model_copy(update={"on_overlap": "drop"}))
    held = {str(row.unit)[1:] for split in (found.valid, found.test) for row in split}
    taught = {str(row.unit).removeprefix("pool/")[1:] for row in found.train if from_pool(row)}
    assert taught == {str(n) for n in range(60)} - held


def test_other_people_under_the_same_numbers_and_a_career_that_happens_to_be_equal_are_no_leak(tmp_path):
    found = pooled(tmp_path, lives(60, "a", salt=343))
    assert sum(map(from_pool, found.train)) == 60 * 5
    twins = lives(60, "a")
    tested = next(row for row in found.test).unit
    twin = [row.replace("a", "z", 1) for row in twins if row.startswith(f"{tested},")]
    path = table(tmp_path, *lives(60, "a"), *lives(60, "c", salt=400))
    alike = DataSettings(path=str(path), format="careers", pool=str(table(tmp_path, *twin, name="pool.csv")))
    assert sum(map(from_pool, open_dataset(alike).train)) == 5
