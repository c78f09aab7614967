"""Runs inside a run: several seeds and a learning curve, killed in the middle and resumed; runs set side by side."""

from __future__ import annotations

import json
import re
import shutil
import signal
from pathlib import Path

import pytest

from commands import signal_after_steps, tunewright
from tiny import save_tiny
from tunewright.core.config import resolve
from tunewright.core.errors import UserError
from tunewright.pipeline import children
from tunewright.pipeline.children import _plan, questions_of
from tunewright.pipeline.compare import compare
from tunewright.pipeline.evaluate import evaluate
from tunewright.pipeline.inside import children_of

from .test_whole import FAST, events, write_rows

CHILDREN = ("rows-21", "rows-42", "seed-1")
"""Of 84 training rows: a quarter, a half, and the next seed."""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("children")
    save_tiny("qwen2", folder / "model")
    write_rows(folder / "rows.csv", rows=120)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNEWRIGHT_CACHE", str(folder / "cache"))
        yield folder


@pytest.fixture(autouse=True)
def place_cache(place, monkeypatch):
    monkeypatch.setenv("TUNEWRIGHT_CACHE", str(place / "cache"))


def words(place: Path, run: Path) -> list[object]:
    return ["tune", place / "rows.csv", "--model", place / "model", "--out", run, *FAST,
            "--set", "method=full", "--set", "train.learning_rate=0.01", "--set", "train.num_train_epochs=2",
            "--set", "save_steps=4", "--set", "data.slices=unit", "--set", "seeds=2",
            "--set", "evaluate.learning_curve=true"]  # fmt: skip


@pytest.fixture(scope="module")
def whole(place):
    run = place / "whole"
    return run, tunewright(*words(place, run))


def read(run: Path, name: str):
    return json.loads((run / name).read_text())


def test_each_child_is_a_whole_run_on_the_same_test_rows(whole):
    run, done = whole
    assert sorted(path.name for path in (run / "children").iterdir()) == sorted(CHILDREN)
    tests = {read(one, "evaluations/comparison.json")["test"] for one in (run, *(run / "children").iterdir())}
    assert len(tests) == 1
    for child in (run / "children").iterdir():
        assert (child / "report.html").is_file()
        assert (child / "model").is_dir()
        assert not (child / "children").exists()
    steps = {name: len([e for e in events(run / "children" / name) if e["type"] == "step"]) for name in CHILDREN}
    assert steps["rows-21"] < steps["rows-42"] < steps["seed-1"]
    ours = [e["loss_sum"] for e in events(run) if e["type"] == "step"]
    assert ours != [e["loss_sum"] for e in events(run / "children" / "seed-1") if e["type"] == "step"]
    assert "Over 2 seeds accuracy" in done.stdout
    assert "3 more runs" in done.stderr


def test_the_verdict_and_the_report_hold_spread_and_curve(whole):
    run, done = whole
    verdict = read(run, "verdict.json")
    spread = verdict["seeds"]["accuracy"]
    assert spread["values"].keys() == {"0", "1"}
    assert spread["values"]["0"] == next(m["tuned"] for m in verdict["metrics"] if m["name"] == "accuracy")
    assert spread["deviation"] is not None
    (curve,) = verdict["learning_curve"]
    assert curve["rows"] == [21, 42, 84]
    assert curve["figures"][2] == spread["values"]["0"]
    assert curve["luck"] == "seeds"
    report = (run / "report.md").read_text()
    for title in ("Several seeds", "More rows: Accuracy", "Rows that do worse", "By unit"):
        assert title in report
    assert done.returncode in (0, 3)
    assert done.returncode == (0 if verdict["verdict"] == "better" else 3)


def test_killed_inside_a_child_and_resumed_equals_uninterrupted(place, whole, tmp_path):
    run, done = whole
    torn = tmp_path / "torn"
    inside = torn / "children" / "rows-21"
    assert signal_after_steps(words(place, torn), inside, signal.SIGKILL, 3) == -signal.SIGKILL
    assert (torn / "children" / "seed-1" / "verdict.json").exists()
    assert not (inside / "verdict.json").exists()
    finished = [torn / "model" / "model.safetensors", torn / "children" / "seed-1" / "model" / "model.safetensors"]
    before = [path.stat().st_mtime_ns for path in finished]
    resumed = tunewright("resume", torn)
    assert resumed.returncode == done.returncode
    assert [path.stat().st_mtime_ns for path in finished] == before
    for name in CHILDREN:
        assert events(torn / "children" / name) == events(run / "children" / name), name
    assert read(torn, "verdict.json") == read(run, "verdict.json")


def test_many_runs_are_compared_with_the_first(whole, tmp_path):
    run, _ = whole
    page = tmp_path / "all.html"
    found = compare([run, *(run / "children" / name for name in CHILDREN)], page)
    lines = [re.split(r"  +", line) for line in found.lines if " accuracy *" in line]
    assert [line[0] for line in lines] == ["whole", *CHILDREN]
    tuned = [float(line[4]) for line in lines]
    assert [float(line[9]) for line in lines[1:]] == pytest.approx([value - tuned[0] for value in tuned[1:]], abs=2e-3)
    assert all(" to " in line[10] for line in lines[1:])
    assert "All measures of all runs" in page.read_text()
    assert "<svg" in page.read_text()


def known(run: Path, **changed: object) -> None:
    """Other hashes in what a run keeps of its test; None takes one away, as in a run of an older version."""
    path = run / "evaluations" / "comparison.json"
    found = json.loads(path.read_text()) | changed
    path.write_text(json.dumps({name: value for name, value in found.items() if value is not None}))


def test_runs_that_chose_among_other_labels_are_not_compared(whole, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(whole[0], other)
    known(other, labels="of a pool too")
    with pytest.raises(UserError, match=r"chose among other labels.*out of the pool"):
        compare([whole[0], other])
    known(other, labels=None)
    assert compare([whole[0], other]).exit_code == 0


def test_the_same_rows_in_other_words_are_compared_and_told(whole, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(whole[0], other)
    known(other, test="of other words")
    found = compare([whole[0], other], tmp_path / "both.md")
    assert [line for line in found.lines if "The rows' texts differ" in line and "in other words" in line]
    assert "The rows' texts differ" in (tmp_path / "both.md").read_text()
    assert not [line for line in compare([whole[0], whole[0]]).lines if "texts differ" in line]
    known(other, answers="of other answers")
    with pytest.raises(UserError, match="other test rows"):
        compare([whole[0], other])
    known(other, answers=None)
    with pytest.raises(UserError, match="other test rows"):
        compare([whole[0], other])


def test_figures_a_token_of_other_tokenizers_are_not_set_against_one_another(whole, tmp_path):
    other = Path(shutil.copytree(whole[0], tmp_path / "other"))
    info = json.loads((other / "info.json").read_text())
    info["model"]["reading"] = "another tokenizer"
    (other / "info.json").write_text(json.dumps(info))
    told, plain = (compare([whole[0], run]).lines for run in (other, Path(whole[0])))
    (said,) = [line for line in told if "tokens may be others" in line]
    assert "nll of other" in said
    assert "accuracy" not in said
    rows, same = ([line for line in lines if line.startswith("other ") or "nll" in line] for lines in (told, plain))
    assert rows != same
    assert not [line for line in plain if "tokens may be others" in line]


@pytest.mark.parametrize("changed", [{"generated_rows": 5}, {"max_new_tokens": 9}])
def test_other_free_answers_are_other_questions(changed):
    settings = resolve({}).settings
    other = settings.model_copy(update={"evaluate": settings.evaluate.model_copy(update=changed)})
    assert questions_of(settings) != questions_of(other)
    assert questions_of(settings) == questions_of(settings.model_copy(update={"seed": 7}))


def test_a_child_takes_the_precision_of_its_run_and_measures_none_of_its_own():
    plan = resolve({"seeds": 3})
    assert plan.settings.train.precision == "auto"
    for child in children_of(plan.settings, 100):
        its = _plan(plan, child, "bfloat16")
        assert (its.settings.train.precision, its.settings.seeds) == ("bfloat16", 1)
        assert its.settings.seed == int(child.name.removeprefix("seed-"))
        assert its.origins["train.precision"] == its.origins["seed"] == child.why


def test_private_runs_side_by_side_are_told_what_they_promise_together(whole, tmp_path):
    runs = [Path(shutil.copytree(whole[0], tmp_path / name)) for name in ("one", "two", "known")]
    for run, private in zip(runs, (True, True, False), strict=True):
        promise = {"private": private, "epsilon": {"prv": 2.991, "rdp": 3.5}, "delta": 1e-3}
        (run / "privacy.json").write_text(json.dumps(promise))
    told = [line for line in compare(runs).lines if "add up" in line]
    assert len(told) == 1
    assert "2 of these runs are private" in told[0]
    assert "epsilon 5.99 at delta 0.002" in told[0]
    assert not [line for line in compare(runs[1:]).lines if "add up" in line]


def test_children_are_judged_again_by_what_is_asked_now(whole, tmp_path):
    run = tmp_path / "again"
    shutil.copytree(whole[0], run)
    for child in (run / "children").iterdir():
        known(child, questions=None)  # of a run of an older version
    models = {path: path.stat().st_mtime_ns for path in run.rglob("model.safetensors")}
    asked = ["evaluate.metrics=[accuracy, brier]", "evaluate.primary=brier", "evaluate.baselines=[tfidf]"]
    evaluate(run, asked)
    verdict = read(run, "verdict.json")
    (curve,) = verdict["learning_curve"]
    assert (curve["metric"], len(curve["figures"])) == ("brier", 3)
    assert verdict["seeds"]["brier"]["values"].keys() == {"0", "1"}
    assert verdict["seeds"]["brier"]["missing"] == []
    assert {path: path.stat().st_mtime_ns for path in models} == models
    # Whatever is chosen, better is better than the trivial answers too.
    assert verdict["metrics"][0]["baselines"].keys() == {"tfidf", "majority", "prior"}
    judged = [(run / "children" / name / "verdict.json").stat().st_mtime_ns for name in CHILDREN]
    evaluate(run, asked)
    assert judged == [(run / "children" / name / "verdict.json").stat().st_mtime_ns for name in CHILDREN]


def test_what_an_earlier_judgement_said_of_more_rows_is_not_shown_beside_one_that_did_not_ask(whole, tmp_path):
    run = tmp_path / "once"
    shutil.copytree(whole[0], run)
    assert (run / "evaluations" / "learning_curve.json").is_file()
    evaluate(run, ["evaluate.learning_curve=false", "evaluate.metrics=[accuracy, brier]", "evaluate.primary=brier"])
    assert "learning_curve" not in read(run, "verdict.json")
    assert not (run / "evaluations" / "learning_curve.json").exists()
    assert (run / "evaluations" / "seeds.json").is_file(), "of what was asked it is told anew"


def test_a_child_that_cannot_be_judged_again_is_left_out_and_told(whole, tmp_path):
    run = tmp_path / "gone"
    shutil.copytree(whole[0], run)
    for name in ("rows-42", "seed-1"):
        shutil.rmtree(run / "children" / name / "model")
    evaluate(run, ["evaluate.metrics=[accuracy, brier]", "evaluate.primary=brier", "evaluate.baselines=[]"])
    verdict = read(run, "verdict.json")
    assert verdict["learning_curve"] == []
    said = " ".join(verdict["sentences"])
    assert "was not measured in brier: rows-42 has no figure of it" in said
    assert "Over 1 seeds brier" in said
    assert "Not measured under seed 1" in said
    assert verdict["metrics"][0]["baselines"].keys() == {"majority", "prior"}


def test_other_test_rows_are_not_compared(whole, tmp_path):
    run, _ = whole
    other = tmp_path / "other"
    shutil.copytree(run, other)
    comparison = read(other, "evaluations/comparison.json")
    (other / "evaluations" / "comparison.json").write_text(
        json.dumps({**comparison, "test": "of another text", "answers": "of another text"})
    )
    with pytest.raises(UserError, match=r"answered other test rows.*split_seed"):
        compare([run, other])
    old = {name: value for name, value in comparison.items() if name != "test"}  # before the hash was kept
    (other / "evaluations" / "comparison.json").write_text(json.dumps(old))
    assert compare([run, other]).exit_code == 0
    tested = other / "evaluations" / "tuned.jsonl"
    tested.write_text("".join(tested.read_text().splitlines(keepends=True)[:-9]))
    with pytest.raises(UserError, match="other test rows"):
        compare([run, other])


def test_figures_of_other_objectives_and_of_longer_answers_are_not_set_against_one_another(whole, tmp_path):
    other = Path(shutil.copytree(whole[0], tmp_path / "other"))
    plan = (other / "plan.yaml").read_text()
    (other / "plan.yaml").write_text(re.sub(r"max_new_tokens: \d+", "max_new_tokens: 77", plan))
    verdict = read(other, "verdict.json")
    verdict["metrics"].append({**verdict["metrics"][0], "name": "stop_rate", "primary": False})
    (other / "verdict.json").write_text(json.dumps(verdict))
    (said,) = [line for line in compare([whole[0], other]).lines if "something else" in line]
    assert "stop_rate of other (evaluate.max_new_tokens is 77 here" in said
    assert "accuracy of" not in said
    (other / "plan.yaml").write_text(re.sub(r"loss_on: \w+", "loss_on: all", plan))
    verdict["metrics"][-1]["name"] = "loss"
    (other / "verdict.json").write_text(json.dumps(verdict))
    (said,) = [line for line in compare([whole[0], other]).lines if "something else" in line]
    assert "loss of other (the objective is another)" in said


def test_a_child_that_cannot_be_asked_again_is_left_out_and_that_is_said(whole, tmp_path):
    """Its records are of other questions: mixed in, they would be a spread of the questions."""
    run = Path(shutil.copytree(whole[0], tmp_path / "again"))
    for name in ("seed-1", "rows-21"):
        shutil.rmtree(run / "children" / name / "model")
    evaluate(run, ["evaluate.generated_rows=3"])
    verdict = read(run, "verdict.json")
    assert verdict["seeds"]["accuracy"]["missing"] == ["1"]
    assert verdict["learning_curve"] == []
    said = " ".join(verdict["sentences"])
    assert "Not measured under seed 1." in said
    assert "rows-21 has no figure of it on the same questions" in said
    assert "Judged under other settings than it was trained with" in said
    child = read(run / "children" / "rows-42", "verdict.json")
    assert child["asked_otherwise"] == {"evaluate.generated_rows": 3}, "the child says so too"


def test_what_is_counted_in_steps_shrinks_with_the_rows():
    steps = {"train.max_steps": 100, "train.warmup_steps": 20, "train.eval_steps": 30}
    settings = resolve({**steps, "evaluate.learning_curve": True}).settings
    quarter, half = ([child.changed[key] for key in steps] for child in children_of(settings, 80))
    assert (quarter, half) == ([25, 5, 8], [50, 10, 15])


def test_a_run_inside_a_run_without_a_network_from_scratch_was_asked_the_same():
    plan = resolve({"seeds": 2, "evaluate.baselines": ["majority", "scratch"]})
    (child,) = children_of(plan.settings, 100)
    assert questions_of(_plan(plan, child, "float32").settings) == questions_of(plan.settings)


def test_canaries_that_the_runs_inside_lack_are_told():
    settings = resolve({"audit.canaries": 8, "seeds": 2}).settings
    assert "8 canaries" in children._planted(settings, "the other seeds")[0]
    assert children._planted(resolve({"seeds": 2}).settings, "the other seeds") == []
