"""Careers: a long table becomes running text, every fault is told with its line, gaps are shown, people stay whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunewright.core.errors import UserError
from tunewright.core.records import Example
from tunewright.core.settings import DataSettings
from tunewright.data.dataset import open_dataset, open_rows
from tunewright.data.folding import folded
from tunewright.data.formats.careers import Careers
from tunewright.data.pool import from_pool
from tunewright.data.reading import open_file

HEAD = "person,year,occupation,gender"
LIFE = ["a,1990,Cook,female", "a,1991,Cook,female", "a,1994,Nurse,female"]


def table(folder: Path, *rows: str, head: str = HEAD, name: str = "careers.csv") -> Path:
    path = folder / name
    path.write_text("\n".join([head, *rows]) + "\n", encoding="utf-8")
    return path


def read(path: Path, **options: Any) -> list[Example]:
    found = [one.result for one in open_file(path, DataSettings(path=str(path), options=options)).rows]
    assert all(isinstance(one, Example) for one in found), found
    return found  # type: ignore[return-value]


def faults(path: Path, **options: Any) -> list[str]:
    with pytest.raises(UserError) as error:
        open_dataset(DataSettings(path=str(path), format="careers", options=options))
    return error.value.problems


def people(count: int, years: int = 4) -> list[str]:
    titles = ["Cook", "Nurse", "Driver"]
    gender = ["female", "male"]
    return [f"p{n},{1990 + y},{titles[(n + y * n) % 3]},{gender[n % 2]}" for n in range(count) for y in range(years)]


def test_a_row_is_foreseen_from_all_that_came_before_and_gaps_are_shown(tmp_path):
    first, second = read(table(tmp_path, *LIFE))
    header = "The career of one person, one line a year.\nGender: female\n"
    assert first.prompt_text == f"{header}1990: Cook\n1991:"
    assert second.prompt_text == f"{header}1990: Cook\n1991: Cook\n1992 to 1993: no record\n1994:"
    assert [row.answer.text for row in (first, second)] == ["Cook", "Nurse"]
    assert (first.id, first.unit, first.source) == ("a-1991", "a", "careers.csv:3")
    assert second.answer.extra == {"after": "End of the record."}
    assert first.label
    assert second.label


def test_the_template_is_the_users(tmp_path):
    options = {
        "header": "<A worker>", "fact": "{name} is {value}", "line": "In {year}{facts} worked as {title}.",
        "gap": "({first}-{last} unknown)", "static": "gender", "yearly": ["schooling"],
    }  # fmt: skip
    rows = [f"{row},{s}" for row, s in zip(LIFE, ("none", "college", "college"), strict=True)]
    found = read(table(tmp_path, *rows, head=f"{HEAD},schooling"), **options)[-1]
    assert found.prompt_text == (
        "<A worker>\nGender is female\nIn 1990 (none) worked as Cook.\nIn 1991 (college) worked as Cook.\n"
        "(1992-1993 unknown)\nIn 1994 (college) worked as"
    )


def test_ablations_leave_out_facts_titles_or_the_past(tmp_path):
    path = table(tmp_path, *LIFE)
    assert "Gender" not in read(path, demographics=False)[0].prompt_text
    coded = read(path, titles="codes")
    assert coded[0].answer.text == coded[0].context[1].extra["title"]
    assert coded[0].answer.text.isdigit()
    assert coded[0].answer.text != coded[1].answer.text
    short = read(path, history=1)[1]
    assert short.prompt_text == (
        "The career of one person, one line a year.\nGender: female\nEarlier years are left out.\n1991: Cook\n"
        "1992 to 1993: no record\n1994:"
    )


@pytest.mark.parametrize(
    ("rows", "line", "said"),
    [
        ([*LIFE, "a,1994,Nurse,female"], 5, "one row for each person and year"),
        ([*LIFE, "a,1992,Nurse,female"], 5, "sort the table by person and year"),
        ([*LIFE, "b,1990,Cook,male", "a,1995,Cook,female"], 6, "again (first: line 2)"),
        ([*LIFE, "a,1995,,female"], 5, "an occupation"),
        ([*LIFE, "a,soon,Cook,female"], 5, "a year, as 1984"),
        ([*LIFE, ",1995,Cook,female"], 5, "whom the row is of"),
        ([*LIFE, "a,1995,Cook,male"], 5, "'female' as on line 2"),
    ],
)
def test_each_fault_is_told_once_with_its_line(tmp_path, rows, line, said):
    found = faults(table(tmp_path, *rows))
    assert len(found) == 2, found  # the fault, and how to go on
    assert f"careers.csv, line {line}" in found[0]
    assert said in found[0]


def test_faults_of_several_people_are_told_together(tmp_path):
    found = faults(table(tmp_path, "a,1990,,x", "b,1990,Cook,x", "b,1990,Cook,x", "c,90.5,Cook,x"))
    assert ["line 2" in found[0], "line 4" in found[1], "line 5" in found[2]] == [True] * 3


def test_settings_that_are_none_are_refused_with_what_is_allowed(tmp_path):
    path = table(tmp_path, *LIFE)
    assert "Did you mean 'history'" in faults(path, histroy=3)[0]
    assert (
        "must hold {title} once" in faults(path, line="{year}: {titel}")[0] or "braces" in faults(path, line="{a}")[0]
    )
    assert "braces" in faults(path, gap="{from}")[0]
    assert "{title} once, after" in faults(path, line="{title} in {year}")[0]
    assert "Did you mean 'gender'" in faults(path, static=["gendre"])[0]


def test_columns_are_mapped_and_a_missing_one_is_named(tmp_path):
    path = table(tmp_path, *LIFE, head="nr,time,job,sex")
    mapped = DataSettings(path=str(path), map={"person": "nr", "year": "time", "occupation": "job", "gender": "sex"})
    assert len(list(open_file(path, mapped).rows)) == 2
    with pytest.raises(UserError, match="needs the columns person, year, occupation"):
        open_file(path, DataSettings(path=str(path), format="careers"))


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
    path, pool = table(tmp_path, *people(20)), table(tmp_path, *people(7), name="others.csv")
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


def test_rows_to_be_answered_come_back_one_for_one(tmp_path):
    path = table(tmp_path, *LIFE, "a,1995,,female")
    found = list(open_rows(path, DataSettings(path=str(path), format="careers")))
    assert [row["year"] for row, _ in found] == ["1990", "1991", "1994", "1995"]
    last = found[-1][1]
    assert isinstance(last, Example)
    assert last.answers == ()
    assert last.prompt_text.endswith("1994: Nurse\n1995:")


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.lists(st.tuples(st.integers(1, 3), st.sampled_from("abc")), min_size=1, max_size=6), min_size=1, max_size=5
    ),
    st.sampled_from([None, 1, 3]),
)
def test_folding_keeps_every_answer_with_its_context_and_weight(tmp_path_factory, lives, history):
    rows = []
    for person, life in enumerate(lives):
        year = 1990
        for step, title in life:
            year += step
            rows.append(f"{person},{year},{title},x")
    path = table(tmp_path_factory.mktemp("fold"), *rows)
    settings = DataSettings(path=str(path), options={"history": history} if history else {})
    examples = [one.result for one in open_file(path, settings).rows]
    foreseen = {(e.prompt_text, e.answer.text) for e in examples}  # type: ignore[union-attr]
    learned = set()
    whole = folded(examples)  # type: ignore[arg-type]
    for row in whole:
        texts = [*(turn.text for turn in row.context), row.answer.text]
        for place, turn in enumerate(row.context):
            if turn.weight:
                learned.add(("".join(texts[:place]), turn.extra["title"]))
        learned.add((row.prompt_text, row.answer.text))
    assert learned == foreseen
    assert history or len(whole) == sum(len(life) > 1 for life in lives)


@pytest.mark.parametrize("law", ['"{bad"', '"[1]"'])
def test_a_broken_law_is_told_with_its_line_and_an_empty_one_is_none(tmp_path, law):
    head = "person,year,occupation,oracle"
    whole = tmp_path / "careers.csv"
    whole.write_text("\n".join([head, "a,1990,Cook,", "a,1991,Nurse,", f"b,1990,Cook,{law}"]) + "\n")
    with pytest.raises(UserError) as told:
        open_dataset(DataSettings(path=str(whole)))
    assert "careers.csv, line 4" in told.value.problems[0]
    assert "oracle" in told.value.problems[0]


def test_a_title_that_is_only_written_in_doubled_braces_or_converted_is_no_title():
    for line in ("{year}{facts}: {title!s}", "{year}: {{title}}"):
        with pytest.raises(ValueError, match="title"):
            Careers(line=line)


def test_out_of_time_a_pool_trains_on_no_year_that_is_held_out(tmp_path):
    path, pool = table(tmp_path, *people(20)), table(tmp_path, *people(7), name="others.csv")
    late = DataSettings(path=str(path), format="careers", pool=str(pool), options={"test_from": 1993})
    found = open_dataset(late)
    assert {row.id[-4:] for row in found.train if from_pool(row)} == {"1991"}
    assert found.facts["dropped"]["late_pool"] == 7 * 2
    whole = open_dataset(late.model_copy(update={"options": {}}))
    assert whole.facts["dropped"]["late_pool"] == 0
    assert sum(map(from_pool, whole.train)) == 7 * 3
