"""A run folder whose files were damaged says which one."""

from __future__ import annotations

import errno
import json
import os
import tracemalloc

import pytest
from filelock import FileLock

from tunewright.core import store
from tunewright.core.errors import UserError
from tunewright.core.files import require_writable, write_atomic
from tunewright.core.store import Run, each_event
from tunewright.report.gather import gather


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


def peak_of(work):
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_an_event_torn_within_a_letter_is_left_out(run):
    torn = '{"type": "note", "text": "é'.encode()[:-1]
    run.events_file.write_bytes(b'{"type": "start"}\n' + torn)
    assert run.events() == [{"type": "start"}]


def test_memory_does_not_grow_with_the_steps_where_a_sum_is_wanted(run):
    lines = [
        json.dumps({"type": "step", "step": k, "seconds": 0.5, "rows": [[f"r{k}-{n}", 1.5, 2.0] for n in range(50)]})
        for k in range(1000)
    ]
    run.events_file.write_text("\n".join([*lines, '{"type": "stored", "seconds": 2.0}', '{"type": "st']))
    assert [event["type"] for event in each_event(run)] == ["step"] * 1000 + ["stored"], "the torn line is left out"
    found = []
    wanted = peak_of(lambda: found.append(sum(event["seconds"] for event in each_event(run, "step", "stored"))))
    assert found == [502.0]
    assert wanted < 100_000
    every = peak_of(lambda: run.events("step"))
    gather(run)  # what is imported and cached once is no part of it
    assert peak_of(lambda: gather(run)) < every / 4, "the report shows no step's rows"


def test_a_sentence_is_kept_once_however_often_a_resumed_run_says_it(run):
    for sentence in ("One.", "Two.", "One."):
        run.note(sentence)
    assert (run.folder / "notes.txt").read_text() == "One.\nTwo.\n"


OURS = {"tunewright": "0.1.0", "verb": "tune"}


def fill_the_disk(monkeypatch):
    def full(number: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)


@pytest.mark.parametrize("write", [lambda run: run.append({"type": "x"}), lambda run: run.write("events.jsonl", [])])
def test_a_full_disk_is_told_with_the_file_that_found_no_room(run, monkeypatch, write):
    fill_the_disk(monkeypatch)
    with pytest.raises(OSError, match="No space left") as error:
        write(run)
    assert error.value.filename == str(run.events_file)
    assert not list(run.folder.glob(".*.tmp"))


@pytest.mark.parametrize(
    ("name", "kind"), [("file/x", NotADirectoryError), ("file/a/x", NotADirectoryError), ("folder", IsADirectoryError)]
)
@pytest.mark.parametrize("act", [require_writable, lambda path: write_atomic(path, "new")])
def test_an_impossible_place_is_told_by_the_name_that_was_given(tmp_path, name, kind, act):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    with pytest.raises(kind) as error:
        act(tmp_path / name)
    assert error.value.filename == str(tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_asking_whether_a_file_can_be_written_leaves_it_as_it_was(tmp_path):
    (tmp_path / "old").write_text("mine")
    for name in ("old", "new", "folder/new"):
        require_writable(tmp_path / name)
    assert (tmp_path / "old").read_text() == "mine"
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["old"]


def test_a_folder_whose_run_never_began_is_taken_over_and_cleared(tmp_path):
    for name in ("info.json", "data.json", "canaries.json", ".plan.yaml.77.tmp"):
        (tmp_path / name).write_text(json.dumps(OURS))
    with pytest.raises(UserError, match=f"stopped before it began.*--out {tmp_path}"):
        Run.open(tmp_path)
    with Run.create(tmp_path, "x") as run:
        assert run.folder == tmp_path
        assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_two_starts_on_one_folder_are_one_run_and_a_sentence(tmp_path):
    with Run.create(tmp_path / "run", "x") as run:
        run.write("info.json", OURS)  # not begun yet: no plan
        with (
            pytest.raises(UserError, match="being written by another process"),
            Run.create(tmp_path / "run", "x"),
        ):
            pass
        assert run.read("info.json") == OURS
        run.plan_file.write_text("")
    with pytest.raises(UserError, match="not empty"), Run.create(tmp_path / "run", "x"):
        pass


def test_a_start_that_waited_for_the_lock_does_not_clear_what_was_begun_meanwhile(tmp_path, monkeypatch):
    class Slow(FileLock):
        def acquire(self, *args, **kwargs):
            (tmp_path / "plan.yaml").write_text("another's")
            return super().acquire(*args, **kwargs)

    monkeypatch.setattr(store, "FileLock", Slow)
    with pytest.raises(UserError, match="not empty"), Run.create(tmp_path, "x"):
        pass
    assert (tmp_path / "plan.yaml").read_text() == "another's"


def test_a_run_has_one_writer(run):
    with run.writing(), pytest.raises(UserError, match="being written by another process"), run.writing():
        pass
    with run.writing():
        pass


@pytest.mark.parametrize(
    "files",
    [
        {"data.json": "[1]"}, {"info.json": "{}", "data.json": "[1]"}, {"info.json": "mine"},
        {"info.json": json.dumps(OURS), "thesis.md": "mine"},
    ],
)  # fmt: skip
def test_a_folder_of_the_users_own_is_not_taken_over(tmp_path, files):
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=r"is not empty. Give another --out\.$"), Run.create(tmp_path, "x"):
        pass
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == files


def test_resume_is_offered_for_runs_alone(run, tmp_path):
    with pytest.raises(UserError, match="tunewright resume"), Run.create(run.folder, "x"):
        pass
    a_file = r"is a file; a run is a folder\. Give another --out\.$"
    with pytest.raises(UserError, match=a_file), Run.create(run.plan_file, "x"):
        pass


@pytest.mark.parametrize("left", [["rows.key"], ["canaries.json"], [".lock", "rows.key", ".x.123.tmp"]])
def test_a_start_that_was_killed_before_anything_was_told_is_taken_back(tmp_path, left):
    folder = tmp_path / "run"
    folder.mkdir()
    for name in left:
        (folder / name).write_text("{}")
    with Run.create(folder, "x") as run:
        assert run.folder == folder


def test_a_folder_of_the_users_own_is_not_taken_for_one(tmp_path):
    for name in ("rows.key", "thesis.md"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(UserError, match="not empty"), Run.create(tmp_path, "x"):
        pass
