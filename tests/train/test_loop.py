"""The loop: sums not means, interrupted equals uninterrupted, and it stops before it spoils anything."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from tunewright.core.errors import Interrupted, UserError
from tunewright.core.plugins import build
from tunewright.core.records import Answer, Example, Turn, text_part
from tunewright.core.settings import TrainSettings
from tunewright.core.store import Run
from tunewright.models.contracts import EncodeSettings
from tunewright.runs import checkpoints
from tunewright.train import share
from tunewright.train.job import Job
from tunewright.train.loop import train
from tunewright.train.optimiser import Optimiser
from tunewright.train.order import MICRO_TOKENS, Order
from tunewright.train.schedule import Schedule
from tunewright.train.stopping import Best, StopRequest

METHODS = [
    {"name": "lora", "r": 4, "lora_dropout": 0.1},
    {"name": "full"},
    {"name": "norm"},
    {"name": "last", "layers": 1},
]


def quiet(what, done, total, detail=""):
    pass


def make_job(open_tiny, method=None, dtype=torch.float32, valid=0, kind="qwen2", answers=1, **settings):
    model = open_tiny(kind, dtype)
    encoder = model.family.encoder(model, EncodeSettings())
    rows = []
    for number in range(22):
        prompt = number // answers
        asked = Turn("user", (text_part(f"item {prompt} {'bread ' * (prompt % 5)}"),))
        answer = Answer((text_part("warm" if number % 2 else "positive or neutral"),))
        rows += encoder.encode(Example((asked,), (answer,), id=f"r{number}"))
    method = build("methods", method or {"name": "lora", "r": 4})
    shape = {"learning_rate": 1e-2, "num_train_epochs": 2, "per_device_train_batch_size": 4, "save_steps": 3}
    return Job(
        method.attach(model, 0), method, build("objectives", "next_token"), build("gradients", "plain"),
        tuple(rows[valid:]), tuple(rows[:valid]), TrainSettings(**{**shape, **settings}), 0,
    )  # fmt: skip


def new_run(folder):
    folder.mkdir()
    return Run(folder)


def weights(job):
    return {name: value.detach().clone() for name, value in job.method.trained(job.model).items()}


def timeless(run):
    return [{k: v for k, v in event.items() if k != "seconds"} for event in run.events()]


class StopAfter(StopRequest):
    """Asks to stop when the loop has looked `steps` times."""

    def __init__(self, steps):
        self.left = steps

    @property
    def requested(self):
        self.left -= 1
        return self.left < 0


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m["name"])
@pytest.mark.parametrize(("stop_at", "answers"), [(1, 1), (5, 1), (5, 2)])
def test_interrupted_equals_uninterrupted_bit_for_bit(open_tiny, tmp_path, method, stop_at, answers):
    whole, run = make_job(open_tiny, method, valid=4, answers=answers), new_run(tmp_path / "whole")
    train(whole, run, quiet, StopRequest())
    again, torn = make_job(open_tiny, method, valid=4, answers=answers), new_run(tmp_path / "torn")
    with pytest.raises(Interrupted, match="resume"):
        train(again, torn, quiet, StopAfter(stop_at))
    torn.append({"type": "step", "step": 99})  # written after the checkpoint, lost with the process
    fresh = make_job(open_tiny, method, valid=4, answers=answers)
    train(fresh, torn, quiet, StopRequest())
    expected, found = weights(whole), weights(fresh)
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert timeless(run) == timeless(torn)


@pytest.mark.parametrize("answers", [1, 2, 3])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_accumulation_8x1_equals_1x8(open_tiny, tmp_path, dtype, tolerance, answers):
    results = []
    for name, size, steps in (("one", 8, 1), ("eight", 1, 8)):
        job = make_job(
            open_tiny, {"name": "full"}, kind="gpt2", answers=answers, per_device_train_batch_size=size,
            gradient_accumulation_steps=steps, max_steps=1, max_grad_norm=1e9,
        )  # fmt: skip
        job.model.module.to(dtype)
        gradients = {}

        def keep(parameters, limit, gradients=gradients, job=job):
            for key, value in job.method.trained(job.model).items():
                gradients[key] = value.grad.clone()
            return torch.tensor(1.0)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.nn.utils, "clip_grad_norm_", keep)
            train(job, new_run(tmp_path / f"{name}{dtype}"), quiet, StopRequest())
        results.append(gradients)
    for key, gradient in results[0].items():
        assert (results[1][key] - gradient).abs().max() <= tolerance * gradient.abs().max(), key


@pytest.mark.parametrize("answers", [1, 2])
def test_a_step_averages_over_its_tokens_not_over_its_rows(open_tiny, tmp_path, answers):
    job, run = make_job(open_tiny, answers=answers), new_run(tmp_path / "run")
    train(job, run, quiet, StopRequest())
    by_id = {row.example.id: row for row in job.train}
    for event in run.events("step"):
        assert event["count"] == sum(len(by_id[name].targets) for name, *_ in event["rows"])
        assert event["loss_sum"] == pytest.approx(sum(total for _, total, _ in event["rows"]))
        assert event["tokens"] == sum(by_id[name].length for name, *_ in event["rows"])


@pytest.mark.parametrize("fault", ["cut", "flip", "missing", "empty", "null", "[1]"])
def test_a_torn_checkpoint_falls_back_to_the_last_good_one(open_tiny, tmp_path, fault, caplog):
    whole, expected = make_job(open_tiny), new_run(tmp_path / "whole")
    train(whole, expected, quiet, StopRequest())
    job, run = make_job(open_tiny), new_run(tmp_path / "run")
    with pytest.raises(Interrupted):
        train(job, run, quiet, StopAfter(7))
    newest, older = checkpoints.numbered(run.checkpoints)[:2]
    target = newest / "trained.safetensors"
    match fault:
        case "cut":
            target.write_bytes(target.read_bytes()[:100])
        case "flip":
            content = bytearray(target.read_bytes())
            content[-3] ^= 1
            target.write_bytes(bytes(content))
        case "missing":
            target.unlink()
        case "empty":
            (newest / "manifest.json").write_text("")
        case manifest:
            (newest / "manifest.json").write_text(manifest)
    found, sentences = checkpoints.last_good(run.checkpoints)
    assert found is not None
    assert found.step == int(older.name)
    assert newest.name in sentences[0]
    fresh = make_job(open_tiny)
    train(fresh, run, quiet, StopRequest())
    assert "torn" in (run.folder / "notes.txt").read_text()
    assert all(torch.equal(a, b) for a, b in zip(weights(whole).values(), weights(fresh).values(), strict=True))
    assert timeless(run) == timeless(expected)


def test_what_training_reads_may_not_change_between_two_processes(open_tiny, tmp_path):
    """A row that a mitigation added, and coordinates that public rows chose: neither is in the data set's own hash."""
    method = {"name": "sparse", "policy": "random", "share": 0.05}
    job, run = make_job(open_tiny, method), new_run(tmp_path / "run")
    woven = replace(job, woven_by=("safety_mix",) * 2)
    with pytest.raises(Interrupted):
        train(woven, run, quiet, StopAfter(4))
    last = woven.train[-1]
    other = replace(last, targets=last.targets[::-1].copy())
    with pytest.raises(UserError, match="has changed since the checkpoint of step 4"):
        train(replace(woven, train=(*woven.train[:-1], other)), run, quiet, StopRequest())
    chosen = replace(make_job(open_tiny, {**method, "policy": "magnitude"}), woven_by=woven.woven_by)
    with pytest.raises(UserError, match="coordinates were chosen"):
        train(chosen, run, quiet, StopRequest())
    train(replace(make_job(open_tiny, method), woven_by=woven.woven_by), run, quiet, StopRequest())


def test_a_second_signal_in_the_middle_of_a_step_keeps_no_weights_that_are_half_taken(open_tiny, tmp_path, monkeypatch):
    whole, run = make_job(open_tiny), new_run(tmp_path / "whole")
    train(whole, run, quiet, StopRequest())
    job, torn = make_job(open_tiny), new_run(tmp_path / "torn")
    original, taken = Optimiser.step, []

    def interrupted(self, rate):
        original(self, rate)
        taken.append(rate)
        if len(taken) == 5:
            raise Interrupted("Stopped at the second signal.")

    monkeypatch.setattr(Optimiser, "step", interrupted)
    with pytest.raises(Interrupted):
        train(job, torn, quiet, StopRequest())
    monkeypatch.undo()
    assert [path.name for path in checkpoints.numbered(torn.checkpoints)] == ["0003"]
    again = make_job(open_tiny)
    train(again, torn, quiet, StopRequest())
    assert timeless(run) == timeless(torn)
    assert all(torch.equal(a, b) for a, b in zip(weights(whole).values(), weights(again).values(), strict=True))


@pytest.mark.parametrize(
    "changes",
    [{"learning_rate": 2e-2}, {"num_train_epochs": 3}, {"per_device_train_batch_size": 2}],
)
def test_how_training_goes_may_not_change_between_two_processes(open_tiny, tmp_path, changes):
    job, run = make_job(open_tiny), new_run(tmp_path / "run")
    with pytest.raises(Interrupted):
        train(job, run, quiet, StopAfter(4))
    with pytest.raises(UserError, match="says to train otherwise than up to the checkpoint of step 4"):
        train(make_job(open_tiny, **changes), run, quiet, StopRequest())
    with pytest.raises(UserError, match="says to train otherwise"):
        train(make_job(open_tiny, {"name": "lora", "r": 4, "lora_alpha": 8}), run, quiet, StopRequest())
    with pytest.raises(UserError, match="says to train otherwise"):
        train(replace(make_job(open_tiny), seed=1), run, quiet, StopRequest())
    may_differ = {"save_steps": 2, "save_total_limit": 1, "threads": 1, "precision": "float32", "stored_gb": 0.0}
    train(make_job(open_tiny, **may_differ), run, quiet, StopRequest())


def test_best_weights_of_steps_that_were_taken_back_are_not_those_of_the_run(open_tiny, tmp_path):
    job, run = make_job(open_tiny, valid=4), new_run(tmp_path / "run")
    with pytest.raises(Interrupted):
        train(job, run, quiet, StopAfter(job.steps))
    best = checkpoints.read(run.checkpoints / "best")
    checkpoints.write(run.checkpoints / "best", replace(best, step=best.step + 100))
    again = make_job(open_tiny, valid=4)
    ended = train(again, run, quiet, StopRequest())
    assert ended["best_step"] == again.steps
    assert all(torch.equal(a, b) for a, b in zip(weights(job).values(), weights(again).values(), strict=True))
    assert f"holds the weights of step {best.step + 100}" in (run.folder / "notes.txt").read_text()


def test_what_a_kill_left_of_a_checkpoint_is_removed(open_tiny, tmp_path):
    job, run = make_job(open_tiny), new_run(tmp_path / "run")
    with pytest.raises(Interrupted):
        train(job, run, quiet, StopAfter(4))
    (run.checkpoints / ".0037.tmp").mkdir()
    train(make_job(open_tiny), run, quiet, StopRequest())
    assert not list(run.checkpoints.glob(".*"))


def test_a_run_whose_checkpoints_are_all_torn_keeps_those_that_it_writes_anew(open_tiny, tmp_path):
    job, run = make_job(open_tiny, save_total_limit=1), new_run(tmp_path / "run")
    with pytest.raises(Interrupted):
        train(job, run, quiet, StopAfter(7))
    for path in checkpoints.numbered(run.checkpoints):
        (path / "manifest.json").write_text("{")
    with pytest.raises(Interrupted):
        train(make_job(open_tiny, save_total_limit=1), run, quiet, StopAfter(4))
    found, _ = checkpoints.last_good(run.checkpoints)
    assert found is not None
    assert found.step == 4


def test_a_signal_in_the_last_step_stops_before_what_would_come_after_it(open_tiny, tmp_path):
    whole, run = make_job(open_tiny), new_run(tmp_path / "whole")
    train(whole, run, quiet, StopRequest())
    job, stopped = make_job(open_tiny), new_run(tmp_path / "stopped")
    with pytest.raises(Interrupted, match=f"after step {job.steps}"):
        train(job, stopped, quiet, StopAfter(job.steps))
    again = make_job(open_tiny)
    train(again, stopped, quiet, StopRequest())
    assert timeless(run) == timeless(stopped)
    assert all(torch.equal(a, b) for a, b in zip(weights(whole).values(), weights(again).values(), strict=True))


def test_a_checkpoint_that_is_whole_is_not_written_again(open_tiny, tmp_path, monkeypatch):
    """Asked to stop in a step that saves: what is written is not taken away for as long as it is written anew."""
    job, run = make_job(open_tiny), new_run(tmp_path / "run")
    original, written = checkpoints.write, []

    def write(folder, checkpoint):
        written.append(checkpoint.step)
        original(folder, checkpoint)

    monkeypatch.setattr(checkpoints, "write", write)
    with pytest.raises(Interrupted):
        train(job, run, quiet, StopAfter(3))
    with pytest.raises(Interrupted):
        train(make_job(open_tiny), run, quiet, StopAfter(0))
    assert written == [3]


def test_a_full_disk_keeps_earlier_checkpoints_and_says_so(open_tiny, tmp_path, monkeypatch):
    job, run = make_job(open_tiny), new_run(tmp_path / "run")
    original = checkpoints._put
    written = []

    def full(path, content):
        written.append(path)
        if "0006" in str(path):
            raise OSError(28, "No space left on device")
        original(path, content)

    monkeypatch.setattr(checkpoints, "_put", full)
    with pytest.raises(UserError, match=r"disk is full.*resume"):
        train(job, run, quiet, StopRequest())
    assert [path.name for path in checkpoints.numbered(run.checkpoints)] == ["0003"]
    assert checkpoints.read(run.checkpoints / "0003") is not None
    assert not list(run.checkpoints.glob(".*"))


def test_a_loss_that_is_not_finite_stops_before_the_step_and_names_the_rows(open_tiny, tmp_path):
    job, run = make_job(open_tiny), new_run(tmp_path / "run")
    poisoned = job.order.step(2)[1]
    bad = job.train[poisoned]
    rows = list(job.train)
    rows[poisoned] = replace(bad, weights=bad.weights * float("inf"))
    broken = replace(job, train=tuple(rows))
    with pytest.raises(UserError, match=bad.example.id) as error:
        train(broken, run, quiet, StopRequest())
    assert "step 3" in str(error.value)
    kept = checkpoints.last_good(run.checkpoints)[0]
    assert kept is not None
    assert kept.step == 2
    assert all(bool(value.isfinite().all()) for value in kept.trained.values())
    assert len(run.events("step")) == 2


def test_early_stopping_keeps_the_best_weights(open_tiny, tmp_path):
    job = make_job(open_tiny, valid=6, learning_rate=0.3, num_train_epochs=30, eval_steps=2, early_stopping_patience=2)
    run = new_run(tmp_path / "run")
    ended = train(job, run, quiet, StopRequest())
    losses = {event["step"]: event["loss"] for event in run.events("validation")}
    assert ended["reason"] == "early_stopping"
    assert ended["step"] < job.steps
    assert losses[ended["best_step"]] == min(losses.values())
    best = checkpoints.read(run.checkpoints / "best")
    assert best is not None
    assert all(torch.equal(best.trained[name], value) for name, value in weights(job).items())


def test_memory_that_lies_free_is_given_back_every_eighth_step(open_tiny, tmp_path, monkeypatch):
    run, given_back = new_run(tmp_path / "run"), []
    monkeypatch.setattr(share, "release_memory", lambda: given_back.append(len(list(run.events("step")))))
    train(make_job(open_tiny, max_steps=17), run, quiet, StopRequest())
    assert given_back == [7, 15]


def test_only_the_newest_checkpoints_are_kept(open_tiny, tmp_path):
    job, run = make_job(open_tiny, save_steps=1, save_total_limit=2), new_run(tmp_path / "run")
    train(job, run, quiet, StopRequest())
    assert [path.name for path in checkpoints.numbered(run.checkpoints)] == ["0012", "0011"]
    state = json.loads((run.checkpoints / "0012" / "state.json").read_text())
    assert state["step"] == 12


def test_order_is_a_permutation_every_epoch_and_depends_on_nothing_else():
    order = Order(rows=11, rows_a_step=4, seed=3)
    first = [row for k in range(3) for row in order.step(k)]
    second = [row for k in range(3, 6) for row in order.step(k)]
    assert sorted(first) == sorted(second) == list(range(11))
    assert first != second
    assert order.step(4) == Order(rows=11, rows_a_step=4, seed=3).step(4)
    assert order.step(0) != Order(rows=11, rows_a_step=4, seed=4).step(0)
    assert [row for part in order.micro_batches(0, 3) for row in part] == order.step(0)


@pytest.mark.parametrize("kind", ["cosine", "linear", "constant"])
def test_schedule_warms_up_then_falls(kind):
    rates = [Schedule(kind, 1.0, 4, 20).at(step) for step in range(20)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert all(a >= b for a, b in pairwise(rates[3:]))
    assert Schedule(kind, 1.0, 4, 20).at(12) == pytest.approx(1.0 if kind == "constant" else 0.5)
    assert rates[-1] == 1.0 if kind == "constant" else rates[-1] < 0.1


def test_best_counts_validations_without_gain():
    best = Best().after(2.0, 1).after(1.0, 2).after(1.5, 3).after(1.0, 4)
    assert (best.loss, best.step, best.since) == (1.0, 2, 2)
    assert Best.from_json(best.to_json()) == best
    assert Best.from_json(Best().to_json()) == Best()


@pytest.mark.parametrize(
    ("method", "dtype", "number_bytes"),
    [
        ({"name": "lora"}, torch.float32, 4),
        ({"name": "lora"}, torch.bfloat16, 2),
        ({"name": "full"}, torch.float32, 4),
        ({"name": "lora", "lora_dropout": 0.1}, torch.bfloat16, 4),  # PEFT's own, which keeps inputs in float32
    ],
)  # fmt: skip
def test_a_micro_batch_holds_twice_the_tokens_where_each_takes_half_the_memory(open_tiny, method, dtype, number_bytes):
    job = make_job(open_tiny, method, dtype=dtype)
    assert job.number_bytes == number_bytes
    assert job.order.micro_tokens == MICRO_TOKENS * 4 // number_bytes
    private = replace(job, gradients=build("gradients", {"name": "private", "sigma": 1.0, "expected": 1.0}))
    assert private.number_bytes == 4
