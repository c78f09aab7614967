"""A private run: interrupted equals uninterrupted, and its events and files tell nothing of a row."""

from __future__ import annotations

import itertools
import json
import math
import stat
from dataclasses import replace

import numpy as np
import pytest
import torch

from train.test_loop import StopAfter, make_job, new_run, quiet, timeless, weights
from tunewright.core.errors import Interrupted, UserError
from tunewright.core.plugins import build
from tunewright.runs import checkpoints
from tunewright.train.loop import train
from tunewright.train.poisson import poisson
from tunewright.train.stopping import StopRequest


def private_job(open_tiny, sigma=0.8, q_rows=4, name="private", seed=7, **settings):
    job = make_job(open_tiny, valid=4, early_stopping_patience=0, stored_gb=0.0, **settings)
    sampler = poisson(job.train, q_rows, 4)
    fields = {"name": name, "sigma": sigma, "expected": sampler.expected_units, "noise_seed": seed}
    return replace(
        job, gradients=build("gradients", fields), sampler=sampler, model=replace(job.model, apart=True)
    )  # fmt: skip


@pytest.mark.parametrize("stop_at", [1, 5])
def test_interrupted_equals_uninterrupted_with_the_same_noise(open_tiny, tmp_path, stop_at):
    whole, run = private_job(open_tiny), new_run(tmp_path / "whole")
    train(whole, run, quiet, StopRequest())
    torn = new_run(tmp_path / "torn")
    with pytest.raises(Interrupted, match="resume"):
        train(private_job(open_tiny), torn, quiet, StopAfter(stop_at))
    fresh = private_job(open_tiny)
    train(fresh, torn, quiet, StopRequest())
    expected, found = weights(whole), weights(fresh)
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert timeless(run) == timeless(torn)


def test_the_time_of_all_steps_is_told_as_one_also_after_a_resume(open_tiny, tmp_path, monkeypatch):
    clock = itertools.count()
    monkeypatch.setattr("time.perf_counter", lambda: float(next(clock)))
    whole, torn = new_run(tmp_path / "whole"), new_run(tmp_path / "torn")
    train(private_job(open_tiny), whole, quiet, StopRequest())
    with pytest.raises(Interrupted):
        train(private_job(open_tiny), torn, quiet, StopAfter(3))
    train(private_job(open_tiny), torn, quiet, StopRequest())
    told, resumed = ([event["seconds"] for event in run.events("step")] for run in (whole, torn))
    assert told == resumed
    assert told[:-1] == [None] * (len(told) - 1)
    assert told[-1] > 0


def test_a_secret_of_the_operating_system_is_kept_from_the_first_step_for_the_owner_alone(open_tiny, tmp_path):
    results = []
    for name in ("one", "two"):
        run = new_run(tmp_path / name)
        with pytest.raises(Interrupted):
            train(private_job(open_tiny, seed=None), run, quiet, StopAfter(1))
        saved = [checkpoints.read(path) for path in checkpoints.numbered(run.checkpoints)]
        assert len({one.state["secret"] for one in saved}) == 1
        assert len(saved[0].state["secret"]) == 64
        for path in run.checkpoints.rglob("state.json"):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
        results.append(saved[0])
    assert results[0].state["secret"] != results[1].state["secret"]
    assert any(not torch.equal(results[0].trained[name], results[1].trained[name]) for name in results[0].trained)


def test_a_family_that_loses_whose_a_row_is_stops_the_run(open_tiny, tmp_path):
    job = private_job(open_tiny)
    rows = [replace(row, example=replace(row.example, unit=f"p{n // 2}")) for n, row in enumerate(job.train)]
    job = replace(job, train=rows, sampler=poisson(rows, 8, 4))
    train(job, new_run(tmp_path / "kept"), quiet, StopRequest())

    class Forgetful(type(job.model.family)):
        def collate(self, model, rows):
            batch = super().collate(model, rows)
            return replace(batch, segments=tuple(replace(segment, unit=None) for segment in batch.segments))

    lost = replace(job, model=replace(job.model, family=Forgetful()))
    with pytest.raises(UserError, match="does not keep whose a row is"):
        train(lost, new_run(tmp_path / "lost"), quiet, StopRequest())


def test_events_tell_nothing_of_rows_and_validation_steers_nothing(open_tiny, tmp_path):
    job, run = private_job(open_tiny), new_run(tmp_path / "run")
    told = []
    train(job, run, lambda *words: told.append(words), StopRequest())
    steps = run.events("step")
    assert len(steps) == job.steps
    for event in steps:
        assert {event[name] for name in ("loss_sum", "count", "grad_norm", "tokens")} == {None}
        assert event["rows"] == []
    assert run.events("validation") == []
    assert not (run.checkpoints / "best").exists()
    text = run.events_file.read_text() + json.dumps(told)
    assert not any(f'"r{number}"' in text for number in range(22))
    assert "loss " not in text


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_what_is_not_finite_names_nobody(open_tiny, tmp_path, monkeypatch, what):
    job = private_job(open_tiny)
    if what == "loss":
        kind, whole = type(job.objective), type(job.objective).loss

        def spoilt(*given):
            loss = whole(*given)
            return replace(loss, sum_S=loss.sum_S * math.nan)

        monkeypatch.setattr(kind, "loss", spoilt)
    else:
        monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda *_: torch.tensor(math.inf))
    with pytest.raises(UserError, match=f"The {what} of step .* is not finite") as told:
        train(job, new_run(tmp_path / "run"), quiet, StopRequest())
    assert not any(row.example.id in str(told.value).replace(",", " ").split() for row in job.train)
    assert "Rows" not in str(told.value)


def test_hidden_rows_are_told_nothing_of_without_privacy_either(open_tiny, tmp_path):
    """Those of a private run in its audit's control."""
    job, run, told = make_job(open_tiny, valid=4), new_run(tmp_path / "run"), []
    train(replace(job, hidden=True), run, lambda *words: told.append(words), StopRequest())
    steps = run.events("step")
    assert {event[name] for event in steps for name in ("loss_sum", "count", "grad_norm", "tokens")} == {None}
    assert not [event for event in steps if event["rows"]]
    assert run.events("validation") == []
    assert "loss " not in json.dumps(told)
    shown = make_job(open_tiny, valid=4)
    train(shown, new_run(tmp_path / "shown"), quiet, StopRequest())
    expected, found = weights(shown), weights(job)
    assert all(torch.equal(expected[name], found[name]) for name in expected), "what is told changes what is trained"


def test_more_noise_than_was_begun_with_is_refused(open_tiny, tmp_path):
    run = new_run(tmp_path / "run")
    with pytest.raises(Interrupted):
        train(private_job(open_tiny), run, quiet, StopAfter(2))
    with pytest.raises(UserError, match="another noise"):
        train(private_job(open_tiny, sigma=0.5), run, quiet, StopRequest())


def test_a_step_without_units_is_noise_alone(open_tiny, tmp_path):
    job = private_job(open_tiny, sigma=1.0, max_steps=1)
    job = replace(job, sampler=replace(job.sampler, q=1e-9))
    before = weights(job)
    train(job, new_run(tmp_path / "run"), quiet, StopRequest())
    assert all(not torch.equal(before[name], value) for name, value in weights(job).items())


@pytest.mark.parametrize("micro", [1, 3])
def test_micro_batches_of_any_size_give_the_same_step(open_tiny, tmp_path, micro):
    found = []
    for size in (22, micro):
        job = private_job(open_tiny, sigma=0.0, q_rows=9, max_steps=1, per_device_train_batch_size=size)
        train(job, new_run(tmp_path / f"size{size}"), quiet, StopRequest())
        found.append(weights(job))
    for name, value in found[0].items():
        assert torch.allclose(found[1][name], value, atol=1e-4), name


def test_units_are_looked_up_once_a_run(open_tiny, tmp_path, monkeypatch):
    split, calls = np.split, []
    monkeypatch.setattr("tunewright.train.poisson.np.split", lambda *words: (calls.append(1), split(*words))[1])
    job = private_job(open_tiny, max_steps=5)
    calls.clear()
    train(job, new_run(tmp_path / "run"), quiet, StopRequest())
    assert len(calls) <= 1
