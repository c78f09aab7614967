"""Several processes: the same rows, the same noise, one writer; and whoever is gone is told."""

from __future__ import annotations

import json
import os
import signal
import sys
import time

import pytest
import torch

from tiny import save_tiny
from train.lend import job_in
from train.test_loop import new_run, quiet, timeless, weights
from tunewright.core.errors import Interrupted, UserError
from tunewright.core.store import Run
from tunewright.train.engine import together
from tunewright.train.loop import train
from tunewright.train.stopping import StopRequest

SETTINGS = {
    "plain": {"valid": 4, "processes": 2, "early_stopping_patience": 0, "stored_gb": 0.0},
    "private": {"processes": 2},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(save_tiny("qwen2", tmp_path_factory.mktemp("qwen2")))


def command(model, kind, settings, how="the same"):
    start = f"import sys; sys.path[:0] = {[path for path in sys.path if path]!r}; from train.lend import main; main()"
    return [sys.executable, "-c", start, how, model, kind, json.dumps(settings)]


def run_with(model, run, kind, stop=None, how="the same", **more):
    """Trains with workers; `stop` is given the engine."""
    settings = {**SETTINGS[kind], **more}
    job, run = job_in(model, kind, settings), run if isinstance(run, Run) else new_run(run)
    with together(job, 2, command(model, kind, settings, how)) as engine:
        train(job, run, quiet, stop(engine) if stop else StopRequest(), engine)
    return job, run, engine


@pytest.fixture(scope="module", params=["plain", "private"])
def joint(request, model, tmp_path_factory):
    """A run with a worker, uninterrupted."""
    torch.set_num_threads(1)
    return request.param, run_with(model, tmp_path_factory.mktemp("together") / "run", request.param)


def test_two_processes_equal_one_but_for_the_order_of_sums(tmp_path, model, joint):
    kind, (job, beside, engine) = joint
    cut_alike = {"processes": 1, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}
    alone, run = job_in(model, kind, {**SETTINGS[kind], **cut_alike}), new_run(tmp_path / "alone")
    start = weights(alone)
    train(alone, run, quiet, StopRequest())
    assert engine.peak_bytes == 7, "the worker said at its end what it held"
    assert len(run.events("step")) == len(beside.events("step")) == job.steps
    if kind == "plain":
        for one, two in zip(run.events("step"), beside.events("step"), strict=True):
            assert [row[0] for row in one["rows"]] == [row[0] for row in two["rows"]], "the same rows in the same order"
            assert two["loss_sum"] == pytest.approx(one["loss_sum"], rel=1e-5)
            assert two["tokens"] == one["tokens"]
    expected, found = weights(alone), weights(job)
    for name, want in expected.items():
        assert torch.allclose(found[name], want, rtol=1e-3, atol=2e-5), name
    assert max(float((want - start[name]).abs().max()) for name, want in expected.items()) > 0.01


class When(StopRequest):
    """Acts once something is so, and from then on asks to stop if that gave true."""

    def __init__(self, ready, act):
        self.ready, self.act, self.asked = ready, act, False

    @property
    def requested(self):
        if self.act and self.ready():
            act, self.act = self.act, None
            self.asked = bool(act())
        return self.asked


def test_interrupted_with_workers_equals_uninterrupted_bit_for_bit(tmp_path, model, joint):
    kind, (job, straight, _) = joint
    run = new_run(tmp_path / "torn")
    if kind == "private":
        with pytest.raises(Interrupted, match="resume"):
            run_with(model, run, kind, lambda engine: When(lambda: len(run.events("step")) == 3, lambda: True))
    else:

        def killing(engine):
            worker = engine.workers
            return When(lambda: len(run.events("step")) == 2, lambda: os.kill(worker[0].process.pid, signal.SIGKILL))

        with pytest.raises(UserError, match=r"exit code -9.*resume"):
            run_with(model, run, kind, killing)
        assert len(run.events("step")) == 2
    again, _, _ = run_with(model, run, kind)
    expected, found = weights(job), weights(again)
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert timeless(straight) == timeless(run)


@pytest.mark.parametrize(
    ("how", "error", "said"),
    [
        ("refuses", UserError, "the rows have changed"),
        ("fails", RuntimeError, "^LookupError: of ours"),
        ("has no disk", OSError, "No space left.*rows.jsonl"),
        ("knows other rows", UserError, "other rows or chose other weights"),
    ],
)
def test_what_stops_a_worker_stops_the_run_in_its_words(tmp_path, model, how, error, said):
    run = new_run(tmp_path / "run")
    with pytest.raises(error, match=said):
        run_with(model, run, "plain", how=how)
    assert not run.events("step")


def test_a_stop_while_workers_get_ready_is_acted_on_and_ends_them(tmp_path, model):
    started, pids = time.monotonic(), []

    def at_once(engine):
        return When(lambda: True, lambda: pids.extend(worker.process.pid for worker in engine.workers) or True)

    with pytest.raises(Interrupted, match="resume"):
        run_with(model, tmp_path / "run", "plain", at_once, how="never comes")
    assert time.monotonic() - started < 60, "not after the ten minutes that it takes to come"
    assert len(pids) == 1
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)


def test_a_loss_of_a_workers_row_that_is_not_finite_names_the_row(tmp_path, model):
    wild = {"method": {"name": "full"}, "learning_rate": 1e30, "max_grad_norm": 1e30}
    with pytest.raises(UserError, match=r"not finite.*r\d"):
        run_with(model, tmp_path / "run", "plain", **wild)


def test_a_step_of_fewer_micro_batches_than_processes_leaves_the_others_idle(tmp_path, model):
    few = {"processes": 3, "per_device_train_batch_size": 2, "max_steps": 3}
    _, run, engine = run_with(model, tmp_path / "run", "plain", **few)
    assert len(engine.workers) == 2
    assert len(run.events("step")) == 3
