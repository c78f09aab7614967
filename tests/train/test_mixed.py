"""All weights trained in float32 and multiplied in bfloat16: against float32, and the libraries' own way."""

from __future__ import annotations

from dataclasses import replace
from math import hypot

import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM

from train.test_loop import StopAfter, make_job, new_run, quiet, timeless, weights
from tunewright.core.errors import Interrupted
from tunewright.models import chunked, head
from tunewright.models.fused import RmsNorm
from tunewright.pipeline.forecast import dry_step
from tunewright.train.fingerprint import fingerprint
from tunewright.train.job import Job
from tunewright.train.loop import train, validation_loss
from tunewright.train.share import Share, compute
from tunewright.train.stopping import StopRequest

FAMILIES = ("llama", "qwen2", "qwen3", "gemma3", "gpt2")


def mixed(job):
    return replace(job, products=torch.bfloat16)


def gradients(job, rows=8):
    trained = job.method.trained(job.model)
    with job.gradients.begin(job.model, trained, "") as making:
        compute(job, making, Share(0, 1.0, ((0, tuple(range(rows))),)))
        return making.taken()


def librarys_gradients(job, rows=8):
    """Each row alone, under torch's own mixed precision."""
    module = AutoModelForCausalLM.from_pretrained(job.model.origin.folder, dtype=torch.float32)
    for row in [job.train[number] for number in range(rows)]:
        with torch.autocast("cpu", torch.bfloat16):
            logits = module(input_ids=torch.from_numpy(row.inputs["input_ids"])[None], use_cache=False).logits[0]
        said = logits[torch.from_numpy(row.positions)].float()
        cross_entropy(said, torch.from_numpy(row.targets), reduction="sum").backward()
    return {name: weight.grad for name, weight in module.named_parameters()}


def apart(found, wanted):
    return hypot(*((found[name] - wanted[name]).norm() for name in wanted)) / hypot(
        *(g.norm() for g in wanted.values())
    )


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_step_in_mixed_precision_is_as_near_to_float32_as_the_librarys_own(kind, open_tiny):
    job = make_job(open_tiny, {"name": "full"}, kind=kind)
    exact = gradients(job)
    found, theirs = gradients(mixed(job)), librarys_gradients(job)
    assert found.keys() == exact.keys() == theirs.keys()
    assert all(gradient.dtype == torch.float32 for gradient in found.values())
    assert 1e-4 < apart(found, exact) <= 1.25 * apart(theirs, exact) < 0.05


def test_attention_in_mixed_precision_is_that_of_bfloat16(open_tiny, monkeypatch):
    job, asked = make_job(open_tiny, {"name": "full"}, kind="llama"), []
    attended = chunked.attended
    monkeypatch.setattr(chunked, "attended", lambda query, *more: asked.append(query.dtype) or attended(query, *more))
    gradients(job)
    assert not asked
    gradients(mixed(job))
    assert set(asked) == {torch.bfloat16}


def test_weights_are_rounded_for_products_alone(open_tiny):
    job = make_job(open_tiny, {"name": "full"}, kind="llama")
    seen = []
    layer = job.model.module.model.layers[0]
    for part in (layer.self_attn.q_proj, layer.mlp.up_proj, layer.input_layernorm, layer):
        part.register_forward_hook(lambda part, given, output: seen.append(output.dtype))
    gradients(mixed(job), 2)
    half, whole = torch.bfloat16, torch.float32
    assert seen == [whole, half, half, whole], "norm, queries, feed-forward, what the layer gives on"
    seen.clear()
    gradients(job, 2)
    assert set(seen) == {whole}


def test_a_norm_adds_up_its_squares_in_float32_in_mixed_precision_too():
    x, weight = torch.randn(5, 300, generator=torch.Generator().manual_seed(0)), torch.ones(300)
    with torch.autocast("cpu", torch.bfloat16):
        found = RmsNorm.apply(x, weight, 1e-6)
    assert torch.equal(found, RmsNorm.apply(x, weight, 1e-6))


@pytest.mark.parametrize("answers", [1, 2])
def test_in_mixed_precision_too_interrupted_equals_uninterrupted(answers, open_tiny, tmp_path):
    def job():
        return mixed(make_job(open_tiny, {"name": "full"}, valid=4, answers=answers))

    whole, run = job(), new_run(tmp_path / "whole")
    train(whole, run, quiet, StopRequest())
    torn = new_run(tmp_path / "torn")
    with pytest.raises(Interrupted):
        train(job(), torn, quiet, StopAfter(5))
    fresh = job()
    train(fresh, torn, quiet, StopRequest())
    expected, found = weights(whole), weights(fresh)
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert timeless(run) == timeless(torn)


def test_a_worker_that_multiplies_otherwise_has_another_job(open_tiny, monkeypatch):
    monkeypatch.setattr(Job, "micro_tokens", 1024)
    job = make_job(open_tiny, {"name": "full"})
    assert fingerprint(job) != fingerprint(mixed(job))


def test_validation_and_the_dry_step_multiply_as_steps_do(open_tiny):
    job, seen = mixed(make_job(open_tiny, {"name": "full"}, valid=4)), []
    job.model.module.model.layers[0].mlp.up_proj.register_forward_hook(lambda _, __, output: seen.append(output.dtype))
    validation_loss(job)
    dry_step(job, 0)
    assert len(seen) >= 2
    assert set(seen) == {torch.bfloat16}


def test_a_head_in_slices_multiplies_in_mixed_precision_as_the_whole_head_does(open_tiny):
    job, answers = make_job(open_tiny, {"name": "full"}), []
    rows = job.train[:4]
    batch = job.model.family.collate(job.model, rows)
    for learns in (True, False):
        with mixed(job).multiplying(), chunked.everywhere(), torch.set_grad_enabled(learns):
            assert (head.sliced_head(job.model) is None) is learns
            answers.append(job.model.family.token_log_probs(job.model, batch).detach())
    with torch.no_grad():
        exact = job.model.family.token_log_probs(job.model, batch)
    assert (answers[0] - answers[1]).abs().max() < 1e-4 < (answers[0] - exact).abs().max()


def test_micro_batches_are_as_wide_as_those_of_a_bfloat16_model(open_tiny):
    job = make_job(open_tiny, {"name": "full"})
    assert (job.micro_tokens, mixed(job).micro_tokens) == (1024, 2048)
