"""What was asked of a trained run and did not end is what `resume` goes on with."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunewright.core.config import resolve
from tunewright.core.errors import Interrupted, UserError
from tunewright.core.store import Run
from tunewright.core.words import command
from tunewright.data.readers import Bad, BadRows
from tunewright.pipeline import resume as module
from tunewright.pipeline.result import Result
from tunewright.pipeline.resume import resume
from tunewright.pipeline.under_way import asked_of, gone_on_from, under_way


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = Run(tmp_path / "run")
    run.model.mkdir(parents=True)
    run.plan_file.write_text("")
    run.write("info.json", {"verb": "train"})
    return run


def test_what_stops_in_a_child_is_still_asked_of_the_run_and_says_so(run):
    child = run.folder / "children" / "seed-1"
    with pytest.raises(Interrupted) as told, under_way(run, "evaluate", set=["seed=3"]):
        raise Interrupted(f"Stopped after step 5. Go on with: tunewright resume {child}")
    assert str(told.value) == f"Stopped after step 5. Go on with: tunewright resume {run.folder}"
    assert asked_of(run) == [{"verb": "evaluate", "set": ["seed=3"]}]


def test_what_fails_in_a_child_names_the_run_to_resume(run):
    child = run.children / "scratch"
    with pytest.raises(UserError) as told, gone_on_from(run):
        raise UserError(f"The disk is full; make room, then `tunewright resume {child}` goes on. See {child}.")
    assert str(told.value) == (
        f"The disk is full; make room, then `tunewright resume {run.folder}` goes on. See {child}."
    )


def test_rows_that_cannot_be_read_in_a_child_are_told_as_they_are(run):
    bad = BadRows([Bad("rows.csv", 3, "text", "nothing", "text", "fill it in")])
    with pytest.raises(BadRows) as told, gone_on_from(run):
        raise bad
    assert told.value.bad == bad.bad
    assert "1 bad row" in str(told.value)


def test_a_run_whose_path_has_spaces_is_named_whole(tmp_path):
    run = Run(tmp_path / "my run")
    with pytest.raises(Interrupted) as told, gone_on_from(run):
        raise Interrupted(f"Stopped. Go on with: {command('resume', run.children / 'seed-1')}")
    assert str(told.value) == f"Stopped. Go on with: tunewright resume '{run.folder}'"


def test_what_cannot_be_done_or_is_done_is_asked_no_more(run):
    with pytest.raises(UserError, match="wrong"), under_way(run, "evaluate", set=[]):
        raise UserError("wrong")
    assert asked_of(run) == []
    with under_way(run, "evaluate", set=[]):
        assert asked_of(run)
    assert asked_of(run) == []


@pytest.mark.parametrize(
    ("verb", "how", "wanted"),
    [
        ("audit", {"twin": 40, "control": True, "json": "/x/audit.json"}, (Path("/x/audit.json"), 40, True)),
        ("audit", {"twin": 0, "control": False, "json": ""}, (None, 0, False)),
        ("evaluate", {"set": ["seed=3"]}, (["seed=3"],)),
    ],
)
def test_resume_asks_again_as_it_was_asked(run, monkeypatch, verb, how, wanted):
    asked = []

    def again(folder, *arguments):
        asked.append((folder, *arguments[:-1]))
        return Result(3)

    monkeypatch.setattr(module, verb, again)
    with pytest.raises(Interrupted), under_way(run, verb, **how):
        raise Interrupted("Stopped.")
    assert resume(run.folder).exit_code == 3
    assert asked == [(run.folder, *wanted)]


def test_a_verb_that_ends_meanwhile_does_not_make_another_forgotten(run, monkeypatch):
    for verb, how in (("evaluate", {"set": ["seed=3"]}), ("audit", {"twin": 0, "control": False, "json": ""})):
        with pytest.raises(Interrupted), under_way(run, verb, **how):
            raise Interrupted("Stopped.")
    with under_way(run, "audit", twin=40, control=False, json=""):
        pass
    assert asked_of(run) == [{"verb": "evaluate", "set": ["seed=3"]}]
    with pytest.raises(Interrupted), under_way(run, "audit", twin=0, control=False, json=""):
        raise Interrupted("Stopped.")
    monkeypatch.setattr(module, "evaluate", lambda *_: Result(3, ("not better",)))
    monkeypatch.setattr(module, "audit", lambda *_: Result(0, ("no breach",)))
    ended = resume(run.folder)
    assert (ended.exit_code, ended.lines) == (3, ("not better", "no breach"))


def test_what_cannot_be_asked_again_now_keeps_no_other_from_it(run, monkeypatch):
    for verb, how in (("audit", {"twin": 0, "control": False, "json": "/gone/x.json"}), ("evaluate", {"set": []})):
        with pytest.raises(Interrupted), under_way(run, verb, **how):
            raise Interrupted("Stopped.")

    def gone(*_):
        raise UserError("/gone is not there")

    done = []
    monkeypatch.setattr(module, "audit", gone)
    monkeypatch.setattr(module, "evaluate", lambda *_: done.append("evaluate") or Result())
    with pytest.raises(UserError, match="/gone is not there"):
        resume(run.folder)
    assert done == ["evaluate"]


def test_runs_of_an_older_version_are_gone_on_with(run, monkeypatch):
    run.write("evaluations/asked.json", {"verb": "evaluate", "set": ["seed=3"]})
    monkeypatch.setattr(module, "evaluate", lambda folder, sets, _: Result(3, tuple(sets)))
    assert resume(run.folder).lines == ("seed=3",)
    (run.folder / "evaluations" / "asked.json").unlink()
    monkeypatch.setattr(module, "pending", lambda run: False)
    monkeypatch.setattr(module, "write_report", lambda run: [])
    run.write("info.json", {"verb": "tune", "capabilities": []})
    run.write("data.json", {"facts": {"format": "label"}})
    run.write("verdict.json", {"verdict": "cannot_tell", "sentences": ["Nothing."], "gates": []})
    resolve({"gates.require": "not_worse"}).write(run.plan_file)
    assert resume(run.folder).exit_code == 0


def test_a_run_that_was_judged_anew_keeps_that_judgement_when_it_is_resumed(run, monkeypatch):
    monkeypatch.setattr(module, "evaluate", lambda *_: pytest.fail("asked again"))
    monkeypatch.setattr(module, "pending", lambda run: False)
    monkeypatch.setattr(module, "write_report", lambda run: (run.folder / "report.html").write_text("new"))
    run.write("info.json", {"verb": "tune", "capabilities": ["choices"]})
    run.write("data.json", {"facts": {"format": "label"}})
    verdict = {"verdict": "cannot_tell", "sentences": ["Nothing can be told."], "gates": [], "exit_code": 0}
    run.write("verdict.json", verdict)  # under gates.require=not_worse, which the plan does not have
    ended = resume(run.folder)
    assert ended.exit_code == 0
    assert ended.lines[0] == "Nothing can be told."
    assert run.read("verdict.json") == verdict
    assert (run.folder / "report.html").is_file()
