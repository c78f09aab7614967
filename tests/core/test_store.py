"""A run folder whose files were damaged says which one."""

from __future__ import annotations

import pytest

from tunewright.core.errors import UserError
from tunewright.core.store import Run


@pytest.fixture
def run(tmp_path):
    (tmp_path / "plan.yaml").write_text("seed: 0\n")
    return Run.open(tmp_path)


def test_a_file_that_is_absent_is_none_and_one_that_must_be_there_is_missed(run):
    assert run.read("info.json") is None
    with pytest.raises(UserError, match=r"info\.json is gone or damaged"):
        run.must_read("info.json")


@pytest.mark.parametrize("content", ["", '{"threads": ', "\x00"])
def test_a_torn_file_is_told_by_name(run, content):
    (run.folder / "info.json").write_text(content)
    for read in (run.read, run.must_read):
        with pytest.raises(UserError, match=r"info\.json is damaged"):
            read("info.json")


@pytest.mark.parametrize("content", ["null", "[1]", "3"])
def test_json_of_another_kind_is_no_file_of_a_run(run, content):
    (run.folder / "info.json").write_text(content)
    with pytest.raises(UserError, match="gone or damaged"):
        run.must_read("info.json")


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\x85"])
def test_events_of_rows_whose_ids_hold_a_foreign_line_mark_are_all_read(run, mark):
    run.append({"type": "step", "rows": [[f"a{mark}b", 1.0, 1.0]]})
    run.append({"type": "end", "step": 1})
    assert [event["type"] for event in run.events()] == ["step", "end"]


def test_a_sentence_is_kept_once_however_often_a_resumed_run_says_it(run):
    for sentence in ("One.", "Two.", "One."):
        run.note(sentence)
    assert (run.folder / "notes.txt").read_text() == "One.\nTwo.\n"
