"""What frozen layers make of rows is computed once, and nothing else changes."""

from __future__ import annotations

from dataclasses import replace
from operator import attrgetter

import pytest
import torch
from safetensors.torch import load_file, save_file

from tiny import KINDS
from tunewright.core.batches import batches
from tunewright.core.errors import Interrupted, UserError
from tunewright.core.records import Answer, Example, Turn, text_part
from tunewright.models import stored
from tunewright.models.activations import frozen_below, passed_over, states_after
from tunewright.models.contracts import EncodeSettings
from tunewright.models.stored import Stored, weights_key, within
from tunewright.pipeline import forecast
from tunewright.train.below import Below, fault, passable
from tunewright.train.loop import train
from tunewright.train.stopping import StopRequest

from .test_loop import StopAfter, make_job, new_run, quiet, timeless, weights

LAST = {"name": "last", "layers": 1}
FLOOR = {"gemma3": 1e-6}
"""Gemma's norms compute in float32 whatever the model's dtype."""


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(stored, "_CHUNK_POSITIONS", 100)


def layers_computed(job):
    """Counts the positions that go through the lowest layer from now on."""
    seen = []
    layer = frozen_below(job.model, job.method.trained(job.model).values())[0]
    attention = next(part for name, part in layer.named_children() if "attn" in name)
    attention.register_forward_hook(lambda module, args, output: seen.append(output[0].shape[1]))
    return seen


def layers_of(job):
    return passable(job)


def opened(job, folder, rows=None):
    below = Below.of(job.model, layers_of(job), folder / "stored")
    kept = list(job.train) if rows is None else rows
    below.fill(kept, len(kept), quiet, StopRequest())
    return below


def loss_and_gradients(job, rows, below=None):
    job.model.module.zero_grad()
    batch = job.model.family.collate(job.model, rows)
    if below is None:
        loss = job.objective.loss(job.model, batch, 0).sum_S.sum()
    else:
        with below.entered(batch, rows):
            loss = job.objective.loss(job.model, batch, 0).sum_S.sum()
    loss.backward()
    return float(loss.detach()), {n: w.grad.clone() for n, w in job.method.trained(job.model).items()}


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("kept", [22, 5], ids=["all rows", "some rows"])
def test_loss_and_gradients_are_those_of_the_whole_model(open_tiny, tmp_path, kind, dtype, tolerance, kept):
    job = make_job(open_tiny, LAST, kind=kind)
    job.model.module.to(dtype)
    below = opened(job, tmp_path, list(job.train[:kept]))
    assert fault(job.model, below.layers, job.objective, job.train[:2]) == ""
    allowed = max(tolerance, FLOOR.get(kind, 0))
    for rows in (job.train[3:9], job.train[4:5]):
        plain, expected = loss_and_gradients(job, rows)
        loss, found = loss_and_gradients(job, rows, below)
        assert loss == pytest.approx(plain, rel=tolerance)
        for name, gradient in expected.items():
            scale = gradient.abs().max().clamp_min(1e-12)
            assert (found[name] - gradient).abs().max() / scale < allowed, name


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_rows_that_begin_alike_take_their_shared_states_too(open_tiny, tmp_path, dtype, tolerance):
    job = make_job(open_tiny, LAST, kind="gpt2")
    job.model.module.to(dtype)
    encoder = job.model.family.encoder(job.model, EncodeSettings(loss_on="all"))
    rows = []
    for number, asked in enumerate(["bread", "bread", "a nurse", "a nurse by the bridge in the market"]):
        turn = Turn("user", (text_part(f"Answer with one label: positive, negative or neutral. {asked}"),))
        rows += encoder.encode(Example((turn,), (Answer((text_part("warm" * (1 + number)),)),), id=str(number)))
    below = opened(job, tmp_path, rows)
    assert len(job.model.family.collate(job.model, rows).shared) > 1, "a tree"
    for batch in (rows, rows[::-1], rows[1:3]):
        plain, expected = loss_and_gradients(job, batch)
        loss, found = loss_and_gradients(job, batch, below)
        assert loss == pytest.approx(plain, rel=tolerance)
        for name, gradient in expected.items():
            assert (found[name] - gradient).abs().max() <= tolerance * gradient.abs().max(), name


def test_layers_are_as_before_once_the_batch_is_done(open_tiny, tmp_path):
    job = make_job(open_tiny, LAST)
    rows = job.train[:4]
    before = loss_and_gradients(job, rows)[0]
    below = opened(job, tmp_path)
    loss_and_gradients(job, rows, below)
    assert not any("forward" in vars(layer) for layer in below.layers)
    assert loss_and_gradients(job, rows)[0] == before


@pytest.mark.parametrize(
    ("method", "depth"),
    [
        ({"name": "last", "layers": 1}, 2),
        ({"name": "last", "layers": 2}, 1),
        ({"name": "last", "layers": 3}, 0),
        ({"name": "lora", "r": 2}, 0),
        ({"name": "lora", "r": 2, "target_modules": ["model.layers.2.mlp.up_proj"]}, 2),
        ({"name": "norm"}, 0),
        ({"name": "full"}, 0),
    ],
    ids=str,
)
def test_what_lies_below_follows_from_which_weights_train(open_tiny, method, depth):
    job = make_job(open_tiny, method)
    assert len(frozen_below(job.model, job.method.trained(job.model).values())) == depth


def test_a_trained_weight_that_the_bottom_shares_leaves_nothing_below(open_tiny):
    job = make_job(open_tiny, LAST)
    head = job.model.module.get_output_embeddings().weight  # tied to the input embeddings
    assert frozen_below(job.model, [*job.method.trained(job.model).values(), head]) == ()


@pytest.mark.parametrize("kind", ["qwen2", "mamba"])
def test_frozen_layers_compute_each_row_once_whatever_the_number_of_epochs(open_tiny, tmp_path, kind):
    job, run = make_job(open_tiny, LAST, valid=4, num_train_epochs=3, eval_steps=2), new_run(tmp_path / "run")
    seen = layers_computed(job)
    train(job, run, quiet, StopRequest())
    few = sum(row.length for row in job.train[:2])
    assert sum(seen) <= sum(row.length for row in (*job.train, *job.valid)) + 5 * few, "the probe may look at few rows"
    (event,) = run.events("stored")
    assert event["tokens"] == sum(row.length for row in within((*job.train, *job.valid), 1, 1e9))
    assert not run.stored.exists()


def test_training_with_stored_activations_equals_training_without(open_tiny, tmp_path):
    results = []
    for name, gigabytes in (("with", 2.0), ("without", 0.0)):
        job = make_job(open_tiny, LAST, valid=4, num_train_epochs=3, stored_gb=gigabytes)
        run = new_run(tmp_path / name)
        train(job, run, quiet, StopRequest())
        results.append((weights(job), [event["loss_sum"] for event in run.events("step")]))
        assert len(run.events("stored")) == (gigabytes > 0)
    (kept, losses), (computed, expected) = results
    assert losses == pytest.approx(expected, rel=1e-5)
    for name, weight in computed.items():
        assert torch.allclose(kept[name], weight, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("gigabytes", [2.0, 2e-5, 0.0], ids=["all rows", "some rows", "none"])
def test_the_forecast_counts_what_is_computed_and_kept(open_tiny, tmp_path, gigabytes):
    job = make_job(open_tiny, LAST, valid=4, num_train_epochs=3, eval_steps=2, stored_gb=gigabytes)
    foretold = forecast._Stored.of(job, layers_of(job))
    run = new_run(tmp_path / "run")
    train(job, run, quiet, StopRequest())
    every = 3 * sum(row.length for row in job.train) + job.validations * sum(row.length for row in job.valid)
    kept = sum(event["tokens"] for event in run.events("stored"))
    assert foretold.bytes == kept * 32 * 4
    assert (foretold.tokens_below == every) == (kept == 0)
    assert every >= foretold.tokens_below >= every - kept * (job.validations - 1)


@pytest.mark.parametrize("epochs", [1, 2])
def test_one_pass_stores_only_what_validations_read_again(open_tiny, tmp_path, epochs):
    for valid in (0, 4):
        job = make_job(open_tiny, LAST, valid=valid, num_train_epochs=epochs, eval_steps=2)
        run = new_run(tmp_path / f"run{valid}")
        train(job, run, quiet, StopRequest())
        stored_rows = sum(event["rows"] for event in run.events("stored"))
        assert stored_rows == valid + (len(job.train) if epochs > 1 else 0)


def test_dropout_below_is_found_and_nothing_is_stored(open_tiny, tmp_path):
    job = make_job(open_tiny, LAST, kind="gpt2")
    job.model.module.transformer.h[0].mlp.dropout.p = 0.05
    run = new_run(tmp_path / "run")
    train(job, run, quiet, StopRequest())
    assert run.events("stored") == []
    assert "dropout" in (run.folder / "notes.txt").read_text()


def test_a_layer_that_sees_more_than_hidden_states_is_found(open_tiny):
    job = make_job(open_tiny, LAST)
    layers = job.model.module.model.layers
    noticed = []
    layers[0].mlp.register_forward_hook(lambda module, args, output: noticed.append(float(output.mean())))
    layers[2].register_forward_pre_hook(lambda module, args: (args[0] + noticed.pop(0), *args[1:]))
    noticed.append(0.5)
    assert fault(job.model, layers_of(job), job.objective, job.train[:2]) != ""


@pytest.mark.parametrize("stop_at", [2, 14], ids=["storing", "training"])
@pytest.mark.parametrize("gigabytes", [2.0, 2e-5], ids=["all rows", "some rows"])
@pytest.mark.parametrize("lost", ["nothing", "one file", "half a file", "a flipped bit", "everything"])
def test_interrupted_equals_uninterrupted_whatever_became_of_the_store(open_tiny, tmp_path, stop_at, gigabytes, lost):
    settings = {"valid": 4, "num_train_epochs": 3, "stored_gb": gigabytes}
    whole, run = make_job(open_tiny, LAST, **settings), new_run(tmp_path / "whole")
    train(whole, run, quiet, StopRequest())
    torn = new_run(tmp_path / "torn")
    with pytest.raises(Interrupted, match="resume"):
        train(make_job(open_tiny, LAST, **settings), torn, quiet, StopAfter(stop_at))
    files = sorted(torn.stored.iterdir())
    assert files
    damage(files, lost)
    again = make_job(open_tiny, LAST, **settings)
    train(again, torn, quiet, StopRequest())
    expected, found = weights(whole), weights(again)
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert timeless(run) == timeless(torn)


def damage(files, how):
    content = bytearray(files[0].read_bytes())
    content[-9] ^= 1
    match how:
        case "one file":
            files[0].unlink()
        case "half a file":
            files[0].write_bytes(files[0].read_bytes()[:1000])
        case "a flipped bit":
            files[0].write_bytes(bytes(content))
        case "everything":
            for file in files:
                file.unlink()


def test_a_resumed_run_stores_the_rows_of_the_first_even_when_the_disk_has_filled(open_tiny, tmp_path, monkeypatch):
    settings = {"valid": 4, "num_train_epochs": 3}
    whole, run = make_job(open_tiny, LAST, **settings), new_run(tmp_path / "whole")
    train(whole, run, quiet, StopRequest())
    torn = new_run(tmp_path / "torn")
    with pytest.raises(Interrupted, match="after step"):
        train(make_job(open_tiny, LAST, **settings), torn, quiet, StopAfter(14))
    monkeypatch.setattr(Stored, "free_disk", lambda self: 10_000)
    again = make_job(open_tiny, LAST, **settings)
    train(again, torn, quiet, StopRequest())
    assert timeless(run) == timeless(torn)
    assert all(torch.equal(a, b) for a, b in zip(weights(whole).values(), weights(again).values(), strict=True))


def test_a_run_that_was_stopped_before_any_checkpoint_stores_the_rows_that_it_would_have(
    open_tiny, tmp_path, monkeypatch
):
    """The disk is emptier or fuller by what the first process kept, and no event survives."""
    settings = {"valid": 4, "num_train_epochs": 3}
    job, torn = make_job(open_tiny, LAST, **settings), new_run(tmp_path / "torn")
    width = job.model.module.config.hidden_size * 4
    rows, _ = job.repeated()[0]
    room = 2 * width * sum(row.length for row in rows)  # of which half is used: validation rows and some others
    monkeypatch.setattr(Stored, "free_disk", lambda self: room)
    with pytest.raises(Interrupted, match="before a step"):
        train(job, torn, quiet, StopAfter(1))
    torn.cut_events(0)
    monkeypatch.setattr(Stored, "free_disk", lambda self: room // 4)
    train(make_job(open_tiny, LAST, **settings), torn, quiet, StopRequest())
    (event,) = torn.events("stored")
    assert event["room"] == room / 2
    assert event["rows"] >= len({row.example.id for row in rows}) - 1


def test_the_bound_on_disk_is_kept(open_tiny, tmp_path):
    job, bound = make_job(open_tiny, LAST, stored_gb=2e-5), 20_000
    run = new_run(tmp_path / "run")
    with pytest.raises(Interrupted):
        train(job, run, quiet, StopAfter(8))
    (event,) = run.events("stored")
    assert 0 < event["rows"] < len(job.train)
    tensors = [t for file in run.stored.glob("*.safetensors") for t in load_file(file).values()]
    assert sum(t.numel() * t.element_size() for t in tensors) <= bound
    assert event["tokens"] == sum(len(t) for t in tensors)


def test_room_is_counted_once_for_rows_of_equal_content(open_tiny):
    job = make_job(open_tiny, LAST)
    twice = [job.train[0], replace(job.train[0]), job.train[1]]
    assert list(within(twice, 10, 1e9)) == [job.train[0], job.train[1]]
    assert list(within(twice, 10, 10 * job.train[0].length)) == [job.train[0]]
    assert list(within(twice, 10, 0)) == []


def test_a_full_disk_says_what_to_do(open_tiny, tmp_path, monkeypatch):
    def full(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(stored, "write_atomic", full)
    with pytest.raises(UserError, match=r"No space left.*resume.*stored_gb=0"):
        train(make_job(open_tiny, LAST), new_run(tmp_path / "run"), quiet, StopRequest())


def test_what_other_weights_made_is_not_used_and_is_removed(open_tiny, tmp_path):
    job = make_job(open_tiny, LAST)
    before = opened(job, tmp_path)
    others = set(before.stored.folder.iterdir())
    with torch.no_grad():
        job.model.module.model.layers[0].mlp.up_proj.weight[0, 0] += 1
    after = opened(job, tmp_path)
    assert not others & set(after.stored.folder.iterdir())
    row = job.train[0]
    assert torch.equal(after.stored.get(row), states_of(job, after, row))


def states_of(job, below, row):
    chunk = next(
        c for c in batches(job.train, attrgetter("length"), stored._CHUNK_POSITIONS) if any(r is row for r in c)
    )
    return states_after(job.model, below.layers, chunk)[[r is row for r in chunk].index(True)]


def test_the_key_of_weights_follows_frozen_content_alone(open_tiny):
    job = make_job(open_tiny, LAST)
    module, before = job.model.module, weights_key(job.model.module)
    with torch.no_grad():
        module.model.layers[2].mlp.up_proj.weight += 1  # trained
        assert weights_key(module) == before
        module.model.embed_tokens.weight[3, 3] += 1
    assert weights_key(module) != before


def test_an_unknown_row_is_not_answered_with_another(open_tiny, tmp_path):
    job = make_job(open_tiny, LAST)
    below = opened(job, tmp_path, list(job.train[:3]))
    assert below.stored.get(job.train[5]) is None
    assert below.stored.get(job.train[2]).shape[0] == job.train[2].length


def test_states_of_another_row_do_not_fit(open_tiny, tmp_path):
    job = make_job(open_tiny, LAST)
    below = opened(job, tmp_path)
    rows = [job.train[4], job.train[0]]
    assert rows[0].length != rows[1].length
    batch = job.model.family.collate(job.model, rows)
    swapped = [below.stored.get(row) for row in reversed(rows)]
    with pytest.raises(RuntimeError), passed_over(below.layers, batch, swapped):
        job.objective.loss(job.model, batch, 0)


def test_an_objective_that_asks_for_more_than_log_probabilities_computes_every_pass(open_tiny):
    class Noisy:
        needs = frozenset({"denoise"})

    job = make_job(open_tiny, LAST)
    assert layers_of(job) != ()
    assert layers_of(replace(job, objective=Noisy())) == ()


def test_a_file_of_another_content_is_made_again(open_tiny, tmp_path):
    job = make_job(open_tiny, LAST)
    below = opened(job, tmp_path)
    row = job.train[0]
    expected, path = below.stored.get(row), below.stored._file_of[stored.content_key(row)]
    save_file({key: torch.zeros_like(value) for key, value in load_file(path).items()}, path)
    assert torch.equal(opened(job, tmp_path).stored.get(row), expected)


def test_lora_on_the_top_alone_is_served_too(open_tiny, tmp_path):
    method = {"name": "lora", "r": 2, "target_modules": ["model.layers.2.mlp.up_proj"], "lora_dropout": 0.1}
    job, run = make_job(open_tiny, method), new_run(tmp_path / "run")
    train(job, run, quiet, StopRequest())
    assert [event["rows"] for event in run.events("stored")] == [22]
