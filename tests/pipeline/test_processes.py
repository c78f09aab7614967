"""`train.processes` through the command line: the same promises with helpers as without."""

from __future__ import annotations

import json
import signal

import pytest

from commands import signal_after_steps, tunewright
from pipeline.test_whole import FAST, events, write_rows
from tiny import save_tiny


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    save_tiny("qwen2", folder / "model")
    write_rows(folder / "rows.csv")
    return folder


def words(place, run, processes, *more):
    return ["train", place / "rows.csv", "--model", place / "model", "--out", run, *FAST, "--set", "save_steps=4",
            "--set", f"train.processes={processes}", *more]  # fmt: skip


def test_killed_with_a_helper_and_resumed_equals_uninterrupted(place, tmp_path):
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    dropout = (2, "--set", "method.lora_dropout=0.1")
    tunewright(*words(place, whole, *dropout), expect=0)
    assert signal_after_steps(words(place, torn, *dropout), torn, signal.SIGKILL, 9) == -signal.SIGKILL
    tunewright("resume", torn, expect=0)
    weights = [(run / "model" / "adapter_model.safetensors").read_bytes() for run in (whole, torn)]
    assert weights[0] == weights[1]
    assert events(whole) == events(torn)
    forecast = json.loads((whole / "forecast.json").read_text())
    assert forecast["actual"]["memory_bytes"] > 1.5 * forecast["forecast"]["memory_bytes"] / 2, "both are counted"
    assert not (whole / "stored").exists()


def test_a_private_run_with_helpers_promises_the_same_and_leaves_no_secret(place, tmp_path):
    promised = []
    for processes in (1, 2):
        run = tmp_path / f"run{processes}"
        tunewright(
            *words(place, run, processes, "--set", "privacy.target_epsilon=8", "--set", "privacy.unit=unit"),
            "--set", "train.max_steps=6", expect=0,
        )  # fmt: skip
        promised.append(json.loads((run / "privacy.json").read_text()))
        assert not list(run.glob("checkpoints/*/state.json"))
    same = ("epsilon", "delta", "sigma", "q", "steps")
    assert [promised[0][name] for name in same] == [promised[1][name] for name in same]


def test_more_processes_than_a_step_has_rows_are_told(place, tmp_path):
    done = tunewright(*words(place, tmp_path / "run", 9), expect=2)
    assert "train.processes: found 9" in done.stderr
    assert "8 rows" in done.stderr
