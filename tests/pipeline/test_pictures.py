"""Handwritten digits go the whole way that text goes: tuned, judged, resumed, audited."""

from __future__ import annotations

import json

import pytest
from sklearn.datasets import load_digits

from tunewright.core.config import Request
from tunewright.core.store import Run
from tunewright.models.families.image_classifier import ImageClassifier, Shape
from tunewright.pipeline.audit import audit
from tunewright.pipeline.predict import predict
from tunewright.pipeline.tune import tune

SETS = ("train.threads=1", "train.max_steps=60", "evaluate.resamples=200", "audit.canaries=40")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("digits")
    digits = load_digits()
    rows = [
        {"image": (image * 255 / 16).round().astype(int).tolist(), "label": str(label)}
        for image, label in zip(digits.images[:400], digits.target[:400], strict=True)
        if label >= 5
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    ImageClassifier().fresh(folder / "model", Shape(tuple("56789"), 8, 1, 8), 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNEWRIGHT_CACHE", str(folder / "cache"))
        request = Request(str(folder / "rows.jsonl"), None, SETS, (), folder / "run", None, str(folder / "model"))
        result = tune(request)
        yield Run.open(folder / "run"), result


def test_digits_are_learned_and_proven(run):
    found, result = run
    verdict = found.read("verdict.json")
    assert (result.exit_code, verdict["verdict"]) == (0, "better")
    assert found.must_read("info.json")["verified"]["reopened_equal"]
    assert "recipe: pictures" in found.plan_file.read_text()


def test_new_digits_are_answered(run, tmp_path):
    found, _ = run
    rows = (found.folder.parent / "rows.jsonl").read_text().splitlines()[:20]
    bare = [{"image": json.loads(row)["image"]} for row in rows]
    (tmp_path / "new.jsonl").write_text("".join(json.dumps(row) + "\n" for row in bare))
    predict(found.folder, tmp_path / "new.jsonl", tmp_path / "out.jsonl")
    answered = [json.loads(line)["prediction"] for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert sum(a == json.loads(row)["label"] for a, row in zip(answered, rows, strict=True)) >= 15


def test_pictures_are_audited_with_canaries_of_noise(run):
    found, _ = run
    result = audit(found.folder)
    measured = found.read("evaluations/audit.json")
    assert result.exit_code == 0
    assert measured["canaries"]["bound"]["canaries"] == 40
    assert measured["membership"]["members"] > 100
    assert measured["extraction"] == []


@pytest.mark.parametrize("method", ["last", "norm", "lora"])
def test_other_methods_train_and_reopen(run, tmp_path, method):
    """Layers under the trained ones are frozen: whatever is done to spare them must not change what is learned."""
    found, _ = run
    place = found.folder.parent
    sets = (*SETS[:1], "train.max_steps=20", "evaluate.resamples=200", f"method={method}", "evaluate.baselines=[]")
    tune(Request(str(place / "rows.jsonl"), None, sets, (), tmp_path / "run", None, str(place / "model")))
    verified = Run.open(tmp_path / "run").must_read("info.json")["verified"]
    assert verified["reopened_equal"]
    assert verified["largest_change"] > 0
