"""A private run as a user makes it: the promise is kept and told, and no file says what stood in a row."""

from __future__ import annotations

import csv
import hashlib
import json
import re
import stat
from collections import Counter
from pathlib import Path

import pytest
import torch
import yaml

from tiny import save_tiny
from tunewright.core.config import Request
from tunewright.core.errors import Interrupted, UserError
from tunewright.core.files import cache_folder
from tunewright.core.progress import silent
from tunewright.core.settings import DataSettings, PrivacySettings
from tunewright.core.store import Run
from tunewright.core.words import coarse
from tunewright.data.dataset import open_dataset
from tunewright.pipeline import train as train_module
from tunewright.pipeline import tune as tune_module
from tunewright.pipeline.check import check
from tunewright.pipeline.discretion import hide
from tunewright.pipeline.reopen import reopen
from tunewright.pipeline.resume import resume
from tunewright.pipeline.tune import tune
from tunewright.pipeline.twins import twin_of
from tunewright.runs.opening import forget_noise_key, open_tuned
from tunewright.train.stopping import StopRequest

from .test_whole import write_rows

SETS = (
    "privacy.target_epsilon=3", "privacy.unit=unit", "train.threads=1", "train.gradient_accumulation_steps=4",
    "train.max_steps=12", "evaluate.probes=[]", "evaluate.generated_rows=4", "evaluate.max_new_tokens=4",
)  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("private")
    return str(save_tiny("qwen2", folder / "model")), str(write_rows(folder / "rows.csv", 240)), folder


@pytest.mark.parametrize("method", ["lora", "norm_head"])
def test_a_private_run_keeps_its_promise_and_shows_no_row(made, method):
    model, rows, folder = made
    out = folder / method
    cached = {path for path in cache_folder().rglob("*") if path.is_file()}
    sets = (*SETS, f"method={method}", "train.learning_rate=1e-3")
    result = tune(Request(data=rows, model=model, sets=sets, out=out))
    assert result.exit_code in (0, 3)
    found = json.loads((out / "privacy.json").read_text())
    assert found["private"]
    assert found["epsilon"]["prv"] <= 3 < found["epsilon"]["prv"] + 0.1
    assert found["unit"] == "unit"
    assert not (out / "checkpoints").exists(), "the key of the noise outlived the run"
    _rows_are_known_again_by_a_key(out, Path(rows))
    secrets = re.findall(r"\w+ \d+ 0\.\d{4}", (folder / "rows.csv").read_text())
    assert len(secrets) == 240
    new = [path for path in cache_folder().rglob("*") if path.is_file() and path not in cached]
    for path in [*out.rglob("*"), *new]:
        if path.is_file():
            text = path.read_bytes().decode("utf-8", "replace")
            assert not [secret for secret in secrets if secret in text], path
    units = {row["unit"] for row in csv.DictReader((folder / "rows.csv").read_text().splitlines())}
    lines = [json.loads(line) for line in (out / "evaluations" / "tuned.jsonl").read_text().splitlines()]
    assert not {line["unit"] for line in lines} & units, "a unit's name is in the run"
    assert len({line["unit"] for line in lines}) > 5, "units are told apart no longer"
    seconds = [event["seconds"] for event in Run.open(out).events("step")]
    assert seconds[:-1] == [None] * 11
    assert seconds[-1] == coarse(seconds[-1]) > 0
    forecast = json.loads((out / "forecast.json").read_text())
    assert forecast["forecast"]["positions"] is None
    assert forecast["forecast"]["evaluation_seconds"] == coarse(forecast["forecast"]["evaluation_seconds"])
    coarsely_told = ("seconds", "evaluation_seconds", "memory_bytes")
    assert all(forecast["actual"][name] == coarse(forecast["actual"][name]) for name in coarsely_told)
    assert "differential privacy for every unit" in (out / "report.md").read_text()
    # Nothing is fitted to training rows without noise: the best constant answer to the test rows stands in.
    accuracy = next(m for m in json.loads((out / "verdict.json").read_text())["metrics"] if m["name"] == "accuracy")
    held_out = Counter(row.answer.text for row in reopen(Run.open(out), (), silent).test)
    assert accuracy["baselines"]["majority"] == pytest.approx(max(held_out.values()) / held_out.total())
    if method == "norm_head":
        assert not (out / "model" / "model.safetensors").exists()
        assert (out / "model" / "sparse_change.safetensors").exists()


def _rows_are_known_again_by_a_key(out, rows):
    """No file says what would confirm a guess at the rows, and yet others are not taken for them."""
    told, info = (json.loads((out / name).read_text()) for name in ("data.json", "info.json"))
    assert [sorted(file) for file in told["facts"]["files"]] == [["file", "rows"]]
    assert stat.S_IMODE((out / "rows.key").stat().st_mode) == 0o600
    content = rows.read_bytes()
    fingerprint = open_dataset(DataSettings(path=str(rows), unit="unit"), seed=0).fingerprint
    for path in out.rglob("*.*"):
        if path.is_file():
            written = path.read_bytes()
            assert hashlib.sha256(content).hexdigest().encode() not in written, path
            assert fingerprint.encode() not in written, path
    assert info["data"].startswith("keyed:")
    (out / "checkpoints").mkdir()  # as if it had been stopped before the key of the noise was deleted
    reopen(Run.open(out), (), silent)
    assert not (out / "checkpoints").exists()
    rows.write_bytes(content.replace(b"0.1", b"0.2", 1))
    try:
        with pytest.raises(UserError, match="have changed"):
            reopen(Run.open(out), (), silent)
    finally:
        rows.write_bytes(content)


def test_a_key_that_cannot_be_deleted_is_an_error_wherever_the_run_is_met(tmp_path, monkeypatch):
    run = Run(tmp_path)
    run.checkpoints.mkdir()
    forget_noise_key(run)
    assert run.checkpoints.exists(), "of a run that is not finished"
    run.model.mkdir()
    forget_noise_key(run)
    assert run.checkpoints.exists(), "of a run without privacy"
    run.write("privacy.json", {"private": True})
    run.write("info.json", {"verb": "train"})
    run.plan_file.write_text("data: {path: x}")
    monkeypatch.setattr("shutil.rmtree", lambda *_, **__: None)  # as where the rights do not allow it
    met = (
        forget_noise_key, lambda run: open_tuned(run, torch.float32),
        lambda run: resume(run.folder), lambda run: reopen(run, (), silent),
        lambda run: twin_of(Run(tmp_path.parent / "none"), "", {}, silent),
    )  # fmt: skip
    monkeypatch.setattr(Run, "child", lambda self, name: run)
    for meet in met:
        with pytest.raises(UserError, match=r"could not be deleted\. It holds the key of the noise"):
            meet(run)


def test_a_run_that_was_begun_under_privacy_does_not_go_on_without_it(made, monkeypatch):
    model, rows, folder = made
    out = folder / "begun"
    half = StopRequest()
    half.requested = True
    request = Request(data=rows, model=model, sets=(*SETS, "method=norm"), out=out)
    with monkeypatch.context() as patch:
        patch.setattr(train_module, "StopRequest", lambda *_: half)
        with pytest.raises(Interrupted):
            tune(request)
    plan = out / "plan.yaml"
    told = yaml.safe_load(plan.read_text())
    told["resolved"]["privacy"] = {**PrivacySettings().model_dump()}
    plan.write_text(yaml.safe_dump(told, sort_keys=False))
    with pytest.raises(UserError, match=r"begun under privacy, and its plan\.yaml now has none"):
        resume(out)


def test_rows_that_cannot_be_encoded_are_not_quoted_nor_measured(made):
    model, rows, folder = made
    sets = (*SETS, "train.max_length=24", "data.on_overlong=error")
    with pytest.raises(UserError) as told:
        tune(Request(data=rows, model=model, sets=sets, out=folder / "long"))
    assert "longer than 24 tokens (train.max_length)" in str(told.value)
    assert not re.search(r"\d tokens, allowed", str(told.value))


def test_likely_identifiers_are_counted_for_whoever_has_the_rows(made, tmp_path):
    model, *_ = made
    rows = tmp_path / "rows.csv"
    people = "".join(f'"Mail {n} to a{n}@example.org",{"xy"[n % 2]}\n' for n in range(60))
    rows.write_text("text,label\n" + people)
    sets = ("privacy.target_epsilon=8", "train.threads=1")
    told = "\n".join(check(Request(data=str(rows), model=model, sets=sets, out=tmp_path / "check.json")).lines)
    assert "60" in next(line for line in told.splitlines() if "mail" in line)
    assert "example.org" not in told
    assert "mail" not in (tmp_path / "check.json").read_text()


def test_copies_that_count_as_rows_of_their_own_are_told_of(made, tmp_path):
    model, *_ = made
    rows = tmp_path / "rows.csv"
    notes = [f"note {n},{'xy'[n % 2]},p{n // 2}\n" for n in range(60)]
    rows.write_text("".join(["text,label,patient\n", *notes, *notes[:7]]))
    by_row, by_patient = (
        "\n".join(check(Request(data=str(rows), model=model, sets=("privacy.target_epsilon=8", *unit))).lines)
        for unit in ((), ("privacy.unit=patient",))
    )
    assert "7 of all rows read say what another one says" in by_row
    assert "another one says" not in by_patient


def test_a_promise_that_cannot_be_kept_is_refused_before_anything_is_asked_or_written(made, tmp_path, monkeypatch):
    model, rows, _ = made
    monkeypatch.setattr(tune_module, "ask_base", lambda *_: pytest.fail("the base was asked"))
    sets = (*SETS, "privacy.delta=0.4")
    with pytest.raises(UserError, match="too large for"):
        tune(Request(data=rows, model=model, sets=sets, out=tmp_path / "never"))
    assert not (tmp_path / "never").exists()


def test_answers_that_merely_happen_to_repeat_are_no_closed_set(tmp_path):
    """Noticed among private rows, the list of answers could publish one person's own."""
    rows = [{"prompt": f"note {n}", "completion": ["admit", "discharge"][n % 2]} for n in range(60)]
    rows[7]["completion"] = "call son Peter Castro"
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    settings = DataSettings(path=str(tmp_path / "rows.jsonl"))
    assert "call son Peter Castro" in open_dataset(settings).labels
    hide(private=True)
    try:
        assert open_dataset(settings).labels is None
    finally:
        hide(private=False)


def test_rows_are_not_printed_and_unreadable_values_are_not_quoted(made, tmp_path):
    model, rows, _ = made
    with pytest.raises(UserError, match="prints rows"):
        check(Request(data=rows, model=model, sets=SETS), show_mask=2)
    broken = tmp_path / "rows.jsonl"
    lines = [json.dumps({"text": f"note {n}", "label": "ab"[n % 2], "unit": f"u{n}"}) for n in range(30)]
    broken.write_text("\n".join([*lines, json.dumps({"text": {"name": "Castro"}, "label": "a", "unit": "u9"})]))
    with pytest.raises(UserError) as told:
        check(Request(data=str(broken), model=model, sets=SETS))
    assert "Castro" not in str(told.value)
    assert "not shown" in str(told.value)
