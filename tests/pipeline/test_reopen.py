"""A finished run whose plan, place or layout is looked at again."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from tiny import save_tiny
from tunewright.core.config import Request
from tunewright.core.errors import UserError
from tunewright.core.progress import silent
from tunewright.core.store import Run
from tunewright.pipeline import evaluate as evaluation
from tunewright.pipeline.evaluate import evaluate
from tunewright.pipeline.resume import resume
from tunewright.pipeline.tune import tune
from tunewright.runs.opening import open_tuned

SETS = (
    "train.threads=1",
    "train.max_steps=2",
    "evaluate.max_new_tokens=4",
    "evaluate.probes=[]",
    "train.packing=false",
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reopen")
    save_tiny("qwen2", folder / "model")
    rows = [{"text": f"thing {n} of {'ab'[n % 2]}", "label": "ab"[n % 2]} for n in range(60)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNEWRIGHT_CACHE", str(folder / "cache"))
        tune(Request(str(folder / "rows.jsonl"), None, SETS, (), folder / "run", None, str(folder / "model")), silent)
    return folder


@pytest.fixture
def run(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TUNEWRIGHT_CACHE", str(tmp_path / "cache"))
    return Path(shutil.copytree(made / "run", tmp_path / "run"))


def edit(run: Path, section: str, key: str, value: object) -> None:
    plan = yaml.safe_load((run / "plan.yaml").read_text())
    plan["resolved"][section][key] = value
    (run / "plan.yaml").write_text(yaml.safe_dump(plan))


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("data", "instruction", "Which?"), ("train", "learning_rate", 0.5), ("train", "packing", True),
        ("data", "map", {"text": "words"}),
    ],
)  # fmt: skip
def test_a_plan_that_was_changed_after_training_is_not_taken_for_how_the_model_was_made(run, section, key, value):
    edit(run, section, key, value)
    with pytest.raises(UserError, match=rf"changed since the model was made: {section}\.{key} is .*, and was"):
        evaluate(run)


def test_nobody_opens_a_model_under_a_plan_that_was_changed_after_training(run):
    edit(run, "data", "instruction", "Which?")
    with pytest.raises(UserError, match=r"changed since the model was made: data\.instruction is Which\?, and was"):
        open_tuned(Run.open(run), torch.float32)


def test_a_method_named_otherwise_is_another_and_one_written_otherwise_is_not(run):
    plan = yaml.safe_load((run / "plan.yaml").read_text())
    method = plan["resolved"]["method"]
    plan["resolved"]["method"] = "full"
    (run / "plan.yaml").write_text(yaml.safe_dump(plan))
    with pytest.raises(UserError, match="method is full, and was lora"):
        evaluate(run)
    plan["resolved"]["method"] = {**method, "r": 3}
    (run / "plan.yaml").write_text(yaml.safe_dump(plan))
    with pytest.raises(UserError, match=r"method is lora\(.*r=3"):
        evaluate(run)
    plan["resolved"]["method"] = {key: method[key] for key in reversed(method)}
    (run / "plan.yaml").write_text(yaml.safe_dump(plan, sort_keys=False))
    assert evaluate(run).exit_code in (0, 3)


def test_what_a_report_tells_of_the_rows_may_be_added_later(run):
    edit(run, "data", "use", "Not for clinical use.")
    assert evaluate(run).exit_code in (0, 3)
    page = (run / "report.md").read_text()
    assert "Not for clinical use." in page
    assert "Settings · Train" not in page


def test_what_is_asked_may_be_changed_in_the_plan_and_the_verdict_says_so(run):
    edit(run, "gates", "require", "not_worse")
    evaluate(run)
    verdict = json.loads((run / "verdict.json").read_text())
    assert verdict["asked_otherwise"] == {"gates.require": "not_worse"}
    assert "gates.require not_worse" in " ".join(verdict["sentences"])


def test_a_run_of_an_older_version_knows_its_plan_alone(run):
    info = json.loads((run / "info.json").read_text())
    del info["settings"]
    (run / "info.json").write_text(json.dumps(info))
    edit(run, "train", "learning_rate", 0.5)
    evaluate(run)
    assert "asked_otherwise" not in json.loads((run / "verdict.json").read_text())


@pytest.mark.parametrize("key", ["data.path", "model"])
def test_rows_and_models_that_were_moved_may_be_named_anew(made, run, tmp_path, key):
    place = made / ("rows.jsonl" if key == "data.path" else "model")
    moved = place.rename(place.with_name(f"moved-{place.name}"))
    try:
        with pytest.raises(UserError, match=rf"{re.escape(key)}: {place} is not there any more.*under resolved in"):
            evaluate(run)
        plan = (run / "plan.yaml").read_text()
        (run / "plan.yaml").write_text(plan.replace(str(place), str(moved)))
        assert evaluate(run).exit_code in (0, 3)
        assert resume(run).exit_code in (0, 3)
    finally:
        moved.rename(place)


def test_base_and_tuned_are_laid_out_as_the_plan_says_when_they_are_opened_again(run, monkeypatch):
    """Packed and padded rows may differ in the last bit, so that a gain would be one of the layout."""
    laid = []
    real = evaluation.Suite.ask

    def ask(self, model, rows, *rest):
        laid.append(model.packs)
        return real(self, model, rows, *rest)

    monkeypatch.setattr(evaluation.Suite, "ask", ask)
    evaluate(run)
    assert len(laid) >= 2
    assert not any(laid)
