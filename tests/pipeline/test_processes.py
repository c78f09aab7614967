"""`train.processes` through the command line: the same promises with workers as without."""

from __future__ import annotations

import json
import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest

from commands import Started, signal_after_steps, tunewright
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


def test_killed_with_a_worker_and_resumed_equals_uninterrupted(place, tmp_path):
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    dropout = (2, "--set", "method.lora_dropout=0.1")
    tunewright(*words(place, whole, *dropout), expect=0)
    assert signal_after_steps(words(place, torn, *dropout), torn, signal.SIGKILL, 9) == -signal.SIGKILL
    tunewright("resume", torn, expect=0)
    weights = [(run / "model" / "adapter_model.safetensors").read_bytes() for run in (whole, torn)]
    assert weights[0] == weights[1]
    assert events(whole) == events(torn)
    forecast = json.loads((whole / "forecast.json").read_text())
    assert forecast["actual"]["memory_bytes"] > 0.75 * forecast["forecast"]["memory_bytes"], "both are counted"


def test_a_private_run_with_workers_promises_the_same(place, tmp_path):
    promised = []
    for processes in (1, 2):
        run = tmp_path / f"run{processes}"
        tunewright(
            *words(place, run, processes, "--set", "privacy.target_epsilon=8", "--set", "privacy.unit=unit"),
            "--set", "train.max_steps=6", expect=0,
        )  # fmt: skip
        promised.append(json.loads((run / "privacy.json").read_text()))
    same = ("epsilon", "delta", "sigma", "q", "steps")
    assert [promised[0][name] for name in same] == [promised[1][name] for name in same]


def workers_of(run):
    """Processes whose command names the run folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            words = path.read_bytes().split(b"\0")
            found += [int(path.parent.name)] if str(run).encode() in words and b"shown" in words else []
    return found


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="processes are looked for under /proc")
def test_a_signal_to_the_group_stops_the_run_in_order_and_no_worker_is_left_by_a_kill(place, tmp_path):
    run = tmp_path / "run"
    begun = Started(words(place, run, 2, "--set", "train.num_train_epochs=50"), first=os.setpgrp)
    log = run / "events.jsonl"

    def stepping():
        return log.exists() and log.read_bytes().count(b'"type": "step"') >= 2

    assert begun.signal_when(stepping, signal.SIGTERM, group=True) == 130
    assert not workers_of(run)
    begun = Started(["resume", run])
    assert begun.signal_when(lambda: workers_of(run), signal.SIGKILL) == -signal.SIGKILL
    deadline = time.monotonic() + 120  # it imports for long before it can notice, on a busy machine
    while workers_of(run) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not workers_of(run), "a worker that got ready outlived the run"


def test_more_processes_than_a_step_has_rows_are_told(place, tmp_path):
    done = tunewright(*words(place, tmp_path / "run", 9), expect=2)
    assert "train.processes: found 9" in done.stderr
    assert "8 rows" in done.stderr
