"""Several processes: the same rows, the same noise, one writer; and whoever is gone is told."""

from __future__ import annotations

import os
import signal
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch

from tiny import save_tiny
from train.test_loop import make_job, new_run, quiet, timeless, weights
from train.test_private_loop import private_job
from tunewright.core.errors import Interrupted, UserError
from tunewright.core.plugins import build
from tunewright.models.contracts import Origin
from tunewright.train.engine import answered, follow, helped
from tunewright.train.loop import train
from tunewright.train.stopping import StopRequest

MAKERS = {"plain": make_job, "private": private_job}
PLAIN = {"valid": 4, "processes": 2, "early_stopping_patience": 0, "stored_gb": 0.0}
PRIVATE = {"processes": 2}


@cache
def _folder() -> Path:
    return save_tiny("qwen2", Path(tempfile.mkdtemp()))


def opened(kind, dtype=torch.float32):
    return build("families", "causal_lm").open(Origin("tiny", _folder(), "none"), dtype)


def helping(kind, settings, seat):
    answered(seat, lambda: follow(MAKERS[kind](opened, **settings), seat, lambda: 7))


def broken(kind, settings, seat):
    """A helper that knows other rows."""

    def work():
        job = MAKERS[kind](opened, **settings)
        follow(replace(job, train=job.train[:1]), seat, lambda: 7)

    answered(seat, work)


def refusing(kind, settings, seat):
    def work():
        raise UserError("the rows have changed")

    answered(seat, work)


def run_with(folder, kind, settings, stop=None, help_with=helping):
    job, run = MAKERS[kind](opened, **settings), folder if not isinstance(folder, Path) else new_run(folder)
    with helped(job, 2, help_with, kind, settings) as engine:
        train(job, run, quiet, stop or StopRequest(), engine)
    return job, run, engine


@pytest.fixture(scope="module", params=[("plain", PLAIN), ("private", PRIVATE)], ids=["plain", "private"])
def together(request, tmp_path_factory):
    """A run with a helper, uninterrupted."""
    torch.set_num_threads(1)
    return request.param, run_with(tmp_path_factory.mktemp("together") / "run", *request.param)


def test_two_processes_equal_one_but_for_the_order_of_sums(tmp_path, together):
    (kind, settings), (job, beside, engine) = together
    cut_alike = {"processes": 1, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}
    alone, run = MAKERS[kind](opened, **{**settings, **cut_alike}), new_run(tmp_path / "alone")
    start = weights(alone)
    train(alone, run, quiet, StopRequest())
    assert engine.peak_bytes == 7, "the helper said at its end what it held"
    assert len(run.events("step")) == len(beside.events("step")) == job.steps
    for one, two in zip(run.events("step"), beside.events("step"), strict=True):
        assert [row[0] for row in one["rows"]] == [row[0] for row in two["rows"]], "the same rows in the same order"
        if kind == "plain":
            assert two["loss_sum"] == pytest.approx(one["loss_sum"], rel=1e-5)
            assert two["tokens"] == one["tokens"]
    expected, found = weights(alone), weights(job)
    for name, want in expected.items():
        assert torch.allclose(found[name], want, rtol=1e-3, atol=2e-5), name
    assert max(float((want - start[name]).abs().max()) for name, want in expected.items()) > 0.01


class KillAt(StopRequest):
    """Kills the helper before a step, or asks to stop there."""

    def __init__(self, step, engine=None):
        self.left, self.engine = step, engine

    @property
    def requested(self):
        self.left -= 1
        if self.left == 0 and self.engine:
            os.kill(self.engine.helpers[0].process.pid, signal.SIGKILL)
        return self.left == 0 and not self.engine


def test_interrupted_with_helpers_equals_uninterrupted_bit_for_bit(tmp_path, together):
    (kind, settings), (job, straight, _) = together
    run = new_run(tmp_path / "torn")
    if kind == "private":
        with pytest.raises(Interrupted, match="resume"):
            run_with(run, kind, settings, KillAt(4))
    else:
        begun = MAKERS[kind](opened, **settings)
        with (
            pytest.raises(UserError, match=r"exit code -9.*resume"),
            helped(begun, 2, helping, kind, settings) as engine,
        ):
            train(begun, run, quiet, KillAt(3, engine), engine)
        assert len(run.events("step")) == 2
    again, _, _ = run_with(run, kind, settings)
    expected, found = weights(job), weights(again)
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert timeless(straight) == timeless(run)


def test_what_stops_a_helper_stops_the_run_in_its_words(tmp_path):
    with pytest.raises(UserError, match="the rows have changed"):
        run_with(tmp_path / "refused", "plain", PLAIN, help_with=refusing)
    with pytest.raises(RuntimeError, match="IndexError"):
        run_with(tmp_path / "broken", "plain", PLAIN, help_with=broken)


def test_a_loss_of_a_helpers_row_that_is_not_finite_names_the_row(tmp_path):
    settings = {**PLAIN, "method": {"name": "full"}, "learning_rate": 1e30, "max_grad_norm": 1e30}
    with pytest.raises(UserError, match=r"not finite.*r\d"):
        run_with(tmp_path / "run", "plain", settings)


def test_a_step_of_fewer_micro_batches_than_processes_leaves_the_others_idle(tmp_path):
    settings = {**PLAIN, "processes": 3, "per_device_train_batch_size": 2, "max_steps": 3}
    _, run, engine = run_with(tmp_path / "run", "plain", settings)
    assert len(engine.helpers) == 2
    assert len(run.events("step")) == 3
