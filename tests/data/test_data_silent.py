"""What used to be lost, changed or mixed up without a word."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tunewright.core.errors import UserError
from tunewright.core.settings import DataSettings
from tunewright.data.dataset import open_dataset
from tunewright.data.duplicates import near_groups, normal
from tunewright.data.readers import Bad, read_rows
from tunewright.data.reading import open_file, open_rows
from tunewright.data.split_files import find_files


def jsonl(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(path: Path, **more: Any):
    opened = open_file(path, DataSettings(path=str(path), **more))
    return opened, [one.result for one in opened.rows]


def turns(example) -> list[tuple[str, str]]:
    return [(turn.role, turn.text) for turn in example.context]


@pytest.mark.parametrize(
    ("row", "kind", "wanted"),
    [
        (
            {"question": "How many heads?", "context": "CREATE TABLE head(age INT)", "answer": "SELECT 1"},
            "question",
            [("user", "How many heads?\n\nCREATE TABLE head(age INT)")],
        ),
        (
            {"instruction": "Sum up.", "context": "A text.", "response": "Short."},
            "alpaca",
            [("user", "Sum up.\n\nA text.")],
        ),
        (
            {"system_prompt": "Be kind.", "question": "Why?", "response": "So."},
            "question",
            [("system", "Be kind."), ("user", "Why?")],
        ),
        (
            {
                "system": "Be kind.",
                "messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}],
            },
            "messages",
            [("system", "Be kind."), ("user", "Why?")],
        ),
        (
            {"system": "Be kind.", "prompt": "Why?", "completion": "So."},
            "completion",
            [("system", "Be kind."), ("user", "Why?")],
        ),
        (
            {"system": "Be kind.", "prompt": "Why?", "chosen": "So.", "rejected": "No."},
            "preference",
            [("system", "Be kind."), ("user", "Why?")],
        ),
    ],
)
def test_columns_that_belong_to_the_prompt_are_read(tmp_path, row, kind, wanted):
    opened, (example,) = read(jsonl(tmp_path / "rows.jsonl", row))
    assert (opened.format, turns(example), opened.unread) == (kind, wanted, ())


def test_columns_that_nothing_reads_are_told_and_kept_in_the_facts(tmp_path):
    rows = [{"text": f"text {n}", "label": "ab"[n % 2], "colour": "red", "site": "x"} for n in range(30)]
    path = jsonl(tmp_path / "rows.jsonl", *rows)
    assert read(path)[0].unread == ("colour", "site")
    facts = open_dataset(DataSettings(path=str(path), slices=("site",))).facts
    assert facts["unread"] == ["colour"]


def test_two_system_texts_are_not_mixed(tmp_path):
    chat = [{"role": "system", "content": "Be rude."}, {"role": "user", "content": "?"}]
    row = {"system": "Be kind.", "messages": [*chat, {"role": "assistant", "content": "So."}]}
    (found,) = read(jsonl(tmp_path / "rows.jsonl", row))[1]
    assert isinstance(found, Bad)
    assert "another one in the messages" in str(found)
    (same,) = read(jsonl(tmp_path / "same.jsonl", {**row, "system": "Be rude."}))[1]
    assert turns(same) == [("system", "Be rude."), ("user", "?")]


def test_options_in_a_column_of_their_own_are_not_left_out(tmp_path):
    row = {"question": "Which?", "choices": ["a", "b"], "answer": "a"}
    (found,) = read(jsonl(tmp_path / "rows.jsonl", row))[1]
    assert isinstance(found, Bad)
    assert (found.field, "into the question" in found.mend) == ("choices", True)


def test_a_map_of_what_the_format_does_not_read_is_refused(tmp_path):
    path = jsonl(tmp_path / "rows.jsonl", {"text": "a", "label": "b", "sys": "c"})
    with pytest.raises(UserError, match=r"--map system=sys: format label does not read 'system'\. It reads id, label"):
        read(path, map={"system": "sys"})


@pytest.mark.parametrize("key", ["thinking", "reasoning", "reasoning_content"])
def test_thoughts_are_carried_whatever_they_are_called(tmp_path, key):
    answer = {"role": "assistant", "content": "So.", key: "Owls fly."}
    row = {"messages": [{"role": "user", "content": "?"}, answer]}
    (found,) = read(jsonl(tmp_path / "rows.jsonl", row))[1]
    assert found.answer.extra == {"reasoning_content": "Owls fly.", key: "Owls fly."}


@pytest.mark.parametrize("thought", ["\n\n", True, {"effort": "low"}, None])
def test_thoughts_that_are_none_are_no_fault(tmp_path, thought):
    answer = {"role": "assistant", "content": "So.", "thinking": thought}
    row = {"messages": [{"role": "user", "content": "?"}, answer]}
    (found,) = read(jsonl(tmp_path / "rows.jsonl", row))[1]
    assert found.answer.extra == {}


def test_a_message_that_is_not_to_be_trained_on_is_not(tmp_path):
    chat = [
        {"role": "user", "content": "?"},
        {"role": "assistant", "content": "No.", "train": False},
        {"role": "user", "content": "??"},
        {"role": "assistant", "content": "Yes."},
    ]
    (found,) = read(jsonl(tmp_path / "rows.jsonl", {"messages": chat}))[1]
    assert [turn.weight for turn in found.context] == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("label", [False, True, "False"])
def test_unpaired_preferences_are_no_answers_to_learn(tmp_path, label):
    row = {"prompt": "Hi", "completion": "Go away.", "label": label}
    path = jsonl(tmp_path / "rows.jsonl", row)
    (found,) = read(path)[1]
    assert isinstance(found, Bad)
    assert "keep the rows of label true" in found.mend
    ((_, asked),) = open_rows(path, DataSettings(path=str(path)))
    assert turns(asked) == [("user", "Hi")]


@pytest.mark.parametrize(("one", "other"), [("7", "7.0"), (7, "7.0"), (7.0, "7")])
def test_a_unit_is_one_whatever_a_table_made_of_its_number(tmp_path, one, other):
    rows = [{"text": "a", "label": "x", "unit": one}, {"text": "b", "label": "x", "unit": other}]
    found = read(jsonl(tmp_path / "rows.jsonl", *rows))[1]
    assert [example.unit for example in found] == ["7", "7"]


def test_ids_that_are_texts_stay_as_they_are(tmp_path):
    rows = [{"text": "a", "label": "x", "id": "1"}, {"text": "b", "label": "x", "id": "1.0"}]
    found = read(jsonl(tmp_path / "rows.jsonl", *rows))[1]
    assert [example.id for example in found] == ["1", "1.0"]


def test_a_label_is_one_whether_it_is_written_with_decimals_or_not(tmp_path):
    rows = [{"text": f"text {n}", "label": [1, 1.0, 0.5][n % 3]} for n in range(30)]
    dataset = open_dataset(DataSettings(path=str(jsonl(tmp_path / "rows.jsonl", *rows))))
    assert dataset.labels == ("0.5", "1")
    assert {row.answer.text for row in (*dataset.train, *dataset.valid, *dataset.test)} == {"0.5", "1"}
    assert sum(dataset.facts["label_counts"].values()) == 30


def test_labels_of_one_writing_keep_it(tmp_path):
    rows = [{"text": f"text {n}", "label": ["1.0", "2.0"][n % 2]} for n in range(30)]
    assert open_dataset(DataSettings(path=str(jsonl(tmp_path / "rows.jsonl", *rows)))).labels == ("1.0", "2.0")


def test_a_quote_that_takes_in_lines_of_a_tab_table_is_told(tmp_path):
    path = tmp_path / "rows.tsv"
    path.write_text('text\tlabel\n"It was late.\t0\nWe should go."\t1\nfine\t1\n')
    (line, bad), (_, row) = read_rows(path)
    assert (line, isinstance(bad, Bad), row) == (2, True, {"text": "fine", "label": "1"})
    assert "1 further line" in str(bad)
    path.write_text('text\tlabel\n"two\nlines"\t0\n"a\ttab"\t1\n')
    assert [row["text"] for _, row in read_rows(path)] == ["two\nlines", "a\ttab"]
    path.write_text('text\tlabel\n"def f():\n\treturn 1"\tok\n')
    assert [row["text"] for _, row in read_rows(path)] == ["def f():\n\treturn 1"]
    path.write_text('label\ttext\nok\t"def f():\n\treturn 1"\n')
    assert [row["text"] for _, row in read_rows(path)] == ["def f():\n\treturn 1"]
    path.write_text('text\n"two\nlines"\n')
    assert [row for _, row in read_rows(path)] == [{"text": "two\nlines"}]
    path.write_text('text\n"\n"\nx\n')
    assert [row for _, row in read_rows(path)] == [{"text": "\n"}, {"text": "x"}]
    path.write_text('text\tlabel\n"It was late.\t0\n\nWe should go."\t1\n')
    assert [isinstance(row, Bad) for _, row in read_rows(path)] == [True]


def test_near_duplicates_are_found_in_scripts_without_spaces():
    note = "患者は朝食前にインスリンを投与され、長い散歩の後に血糖値が高いままであれば何単位が安全かを尋ねた。" * 3
    other = note.replace("朝食前", "昼食前", 1)
    groups, coverage = near_groups([normal(note), normal(other), normal("犬は庭で眠っている。" * 20)])
    assert (groups.root(0) == groups.root(1), groups.root(0) == groups.root(2), coverage) == (True, False, 1.0)


def test_null_keys_that_parquet_adds_are_not_trained(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    call = {"function": {"name": "f", "arguments": {"city": "Paris"}}}
    other = {"function": {"name": "f", "arguments": {"query": "x"}}}
    rows = [
        {"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": "", "tool_calls": [one]}]}
        for one in (call, other)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    found = read(tmp_path / "rows.parquet")[1]
    arguments = [example.answer.extra["tool_calls"][0]["function"]["arguments"] for example in found]
    assert arguments == [{"city": "Paris"}, {"query": "x"}]


def test_rows_of_a_json_list_that_stand_on_one_line_are_told_apart(tmp_path):
    rows = [{"text": f"text {n}", "label": "xy"[n % 2]} for n in range(40)] + [{"text": "", "label": "y"}]
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(rows))
    dataset = open_dataset(DataSettings(path=str(path), on_bad_row="skip"))
    assert sum(dataset.facts["counts"].values()) == 40
    (bad,) = dataset.facts["bad"]
    assert bad["line"] == 41
    path.write_text(json.dumps(rows, indent=1))
    with pytest.raises(UserError, match="line 162"):
        open_dataset(DataSettings(path=str(path)))
    lines = [json.dumps(row) for row in rows]
    path.write_text("[\n" + ",\n".join(lines[:38]) + ",\n" + ", ".join(lines[38:]) + "\n]")
    assert [line for line, _ in read_rows(path)] == [*range(2, 43)]
    assert sum(open_dataset(DataSettings(path=str(path), on_bad_row="skip")).facts["counts"].values()) == 40


def test_answers_that_are_one_under_two_writings_are_no_labels_but_answers(tmp_path):
    rows = [{"prompt": f"text {n}", "completion": ["1", "1.0"][n % 2]} for n in range(30)]
    dataset = open_dataset(DataSettings(path=str(jsonl(tmp_path / "rows.jsonl", *rows))))
    assert dataset.labels is None
    assert {row.answer.text for row in dataset.train} == {"1", "1.0"}


def test_facts_of_careers_are_one_whatever_a_table_made_of_their_number(tmp_path):
    path = tmp_path / "careers.csv"
    path.write_text("person,year,occupation,region\nx,1990,Cook,1.0\nx,1991,Baker,1\n")
    settings = DataSettings(path=str(path), format="careers", options={"static": ["region"]})
    (found,) = [one.result for one in open_file(path, settings).rows]
    assert "1.0" not in found.prompt_text


def test_labels_that_are_one_under_two_writings_are_one_label(tmp_path):
    rows = [{"text": f"text {n}", "label": ["1", "1.0"][n % 2]} for n in range(30)]
    with pytest.raises(UserError, match="Found one label"):
        open_dataset(DataSettings(path=str(jsonl(tmp_path / "rows.jsonl", *rows))))


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(path)


@pytest.mark.parametrize("lost", ["fox/a.webp", "cat/b.bmp", "cat/2021/c.png"])
def test_a_label_loses_no_pictures_in_silence(tmp_path, lost):
    for name in ("cat/a.png", "dog/a.png", lost):
        picture(tmp_path / name)
    (tmp_path / "dog" / "notes.txt").write_text("of the zoo")
    with pytest.raises(UserError, match=r"found 1 (\.webp|\.bmp|folders), which are not read"):
        [*read_rows(tmp_path)]


def test_a_label_without_pictures_is_told(tmp_path):
    picture(tmp_path / "cat" / "a.png")
    (tmp_path / "fox").mkdir()
    with pytest.raises(UserError, match="no picture of 'fox'"):
        [*read_rows(tmp_path)]


def test_a_table_whose_pictures_lie_beside_it_is_the_data(tmp_path):
    picture(tmp_path / "images" / "a.png")
    jsonl(tmp_path / "train.jsonl", {"image": "images/a.png", "label": "cat"})
    assert find_files(tmp_path) == {"": tmp_path / "train.jsonl"}


def test_lists_of_names_beside_folders_of_pictures_are_no_table(tmp_path):
    for name in ("cat/a.png", "dog/a.png"):
        picture(tmp_path / name)
    (tmp_path / "train.txt").write_text("cat/a.png\n")
    assert find_files(tmp_path) == {"": tmp_path}


def test_input_and_context_of_an_instruction_are_both_read(tmp_path):
    row = {"instruction": "Sum up.", "input": "One.", "context": "Two.", "output": "Short."}
    (found,) = read(jsonl(tmp_path / "rows.jsonl", row))[1]
    assert turns(found) == [("user", "Sum up.\n\nOne.\n\nTwo.")]


def test_an_empty_system_column_hides_no_filled_one(tmp_path):
    row = {"system": "", "system_prompt": "Be kind.", "question": "Why?", "answer": "So."}
    (found,) = read(jsonl(tmp_path / "rows.jsonl", row))[1]
    assert turns(found)[0] == ("system", "Be kind.")


def test_a_second_name_of_a_column_and_names_of_messages_are_told_when_they_are_not_read(tmp_path):
    row = {"question": "Why?", "query": "How?", "answer": "So.", "content": "x", "role": "y"}
    assert read(jsonl(tmp_path / "rows.jsonl", row))[0].unread == ("content", "query", "role")
    path = jsonl(tmp_path / "mapped.jsonl", {"frage": "Why?", "query": "How?", "answer": "So."})
    assert read(path, map={"question": "frage"})[0].unread == ("query",)
    path = jsonl(tmp_path / "given.jsonl", {"question": "the answer", "query": "How?", "answer": "x"})
    opened, (found,) = read(path, map={"answer": "question"})
    assert (opened.unread, found.answer.text, turns(found)) == (("answer",), "the answer", [("user", "How?")])


def test_rows_to_be_answered_come_back_as_they_were(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = [{"question": "Why?", "more": {"a": 1, "b": None}}, {"question": "How?", "more": {"a": None, "b": 2}}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    path = tmp_path / "rows.parquet"
    assert [row for row, _ in open_rows(path, DataSettings(path=str(path), format="question"))] == rows


def test_a_split_column_that_contradicts_the_file_is_refused(tmp_path):
    rows = [{"text": f"text {n}", "label": "ab"[n % 2], "split": "train"} for n in range(9)]
    jsonl(tmp_path / "train.jsonl", *rows, {"text": "z", "label": "a", "split": "test"})
    jsonl(tmp_path / "test.jsonl", {"text": "other", "label": "a", "split": "test"})
    with pytest.raises(UserError, match=r"train\.jsonl, line 10: the column 'split' says test, and the file train"):
        open_dataset(DataSettings(path=str(tmp_path)))


def test_labels_that_validation_alone_has_are_counted(tmp_path):
    rows = [{"text": f"text {n}", "label": "ab"[n % 2], "split": "train"} for n in range(9)]
    rows += [{"text": "v", "label": "c", "split": "valid"}, {"text": "t", "label": "a", "split": "test"}]
    facts = open_dataset(DataSettings(path=str(jsonl(tmp_path / "rows.jsonl", *rows)))).facts
    assert (facts["valid_rows_of_unseen_labels"], facts["test_rows_of_unseen_labels"]) == (1, 0)


def test_rows_of_careers_come_back_in_their_order_whatever_is_broken(tmp_path):
    path = tmp_path / "careers.csv"
    lines = [f"x,{1990 + n},Cook,male" for n in range(3)]
    lines[1] = "x,1991"
    lines.append("x,1994,,male")
    lines += [f"y{n},1990,Cook,male" for n in range(120)]
    lines[90] = "y,1990"
    path.write_text("person,year,occupation,gender\n" + "\n".join(lines) + "\n")
    settings = DataSettings(path=str(path), format="careers", options={"static": ["gender"]})
    found = [read.line for read in open_file(path, settings, answers_needed=False).rows]
    assert found == sorted(found)
    assert len(found) == len(lines)
