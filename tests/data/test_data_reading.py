"""Good files of every kind give the same rows; columns are mapped and carried; rows to be answered stream."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tunewright.core.errors import MissingPart, UserError
from tunewright.core.records import Example
from tunewright.core.settings import DataSettings
from tunewright.data.readers import READERS, Bad, read_rows
from tunewright.data.reading import open_file, open_rows
from tunewright.data.split_files import find_files

words = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12).filter(str.strip)
rows_of_text = st.lists(st.fixed_dictionaries({"text": words, "label": words}), min_size=1, max_size=6)


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    kind = path.suffix
    if kind == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif kind == ".json":
        path.write_text(json.dumps(rows, indent=1, ensure_ascii=False), encoding="utf-8")
    elif kind == ".parquet":
        pa = pytest.importorskip("pyarrow")
        pytest.importorskip("pyarrow.parquet").write_table(pa.Table.from_pylist(rows), path)
    else:
        out = io.StringIO()
        table = csv.DictWriter(out, list(rows[0]), delimiter="\t" if kind == ".tsv" else ",", lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
        path.write_text(out.getvalue(), encoding="utf-8")
    return path


def examples(path: Path, **more: Any) -> list[Example]:
    found = [read.result for read in open_file(path, DataSettings(path=str(path), **more)).rows]
    assert not [bad for bad in found if isinstance(bad, Bad)]
    return [example for example in found if isinstance(example, Example)]


@pytest.mark.parametrize("kind", [kind for kind in READERS if kind not in (".txt", ".dta")])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=rows_of_text)
def test_every_kind_gives_back_what_was_written(kind: str, tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    path = write(tmp_path / f"rows{kind}", rows)
    assert [row for _, row in read_rows(path)] == rows
    again = [json.loads(json.dumps(row)) for row in rows]
    assert [e.answer.text for e in examples(path)] == [
        e.answer.text for e in examples(write(tmp_path / "a.jsonl", again))
    ]


def test_line_numbers_are_those_of_an_editor(tmp_path: Path) -> None:
    table, chat = tmp_path / "rows.csv", tmp_path / "rows.json"
    table.write_text('text,label\n"two\nlines",a\n\nthird,b\n')
    assert [line for line, _ in read_rows(table)] == [2, 5]
    chat.write_text('[\n\n {"text": "a"},\n {"text":\n "b"}, {"text": "c"}\n]\n')
    assert [line for line, _ in read_rows(chat)] == [3, 4, 5]
    loose = tmp_path / "rows.jsonl"
    loose.write_text('\n{"text": "a"}\n\n{"text": "b"}')
    assert [line for line, _ in read_rows(loose)] == [2, 4]


def test_a_mark_windows_line_ends_and_semicolons_are_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes("\ufefftext;label\r\nschön, ja;a\r\n".encode())
    assert [row for _, row in read_rows(path)] == [{"text": "schön, ja", "label": "a"}]


def test_json_may_hold_lines(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text('{"text": "a"}\n{"text": "b"}\n')
    assert [row for _, row in read_rows(path)] == [{"text": "a"}, {"text": "b"}]


def test_plain_text_is_paragraphs_where_blank_lines_are_else_lines(tmp_path: Path) -> None:
    path = tmp_path / "rows.txt"
    path.write_bytes(b"\n\none\r\ntwo\r\n \r\n\r\nthree\n")
    assert list(read_rows(path)) == [(3, {"text": "one\ntwo"}), (7, {"text": "three"})]
    path.write_text("\none\ntwo\n\n")
    assert list(read_rows(path)) == [(2, {"text": "one"}), (3, {"text": "two"})]
    assert examples(path)[0].context == ()


def test_parquet_without_its_package_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rows.parquet"
    path.write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingPart, match=r"pip install 'tunewright\[parquet\]'"):
        list(read_rows(path))


def test_columns_are_mapped_and_carried(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("text,review,stars,patient,sex,key,weight\nold,fine,5,p1,f,k1,0.5\nold,bad,1,p2,,k2,\n")
    first, second = examples(
        path, map={"text": "review", "label": "stars", "id": "key"}, unit="patient", slices=("sex",)
    )
    assert (first.prompt_text, first.answer.text, first.answer.weight) == ("fine", "5", 0.5)
    assert (first.id, first.unit, dict(first.slices), first.source) == ("k1", "p1", {"sex": "f"}, "rows.csv:2")
    assert (second.answer.weight, dict(second.slices)) == (1.0, {})


def test_a_person_spelt_with_a_space_or_in_another_encoding_is_one_unit(tmp_path: Path) -> None:
    names = ["Zo\u00eb", "Zoe\u0308 ", " Zo\u00eb", 7, 7.0, "7"]
    path = write(tmp_path / "rows.jsonl", [{"text": f"t{n}", "label": "a", "who": who} for n, who in enumerate(names)])
    assert [example.unit for example in examples(path, unit="who")] == ["Zo\u00eb"] * 3 + ["7"] * 3


def test_a_weight_scales_all_that_trains(tmp_path: Path) -> None:
    chat = [{"role": r, "content": r} for r in ("user", "assistant", "user", "assistant")]
    path = write(tmp_path / "rows.jsonl", [{"messages": chat, "weight": 2}])
    (example,) = examples(path)
    assert [turn.weight for turn in example.context] == [0, 2, 0]
    assert example.answer.weight == 2


def test_format_can_be_said(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", [{"text": "t", "label": "l"}])
    assert examples(path, format="text")[0].answer.text == "t"
    with pytest.raises(UserError, match="Did you mean 'label'"):
        examples(path, format="lable")


@pytest.mark.parametrize(
    ("row", "asked"),
    [
        ({"text": "a", "note": 1}, "a"),
        ({"text": "a", "label": ""}, "a"),
        ({"prompt": "a"}, "a"),
        ({"question": "a", "weight": "?", "split": "later"}, "a"),
        ({"messages": [{"role": "user", "content": "a"}]}, "a"),
    ],
)
def test_rows_to_be_answered_need_no_answer(row: dict[str, Any], asked: str, tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", [row])
    plan = DataSettings(unit="patient", slices=("sex",), map={"label": "stars"} if "text" in row else {})
    ((original, example),) = open_rows(path, plan)
    assert original == row
    assert isinstance(example, Example)
    assert (example.prompt_text, example.answers) == (asked, ())


def test_rows_to_be_answered_tell_bad_ones_in_place(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("text,key\na,1\n,2\nc,3\n")
    found = list(open_rows(path, DataSettings()))
    assert [row["key"] for row, _ in found] == ["1", "2", "3"]
    assert [isinstance(result, Bad) for _, result in found] == [False, True, False]


def test_rows_to_be_answered_stream(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "a"}\n' * 200 + "broken\n")
    taken = open_rows(path, DataSettings())
    assert isinstance(next(taken)[1], Example)
    assert isinstance(list(taken)[-1][1], Bad)


@pytest.mark.parametrize("valid", ["valid", "val", "validation", "dev", "eval", "Validation"])
def test_a_folder_has_splits_under_many_names(valid: str, tmp_path: Path) -> None:
    for name in ("train", valid, "test", "notes"):
        (tmp_path / f"{name}.jsonl").write_text("{}")
    (tmp_path / "train.md").write_text("not rows")
    assert {split: file.stem for split, file in find_files(tmp_path).items()} == {
        "train": "train", "valid": valid, "test": "test",
    }  # fmt: skip


def test_a_folder_with_train_alone_is_one_file(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("text,label\n")
    assert list(find_files(tmp_path)) == [""]
