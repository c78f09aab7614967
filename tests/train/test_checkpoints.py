"""Which checkpoint a run goes on from, and what is said of the torn ones."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from tunewright.core.errors import UserError
from tunewright.runs import checkpoints
from tunewright.runs.checkpoints import Checkpoint


def written(folder, *, torn):
    for step in (2, 4, 6):
        path = folder / f"{step:04d}"
        checkpoints.write(path, Checkpoint(step, {"weight": torch.ones(2)}, {}, {}))
        if step in torn:
            (path / "manifest.json").write_text("{")


def test_a_torn_checkpoint_is_passed_over_for_an_earlier_one(tmp_path):
    written(tmp_path, torn=[6])
    found, sentences = checkpoints.last_good(tmp_path)
    assert found is not None
    assert found.step == 4
    [sentence] = sentences
    assert "0006 is torn" in sentence
    assert "passed over for an earlier one" in sentence


def test_when_no_checkpoint_is_whole_it_is_said_that_training_starts_again(tmp_path):
    written(tmp_path, torn=[2, 4, 6])
    found, sentences = checkpoints.last_good(tmp_path)
    assert found is None
    assert sentences[-1] == "No checkpoint is whole: training starts again at step 0."
    assert [f"000{step} is torn" in sentence for step, sentence in zip((6, 4, 2), sentences, strict=False)] == [
        True
    ] * 3
    assert "earlier" not in " ".join(sentences)


def test_a_run_without_checkpoints_is_no_matter(tmp_path):
    assert checkpoints.last_good(tmp_path) == (None, [])


class Killed(BaseException):
    """What a signal does to a process: nothing behind it runs."""


@pytest.mark.parametrize("survives", [0, 1])
def test_a_checkpoint_that_replaces_another_leaves_one_whole_at_every_moment(tmp_path, monkeypatch, survives):
    """Killed between any two renames, what is read is the old one or the new one."""
    place = tmp_path / "best"
    checkpoints.write(place, Checkpoint(1, {"weight": torch.ones(2)}, {}, {}))
    renamed = []

    def replace(source, target, real=os.replace):
        if len(renamed) == survives:
            raise Killed
        renamed.append(real(source, target))

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace)
        with pytest.raises(Killed):
            checkpoints.write(place, Checkpoint(2, {"weight": torch.zeros(2)}, {}, {}))
    found = checkpoints.read(place)
    assert found is not None
    assert found.step == 1
    checkpoints.write(place, Checkpoint(3, {"weight": torch.zeros(2)}, {}, {}))
    again = checkpoints.read(place)
    assert again is not None
    assert again.step == 3
    assert [path.name for path in tmp_path.iterdir()] == ["best"]


def test_torn_checkpoints_are_not_counted_among_those_kept(tmp_path):
    written(tmp_path, torn=[6])
    checkpoints.drop_after(tmp_path, 4)
    checkpoints.prune(tmp_path, 1)
    assert [path.name for path in checkpoints.numbered(tmp_path)] == ["0004"]


def test_a_disk_that_does_not_answer_is_no_torn_checkpoint(tmp_path, monkeypatch):
    written(tmp_path, torn=[])

    def fail(self):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "read_bytes", fail)
    with pytest.raises(UserError, match="cannot be read: Input/output error"):
        checkpoints.last_good(tmp_path)
    assert len(checkpoints.numbered(tmp_path)) == 3


def test_tensors_are_for_the_owner_alone_and_a_full_disk_is_known_through_the_library(tmp_path, monkeypatch):
    folder = tmp_path / "0001"
    checkpoints.write(folder, Checkpoint(1, {"w": torch.ones(3)}, {"w|step": torch.zeros(())}, {}))
    assert {path.stat().st_mode & 0o077 for path in folder.iterdir()} == {0}

    def full(*_):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(checkpoints, "save_file", full)
    with pytest.raises(UserError, match="the disk is full"):
        checkpoints.write(tmp_path / "0002", Checkpoint(2, {"w": torch.ones(3)}, {}, {}))
    assert [path.name for path in tmp_path.iterdir()] == ["0001"]
