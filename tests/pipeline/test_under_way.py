"""What was asked of a trained run and did not end is what `resume` goes on with."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunewright.core.errors import Interrupted, UserError
from tunewright.core.store import Run
from tunewright.pipeline import resume as module
from tunewright.pipeline.resume import resume
from tunewright.pipeline.under_way import asked_of, under_way


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
    assert asked_of(run) == {"verb": "evaluate", "set": ["seed=3"]}


def test_what_cannot_be_done_or_is_done_is_asked_no_more(run):
    with pytest.raises(UserError, match="wrong"), under_way(run, "evaluate", set=[]):
        raise UserError("wrong")
    assert asked_of(run) == {}
    with under_way(run, "evaluate", set=[]):
        assert asked_of(run)
    assert asked_of(run) == {}


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
    monkeypatch.setattr(module, verb, lambda folder, *arguments: asked.append((folder, *arguments[:-1])))
    with pytest.raises(Interrupted), under_way(run, verb, **how):
        raise Interrupted("Stopped.")
    resume(run.folder)
    assert asked == [(run.folder, *wanted)]
