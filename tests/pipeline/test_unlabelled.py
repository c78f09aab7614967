"""Rows without labels: nothing that needs labels is asked of them, and whoever asks for it is told before training."""

from __future__ import annotations

import json

import pytest

from tiny import save_tiny
from tunewright.core.config import Request
from tunewright.core.errors import UserError
from tunewright.pipeline.tune import tune

SETS = (
    "train.threads=1", "train.max_steps=3", "train.learning_rate=1e-3", "evaluate.probes=[]",
    "evaluate.generated_rows=0",
)  # fmt: skip
PRIVATE = ("privacy.target_epsilon=8", "privacy.unit=row")


@pytest.fixture
def asked(tmp_path):
    """A tune of conversations, with further settings."""
    turns = [
        [{"role": "user", "content": f"What is {n}?"}, {"role": "assistant", "content": f"It is number {n * 7}."}]
        for n in range(90)
    ]
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"messages": messages}) + "\n" for messages in turns))
    model = str(save_tiny("qwen2", tmp_path / "model"))
    return lambda *sets: Request(str(rows), None, (*SETS, *sets), (), tmp_path / "run", None, model)


def test_a_private_run_on_conversations_ends_in_a_verdict(asked, tmp_path):
    result = tune(asked(*PRIVATE))
    assert result.exit_code in (0, 3)
    verdict = json.loads((tmp_path / "run" / "verdict.json").read_text())
    assert verdict["metrics"]
    assert all(not metric["baselines"] for metric in verdict["metrics"])
    assert json.loads((tmp_path / "run" / "privacy.json").read_text())["epsilon"]["prv"] <= 8


@pytest.mark.parametrize("name", ["majority", "tfidf", "frozen_logit"])
def test_a_baseline_that_needs_labels_is_refused_before_training(asked, tmp_path, name):
    with pytest.raises(UserError, match=rf"evaluate.baselines: {name} answer by the labels.*Allowed here: scratch"):
        tune(asked(f"evaluate.baselines=[{name}]"))
    assert not (tmp_path / "run").exists()


def test_a_primary_metric_of_labels_is_refused_before_training_and_no_other_wants_trivial_answers(asked, tmp_path):
    with pytest.raises(UserError, match=r"evaluate\.primary: accuracy compares the labels of a closed set, and these"):
        tune(asked("evaluate.metrics=[accuracy, nll]", "evaluate.primary=accuracy"))
    assert not (tmp_path / "run" / "model").exists()
    tune(asked("evaluate.metrics=[nll, perplexity]", "evaluate.primary=perplexity"))
    (found,) = [m for m in json.loads((tmp_path / "run" / "verdict.json").read_text())["metrics"] if m["primary"]]
    assert (found["name"], found["baselines"]) == ("perplexity", {})
