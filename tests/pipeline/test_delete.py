"""Deleting a run leaves nothing of its rows behind, and can be done again when it was interrupted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tunewright.core.errors import UserError
from tunewright.core.store import Run
from tunewright.pipeline import delete as module
from tunewright.pipeline.delete import delete


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A folder as a run leaves it, with a run inside it, each with an answer in the cache."""
    monkeypatch.setenv("TUNEWRIGHT_CACHE", str(tmp_path / "cache"))
    found = Run(tmp_path / "runs" / "a")
    for number, place in enumerate((found.folder, found.folder / "children" / "seed-1")):
        (place / "evaluations").mkdir(parents=True)
        (place / "plan.yaml").write_text("resolved: {}")
        (place / "rows.json").write_text("private rows")
        kept = tmp_path / "cache" / "evaluations" / f"{number}.npz"
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text("answers")
        (place / "evaluations" / "kept.json").write_text(json.dumps([str(kept)]))
    return found


def test_answers_of_runs_inside_it_go_too(run: Run, tmp_path: Path) -> None:
    assert "2 cached files" in delete(run.folder).lines[0]
    assert not run.folder.exists()
    assert not [*(tmp_path / "cache" / "evaluations").iterdir()]


def test_answers_in_another_cache_are_named_before_anything_is_gone(run, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("TUNEWRIGHT_CACHE", str(tmp_path / "elsewhere"))
    with pytest.raises(UserError, match=r"0\.npz was made from the rows .* Set TUNEWRIGHT_CACHE"):
        delete(run.folder)
    assert (run.folder / "rows.json").is_file()


def test_a_link_is_followed_and_goes_too(run: Run, tmp_path: Path) -> None:
    link = tmp_path / "latest"
    link.symlink_to(run.folder)
    delete(link)
    assert not run.folder.exists()
    assert not link.is_symlink()


def test_a_run_that_was_half_deleted_can_be_deleted(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(path: Path, really=shutil.rmtree) -> None:
        if path == run.folder:
            raise KeyboardInterrupt
        really(path)

    with monkeypatch.context() as patch:
        patch.setattr(module.shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            delete(run.folder)
    assert {path.name for path in run.folder.iterdir()} - {".lock"} == {"plan.yaml"}
    delete(run.folder)
    assert not run.folder.exists()
