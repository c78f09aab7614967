"""Careers: a long table becomes running text, every fault is told with its line, gaps are shown, people stay whole."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from career_tables import HEAD, LIFE, faults, people, table
from hypothesis import given, settings
from hypothesis import strategies as st

from tunewright.core.errors import UserError
from tunewright.core.records import Example
from tunewright.core.settings import DataSettings
from tunewright.data import dataset
from tunewright.data.dataset import open_dataset
from tunewright.data.folding import folded
from tunewright.data.formats.careers import Careers
from tunewright.data.reading import open_file, open_rows


def read(path: Path, **options: Any) -> list[Example]:
    found = [one.result for one in open_file(path, DataSettings(path=str(path), options=options)).rows]
    assert all(isinstance(one, Example) for one in found), found
    return found  # type: ignore[return-value]


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
    assert len(coded[0].answer.text) == 8
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


def test_a_title_that_stands_in_first_records_alone_is_one_of_the_titles(tmp_path):
    lines = [f"{person},{year},{title}" for person in range(12)
             for year, title in ((1990, "Student"), (1991, "Cook" if person % 2 else "Nurse"))]  # fmt: skip
    (tmp_path / "careers.csv").write_text("\n".join(["person,year,occupation", *lines]) + "\n")
    assert open_dataset(DataSettings(path=str(tmp_path / "careers.csv"))).labels == ("Cook", "Nurse", "Student")


def test_a_pool_needs_no_column_that_only_figures_of_the_test_need(tmp_path):
    def write(name: str, head: str, more: str, people: range) -> str:
        lines = [f"{p},{year},{'Cook' if (p + year) % 3 else 'Nurse'}{more}" for p in people for year in (1990, 1991)]
        (tmp_path / name).write_text("\n".join([f"person,year,occupation{head}", *lines]) + "\n")
        return str(tmp_path / name)

    survey, pool = (
        write("survey.csv", ",stands_for,region", ",3,north", range(30)),
        write("pool.csv", "", "", range(90, 120)),
    )
    found = open_dataset(DataSettings(path=survey, pool=pool, survey_weight="stands_for", slices=("region",)))
    assert {row.survey_weight for row in found.test} == {3.0}
    with pytest.raises(UserError, match="stands_for"):
        open_dataset(DataSettings(path=pool, survey_weight="stands_for"))


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


def test_a_row_states_no_fact_that_only_a_later_row_gives(tmp_path):
    rows = ["a,1990,Cook,,", "a,1991,Cook,,", "a,1992,Nurse,female,", "a,1993,Nurse,,college"]
    path = table(tmp_path, *rows, head=f"{HEAD},schooling")
    head, years = "The career of one person, one line a year.\n", "1990: Cook\n1991: Cook\n1992: Nurse\n"
    told = ["", "Gender: female\n", "Gender: female\nSchooling: college\n"]
    asked = [years[:11] + "1991:", years[:22] + "1992:", years + "1993:"]
    wanted = [f"{head}{facts}{line}" for facts, line in zip(told, asked, strict=True)]
    assert [row.prompt_text for row in read(path)] == wanted
    answered = [one for _, one in open_rows(path, DataSettings(path=str(path), format="careers"))]
    assert [one.prompt_text for one in answered[1:] if isinstance(one, Example)] == wanted
    assert [row.context[0].extra["facts"] for row in read(path, demographics=False)] == [
        {}, {"gender": "female"}, {"gender": "female", "schooling": "college"},
    ]  # fmt: skip
    assert len(folded(read(path, demographics=False))) == 3
    short = read(path, history=1)
    assert short[1].prompt_text == f"{head}Gender: female\nEarlier years are left out.\n1991: Cook\n1992:"


def test_rows_are_sliced_by_how_many_records_there_are_not_by_how_many_are_shown(tmp_path):
    path = table(tmp_path, *people(1, years=12))
    wanted = ["1 to 2 records"] * 2 + ["3 to 5 records"] * 3 + ["6 to 9 records"] * 4 + ["10 records or more"] * 2
    for history in (None, 2):
        assert [row.slices["history"] for row in read(path, history=history)] == wanted


def test_years_may_be_dates_and_codes_decimals_as_tables_with_gaps_hold_them(tmp_path):
    path = tmp_path / "careers.parquet"
    columns = {
        "person": [7.0, 7.0], "year": [date(1990, 1, 1), date(1991, 1, 1)], "occupation": [1.0, 2.0],
        "gender": [2.0, None],
    }  # fmt: skip
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    (row,) = read(path)
    assert row.prompt_text.endswith("Gender: 2\n1990: 1\n1991:")
    assert (row.unit, row.answer.text) == ("7", "2")
    written = read(table(tmp_path, "a,1990-01-01,Cook,x", "a,1991-06-30 00:00:00,Cook,x"))
    assert written[0].id == "a-1991"
    assert "a year, as 1984" in faults(table(tmp_path, "a,1990-1,Cook,x", "a,1991,1.5,x"))[0]


@pytest.mark.parametrize(
    "template", [{"fact": "{name:d}"}, {"line": "{year:z}{facts}: {title}"}, {"gap": "{first:%Y}"}, {"fact": "{name"}]
)
def test_a_template_that_cannot_be_filled_in_is_refused_at_once(tmp_path, template):
    assert f"data.options.{next(iter(template))}" in faults(table(tmp_path, *LIFE), **template)[0]


def test_doubled_braces_are_printed_once_on_both_sides_of_a_title(tmp_path):
    line = "{{{year:d}}}{facts}: {title} {{x}}"
    assert read(table(tmp_path, *LIFE), line=line)[0].prompt_text.endswith("{1990}: Cook {x}\n{1991}:")
    assert Careers(line=line).around == (" ", " {x}\n")


def test_the_header_is_filled_from_the_static_facts_which_then_have_no_line_of_their_own(tmp_path):
    rows = [f"{row},{born},north" for row, born in zip(LIFE, ("1970", "1970", ""), strict=True)]
    path = table(tmp_path, *rows, head=f"{HEAD},born,region")
    found = read(path, header="<A {gender} worker born in {born}> {{x}}")
    for row in found:
        assert row.prompt_text.startswith("<A female worker born in 1970> {x}\nRegion: north\n1990: Cook\n")
    assert found[0].context[0].extra["facts"] == {"gender": "female", "born": "1970", "region": "north"}
    answered = [one for _, one in open_rows(path, DataSettings(path=str(path), options={"header": "<{gender}>"}))]
    assert answered[0].prompt_text.startswith("<female>\n")
    assert len(folded(found)) == 1


def test_the_header_names_no_fact_that_is_not_known_yet_or_left_out_of_the_text(tmp_path):
    path = table(tmp_path, "a,1990,Cook,", "a,1991,Cook,", "a,1992,Nurse,female", "a,1993,Nurse,female")
    heads = [row.prompt_text.splitlines()[0] for row in read(path, header="A {gender} worker")]
    assert heads == ["A unknown worker", "A female worker", "A female worker"]
    hidden = read(path, header="A {gender} worker", demographics=False)
    assert not any("female" in row.prompt_text for row in hidden)
    mapped = DataSettings(path=str(path), map={"born": "gender"}, options={"header": "Born: {born}"})
    assert [one.result for one in open_file(path, mapped).rows][-1].prompt_text.startswith("Born: female\n1990")


def test_a_name_in_the_header_that_is_no_static_column_is_refused_with_those_that_are(tmp_path):
    path = table(tmp_path, *(f"{row},north" for row in LIFE), head=f"{HEAD},region")
    (told,) = faults(path, header="<A {gender} worker born in {year}>")
    assert "data.options.header: found {year}" in told
    assert "Allowed: {gender}, {region}." in told
    assert "double braces that are to be written" in told
    assert "Did you mean 'gender'?" in faults(path, header="{gendre}")[0]
    assert "Allowed: {region}." in faults(path, header="{gender}", static=["region"])[0]
    bare = table(tmp_path, "a,1990,Cook", "a,1991,Cook", head="person,year,occupation", name="bare.csv")
    assert "Allowed: none" in faults(bare, header="{gender}")[0]


@pytest.mark.parametrize("template", ["{", "a } b", "{}", "{0}", "{gender.x}", "{gender[0}", "{gender:d}"])
def test_a_header_that_cannot_be_filled_in_is_refused_at_once(tmp_path, template):
    assert "data.options.header: found" in faults(table(tmp_path, *LIFE), header=template)[0]


@pytest.mark.parametrize("option", ["earlier", "end"])
def test_where_nothing_is_filled_in_braces_are_refused_unless_they_are_doubled(tmp_path, option):
    path = table(tmp_path, *LIFE)
    assert f"data.options.{option}: found '{{gender}}'" in faults(path, **{option: "{gender}"})[0]
    assert "double them" in faults(path, **{option: "{gender}"})[0]
    assert "Double a brace" in faults(path, **{option: "a { b"})[0]
    last = read(path, history=1, **{option: "{{cut}}"})[-1]
    said = {"earlier": last.prompt_text.splitlines()[2], "end": last.answer.extra["after"]}
    assert said[option] == "{cut}"


def by_slice(path: Path, **settings: Any) -> dict[str, set[str]]:
    """The slices of the test with their values."""
    found = open_dataset(DataSettings(path=str(path), format="careers", **settings)).test
    pairs = [pair for row in found for pair in row.slices.items()]
    return {name: {value for other, value in pairs if other == name} for name, _ in pairs}


def test_without_a_word_rows_are_sliced_by_facts_of_few_values_and_by_history(tmp_path):
    rows = [f"{row},{1950 + n // 4},north" for n, row in enumerate(people(60))]
    path = table(tmp_path, *rows, head=f"{HEAD},born,region")
    found = by_slice(path)
    assert found["gender"] == {"female", "male"}
    assert set(found) == {"gender", "history"}  # twelve people born in twelve years, all from one region
    assert by_slice(path, options={"demographics": False}) == found
    assert set(by_slice(path, slices=("region",))) == {"gender", "history", "region"}
    assert set(by_slice(path, options={"static": ["region"]})) == {"history"}


def test_slices_by_facts_bear_the_names_of_the_users_columns_and_move_no_split(tmp_path, monkeypatch):
    path = table(tmp_path, *people(60), head="person,year,occupation,sex")
    settings = DataSettings(path=str(path), format="careers", map={"gender": "sex"})
    assert set(by_slice(path, map=settings.map)) == {"sex", "history"}
    assert set(by_slice(path, map=settings.map, slices=("sex",))) == {"sex", "history"}
    whole = open_dataset(settings)
    with monkeypatch.context() as patched:
        patched.setattr(dataset, "by_facts", lambda valid, test, settings: (valid, test))
        without = open_dataset(settings)
    assert whole.fingerprint == without.fingerprint
    assert [row.id for row in whole.test] == [row.id for row in without.test]
    assert {row.slices["sex"] for row in whole.valid} == {"female", "male"}
    facts = [row.context[0].extra["facts"]["gender"] for row in whole.test]
    assert [row.slices["sex"] for row in whole.test] == facts


@pytest.mark.parametrize("share", ['""a lot""', "-0.5", "null", "true"])
def test_probabilities_that_are_none_are_told_with_their_line(tmp_path, share):
    path = table(tmp_path, "a,1990,Cook,", f'a,1991,Cook,"{{""Cook"": {share}}}"', head="person,year,occupation,oracle")
    assert "line 3, field 'oracle'" in faults(path)[0]
    assert "a number from 0 up" in faults(path)[0]


def test_a_row_without_the_key_of_a_fact_does_not_state_it_but_a_column_that_no_row_has_is_refused(tmp_path):
    path = tmp_path / "careers.jsonl"
    rows = ['"year": 1990', '"year": 1991, "sex": "f", "union": "no"', '"year": 1992']
    path.write_text("\n".join(f'{{"person": "a", "occupation": "Cook", {row}}}' for row in rows))
    found = read(path, static=["sex"], yearly=["union"])
    assert [row.prompt_text.splitlines()[1:] for row in found] == [
        ["Sex: f", "1990: Cook", "1991 (no):"], ["Sex: f", "1990: Cook", "1991 (no): Cook", "1992:"],
    ]  # fmt: skip
    assert "names the column 'sexe', which is not there. Did you mean 'sex'?" in faults(path, static=["sexe"])[0]


def test_a_fact_that_only_late_rows_have_is_there(tmp_path):
    path = tmp_path / "careers.jsonl"
    rows = [f'{{"person": "a{n}", "year": {y}, "occupation": "Cook"}}' for n in range(80) for y in (1990, 1991)]
    late = [f'{{"person": "b", "year": {y}, "occupation": "Cook", "sex": "f"}}' for y in (1990, 1991)]
    path.write_text("\n".join([*rows, *late]))
    found = read(path, static=["sex"], header="One {sex} worker.")
    assert [row.prompt_text.splitlines()[0] for row in found][-2:] == ["One unknown worker.", "One f worker."]
    for wrong in ({"static": ["sexe"]}, {"static": ["sex"], "header": "One {sexe} worker."}):
        assert "Did you mean" in faults(path, **wrong)[0]


def test_a_person_spelt_in_two_encodings_is_one(tmp_path):
    spelt = ["Zo\u00eb,1990,Cook,female", "Zoe\u0308,1991,Nurse,female", "Zo\u00eb ,1992,Nurse,female"]
    others = people(12)
    found = open_dataset(DataSettings(path=str(table(tmp_path, *spelt, *others)), format="careers"))
    rows = [row for split in (found.train, found.valid, found.test) for row in split]
    assert sorted(row.id for row in rows if row.unit == "Zo\u00eb") == ["Zo\u00eb-1991", "Zo\u00eb-1992"]
    assert len({row.unit for row in rows}) == 13


def test_columns_that_the_settings_do_not_read_are_told(tmp_path):
    rows = [f"{row},{n},college" for n, row in enumerate(people(12))]
    path = table(tmp_path, *rows, head="person,year,occupation,sex,educ,education")

    def unread(**options: Any):
        return open_dataset(DataSettings(path=str(path), format="careers", options=options)).facts["unread"]

    assert unread() == ["educ", "sex"]
    assert unread(static=["sex"], yearly=["educ"]) == ["education"]


def test_a_fact_that_changes_is_one_of_the_year_once_it_is_named_there_as_the_fault_advises(tmp_path):
    rows = [f"{row},{place}" for row, place in zip(LIFE, ("north", "south", "south"), strict=True)]
    path = table(tmp_path, *rows, head=f"{HEAD},region")
    assert "data.options.yearly" in faults(path)[0]
    text = read(path, yearly=["region"])[-1].prompt_text
    assert text.count("south") == 2, "once for each year"
    assert "Region" not in text
    assert "Gender: female" in text


def test_a_title_in_decomposed_letters_is_the_same_title(tmp_path):
    composed, apart = "Infirmi\u00e8re", "Infirmie\u0300re"
    titles = (apart, composed, "Cook")
    rows = [f"{p},{1990 + y},{title},female" for p in "abcdefghijkl" for y, title in enumerate(titles)]
    assert open_dataset(DataSettings(path=str(table(tmp_path, *rows)), format="careers")).labels == ("Cook", composed)


def test_a_weight_that_only_trains_is_told_until_it_weighs_figures_too(tmp_path):
    rows = [f"{row},2" for row in people(12)]
    path = table(tmp_path, *rows, head=f"{HEAD},weight")
    facts = open_dataset(DataSettings(path=str(path), format="careers")).facts
    assert facts["training_weight"] == "weight"
    renamed = DataSettings(path=str(path), format="careers", map={"gender": "weight"})
    assert open_dataset(renamed).facts["training_weight"] == "", "the column is another one then"
    weighed = open_dataset(DataSettings(path=str(path), format="careers", survey_weight="weight")).facts
    assert weighed["training_weight"] == ""
    assert (
        open_dataset(DataSettings(path=str(table(tmp_path, *people(12))), format="careers")).facts["training_weight"]
        == ""
    )
