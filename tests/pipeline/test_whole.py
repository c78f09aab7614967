"""The whole way on a tiny model, through the command line in a process of its own, as a user goes it."""

from __future__ import annotations

import csv
import json
import random
import re
import shutil
import signal
from pathlib import Path

import pytest
import yaml

from commands import Started, from_nothing, signal_after_steps, tunewright
from tiny import save_tiny
from tunewright.core.files import cache_folder

WORDS = {"red": ["apple", "blood", "rose"], "blue": ["sky", "sea", "ink"], "green": ["grass", "leaf", "frog"]}
FAST = ["--set", "train.threads=1", "--set", "evaluate.probes=[]", "--set", "evaluate.generated_rows=4",
        "--set", "evaluate.max_new_tokens=4"]  # fmt: skip


def write_rows(path: Path, rows: int = 180, seed: int = 0) -> Path:
    draw = random.Random(seed)
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label", "unit"])
        for number in range(rows):
            label = draw.choice(list(WORDS))
            writer.writerow([f"{draw.choice(WORDS[label])} {number} {draw.random():.4f}", label, f"u{number // 2}"])
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    save_tiny("qwen2", folder / "model")
    write_rows(folder / "rows.csv")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNEWRIGHT_CACHE", str(folder / "cache"))
        yield folder


@pytest.fixture(scope="module")
def learnt(place):
    """One run that learns its rows well: many passes at a high rate."""
    run = place / "learnt"
    done = from_nothing(
        "tune", place / "rows.csv", "--model", place / "model", "--out", run, *FAST,
        "--set", "method=full", "--set", "train.learning_rate=0.01", "--set", "train.num_train_epochs=8",
        "--set", "train.early_stopping_patience=0",
    )  # fmt: skip
    return run, done


@pytest.fixture(autouse=True)
def place_cache(place, monkeypatch):
    monkeypatch.setenv("TUNEWRIGHT_CACHE", str(place / "cache"))


def test_tune_proves_what_was_learnt_and_leaves_every_file(learnt):
    run, done = learnt
    verdict = json.loads((run / "verdict.json").read_text())
    assert (done.returncode, verdict["verdict"]) == (0, "better"), done.stdout + done.stderr
    accuracy = next(metric for metric in verdict["metrics"] if metric["name"] == "accuracy")
    assert accuracy["primary"]
    assert accuracy["low"] > 0
    assert accuracy["baselines"].keys() == {"majority", "prior", "tfidf"}
    for name in ("plan.yaml", "info.json", "data.json", "forecast.json", "events.jsonl", "report.html", "report.md",
                 "evaluations/base.jsonl", "evaluations/tuned.jsonl", "evaluations/comparison.json"):  # fmt: skip
        assert (run / name).is_file(), name
    assert json.loads((run / "forecast.json").read_text())["actual"]["seconds"] > 0
    assert "better" in done.stdout
    assert "Baselines on the same rows, accuracy: majority" in done.stdout
    before_training = done.stderr[: done.stderr.index("training: 1/")]
    for fact in ("Rows: 126 train, 18 valid, 36 test", "stop token is trained in 100.0%", "Forecast (dry step)"):
        assert fact in before_training, done.stderr
    assert not list(run.glob(".*.tmp"))


def test_rows_worth_a_look_are_shown_by_their_own_text(place, learnt):
    (table,) = (
        block for block in json.loads((learnt[0] / "rows.json").read_text())["blocks"] if "loss" in block["columns"]
    )
    own = {row["text"] for row in read_csv(place / "rows.csv")}
    shown = {row[table["columns"].index("text")] for row in table["rows"]}
    assert len(shown) > 1
    assert shown <= own


def test_base_answers_are_kept_and_removed_with_the_run(place, learnt):
    run, _ = learnt
    kept = [Path(path) for path in json.loads((run / "evaluations" / "kept.json").read_text())]
    assert kept
    assert all(path.is_relative_to(cache_folder()) and path.is_file() for path in kept)
    again = tunewright("evaluate", run)
    assert "base: weighing" not in again.stderr
    assert "tuned: weighing" in again.stderr


def test_an_interrupted_evaluation_is_finished_by_resume_as_it_was_asked(learnt, tmp_path):
    run = Path(shutil.copytree(learnt[0], tmp_path / "run"))
    words = ["evaluate", run, "--set", "evaluate.resamples=300", "--set", "evaluate.metrics=accuracy,nll,macro_f1"]

    def asked() -> bool:
        return (run / "evaluations" / "asked.json").exists()

    (run / "verdict.json").unlink()
    assert Started(words).signal_when(asked, signal.SIGKILL) == -signal.SIGKILL
    assert not (run / "verdict.json").exists()
    tunewright("resume", run, expect=0)
    names = [metric["name"] for metric in json.loads((run / "verdict.json").read_text())["metrics"]]
    assert names == ["accuracy", "nll", "macro_f1"]
    assert not asked()
    otherwise = json.loads((run / "verdict.json").read_text())["asked_otherwise"]
    assert otherwise == {"evaluate.resamples": 300, "evaluate.metrics": ["accuracy", "nll", "macro_f1"]}
    page = re.sub(" +", " ", (run / "report.md").read_text())
    assert "| evaluate.resamples | 300 | changed after training |" in page
    assert "Judged under other settings than it was trained with: evaluate.metrics" in page
    tunewright("evaluate", run, expect=0)
    assert "asked_otherwise" not in json.loads((run / "verdict.json").read_text())


def test_evaluating_before_training_is_done_hinders_no_resume(place, tmp_path):
    run = tmp_path / "run"
    words = ["train", place / "rows.csv", "--model", place / "model", "--out", run, *FAST]
    assert signal_after_steps(words, run, signal.SIGTERM, 2) == 130
    assert "Finish it: tunewright resume" in tunewright("evaluate", run, expect=2).stderr
    tunewright("resume", run, expect=0)
    assert (run / "model").is_dir()


def test_a_finished_model_is_judged_and_not_made_again(learnt):
    run, _ = learnt
    done = tunewright("evaluate", run, "--set", "train.learning_rate=5", "--set", "data.splits=0.5,0.1,0.4", expect=2)
    assert "found data, train" in done.stderr
    assert "Allowed: keys of evaluate and gates" in done.stderr


def test_nothing_to_judge_on_is_said_before_the_first_step(place, tmp_path):
    words = [place / "rows.csv", "--model", place / "model", "--out", tmp_path / "run", *FAST]
    done = tunewright("tune", *words, "--set", "data.splits=0.9,0.1,0", expect=2)
    assert "There are no test rows" in done.stderr
    assert not (tmp_path / "run").exists()


def read_csv(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_predict_keeps_columns_and_says_what_evaluation_measured(place, learnt, tmp_path):
    run, _ = learnt
    out = tmp_path / "out.csv"
    tunewright("predict", run, place / "rows.csv", "--out", out, expect=0)
    given, found = read_csv(place / "rows.csv"), read_csv(out)
    added = ("prediction", "probability", "abstain", "prediction_note")
    assert list(found[0]) == ["text", "label", "unit", *added]
    assert [{k: v for k, v in row.items() if k not in added} for row in found] == given
    assert all(1 / 3 <= float(row["probability"]) <= 1 and row["abstain"] == "false" for row in found)
    lines = [json.loads(line) for line in (run / "evaluations" / "tuned.jsonl").read_text().splitlines()]
    measured = {line["unit"]: [] for line in lines}
    for line in lines:
        if line["metric"] == "accuracy":
            measured[line["unit"]].append(line["record"][0])
    for unit, right in measured.items():
        assert sum(right) == sum(row["prediction"] == row["label"] for row in found if row["unit"] == unit), unit


def test_predict_abstains_below_the_threshold_or_says_why_not(place, learnt, tmp_path):
    run, _ = learnt
    out = tmp_path / "out.csv"
    refused = tunewright("predict", run, place / "rows.csv", "--out", out, "--min-accuracy", "0.999", expect=2)
    assert "validation rows" in refused.stderr
    assert not out.exists()
    done = tunewright("predict", run, place / "rows.csv", "--out", out, "--min-accuracy", "0.3", expect=0)
    threshold = float(re.search(r"below probability ([\d.]+)", done.stdout).group(1))
    for row in read_csv(out):
        assert (row["abstain"] == "true") == (float(row["probability"]) < threshold - 5e-4) or abs(
            float(row["probability"]) - threshold
        ) < 1e-3


def test_predict_goes_on_where_it_stopped(place, learnt, tmp_path):
    run, _ = learnt
    rows = write_rows(tmp_path / "many.csv", rows=400, seed=5)
    out, whole = tmp_path / "out.csv", tmp_path / "whole.csv"
    tunewright("predict", run, rows, "--out", whole, expect=0)
    partial = tmp_path / ".out.csv.partial"
    begun = Started(["predict", run, rows, "--out", out])
    begun.signal_when(lambda: partial.exists() and partial.stat().st_size > 2000, signal.SIGKILL)
    assert not out.exists()
    assert partial.stat().st_size > 0
    tunewright("predict", run, rows, "--out", out, expect=0)
    assert out.read_text() == whole.read_text()
    assert not partial.exists()


def events(run: Path) -> list[dict[str, object]]:
    lines = (run / "events.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]


def long_words(place, run):
    """A run long enough to be interrupted anywhere."""
    return ["train", place / "rows.csv", "--model", place / "model", "--out", run, *FAST, "--set", "save_steps=4",
            "--set", "method.lora_dropout=0.1", "--set", "train.num_train_epochs=4"]  # fmt: skip


@pytest.fixture(scope="module")
def uninterrupted(place):
    run = place / "uninterrupted"
    tunewright(*long_words(place, run), expect=0)
    return run


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=["kill", "term", "ctrl-c"])
def test_killed_and_resumed_equals_uninterrupted(place, uninterrupted, tmp_path, number):
    torn = tmp_path / "torn"
    after = random.Random(str(number)).randint(3, 60)
    ended = signal_after_steps(long_words(place, torn), torn, number, after)
    assert ended == (-signal.SIGKILL if number == signal.SIGKILL else 130)
    assert not (torn / "model").exists()
    tunewright("resume", torn, expect=0)
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        assert (torn / "model" / name).read_bytes() == (uninterrupted / "model" / name).read_bytes()
    assert events(torn) == events(uninterrupted)
    finished = tunewright("resume", torn, expect=0)
    assert "finished" in finished.stdout


def test_resume_refuses_rows_that_changed(place, tmp_path):
    rows = write_rows(tmp_path / "rows.csv", 60)
    run = tmp_path / "run"
    words = ["train", rows, "--model", place / "model", "--out", run, *FAST, "--set", "train.num_train_epochs=40"]
    assert signal_after_steps(words, run, signal.SIGTERM, 3) == 130
    rows.write_text(rows.read_text().replace("apple", "pear"))
    done = tunewright("resume", run, expect=2)
    assert "have changed" in done.stderr


def test_check_and_plan_train_nothing(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shown = tunewright("check", place / "rows.csv", "--model", place / "model", "--show-mask", 2, expect=0)
    assert shown.stdout.count("[[") == 2
    planned = tunewright("plan", place / "rows.csv", "--model", place / "model", expect=0)
    assert not list(tmp_path.iterdir())
    assert "Forecast" in planned.stdout
    resolved = planned.stdout[: planned.stdout.index("\n\n")]
    assert yaml.safe_load(resolved)["recipe"] == "classify"


def test_all_faults_of_a_plan_come_at_once_without_a_traceback(place):
    done = tunewright("tune", place / "rows.csv", "--model", place / "model", "--set", "learning_rat=1",
                      "--set", "train.max_length=-3", expect=2)  # fmt: skip
    assert "learning_rate" in done.stderr
    assert "max_length" in done.stderr


def test_score_equals_the_plain_model(place, tmp_path):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    rows = [{"context": "The sky is", "answers": ["blue", "red", "blueish"]},
            {"context": [{"role": "user", "content": "Which?"}], "answers": ["red"]}]  # fmt: skip
    asked, out = tmp_path / "rows.jsonl", tmp_path / "out.json"
    asked.write_text("\n".join(json.dumps(row) for row in rows))
    tunewright("score", "--model", place / "model", "--rows", asked, "--json", out, expect=0)
    found = json.loads(out.read_text())["rows"]
    tokenizer = AutoTokenizer.from_pretrained(place / "model")
    model = AutoModelForCausalLM.from_pretrained(place / "model", dtype=torch.float32)
    for row, scored in zip(rows, found, strict=True):
        context = row["context"]
        text = context if isinstance(context, str) else tokenizer.apply_chat_template(
            context, tokenize=False, add_generation_prompt=True
        )  # fmt: skip
        for answer, value in zip(row["answers"], scored["log_probs"], strict=True):
            before = tokenizer(text)["input_ids"]
            after = tokenizer(answer, add_special_tokens=False)["input_ids"]
            with torch.inference_mode():
                logits = model(torch.tensor([before + after])).logits[0].log_softmax(-1)
            steps = logits[len(before) - 1 : -1][range(len(after)), after]
            assert value == pytest.approx(float(steps.sum()), abs=1e-4)


def test_compare_and_delete(place, learnt, tmp_path):
    run, _ = learnt
    other = tmp_path / "other"
    tunewright("tune", place / "rows.csv", "--model", place / "model", "--out", other, *FAST,
               "--set", "train.max_steps=2", expect=3)  # fmt: skip
    table = tunewright("compare", run, other, expect=0)
    assert "accuracy" in table.stdout
    assert "full" in table.stdout
    assert "lora" in table.stdout
    first = json.loads((other / "evaluations" / "kept.json").read_text())
    tunewright("evaluate", other, "--set", "evaluate.max_new_tokens=3", expect=3)
    kept = [Path(path) for path in json.loads((other / "evaluations" / "kept.json").read_text())]
    assert {*map(Path, first)} < {*kept}, "what an earlier evaluation kept is not forgotten"
    tunewright("delete", other, "--yes", expect=0)
    assert not other.exists()
    assert not any(path.exists() for path in kept)


def test_the_scratch_twin_sees_the_same_rows_for_as_many_steps(place, tmp_path):
    run = tmp_path / "run"
    tunewright("tune", place / "rows.csv", "--model", place / "model", "--out", run, *FAST,
               "--set", "train.max_steps=3", "--set", "evaluate.baselines=[majority, prior, scratch]",
               expect=3)  # fmt: skip
    metrics = json.loads((run / "verdict.json").read_text())["metrics"]
    assert all("scratch" in metric["baselines"] for metric in metrics if metric["name"] in ("accuracy", "nll"))
    base = next(metric["base"] for metric in metrics if metric["name"] == "nll")
    scratch = next(metric["baselines"]["scratch"] for metric in metrics if metric["name"] == "nll")
    assert scratch != base
    twin = [event for event in events(run / "children" / "scratch") if event["type"] == "step"]
    ours = [event for event in events(run) if event["type"] == "step"]
    assert [[row[0] for row in event["rows"]] for event in twin] == [
        [row[0] for row in event["rows"]] for event in ours
    ]
