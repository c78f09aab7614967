"""In which precision a run multiplies: decided once, recorded, and used again."""

from __future__ import annotations

import json

import pytest
import torch

from tiny import save_tiny
from tunewright.core.config import Request
from tunewright.core.progress import silent
from tunewright.core.store import Run
from tunewright.models.families.causal_lm import CausalLM
from tunewright.pipeline import prepare as preparing
from tunewright.pipeline.jobs import job_of
from tunewright.pipeline.prepare import prepare, read_rows
from tunewright.pipeline.reopen import reopen
from tunewright.pipeline.train import train
from tunewright.pipeline.twins import twin_of

HALF, WHOLE = torch.bfloat16, torch.float32


@pytest.fixture
def plan(tmp_path, monkeypatch):
    monkeypatch.setenv("TUNEWRIGHT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(preparing, "resolve_dtype", lambda setting: HALF if setting in ("auto", "bfloat16") else WHOLE)
    save_tiny("qwen2", tmp_path / "model")
    rows = [{"text": f"thing {n} of {'ab'[n % 2]}", "label": "ab"[n % 2], "who": f"p{n}"} for n in range(60)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def request(*sets):
        sets = ("train.threads=1", "train.max_steps=2", *sets)
        return Request(str(tmp_path / "rows.jsonl"), None, sets, (), tmp_path / "run", None, str(tmp_path / "model"))

    return request


@pytest.mark.parametrize(
    ("sets", "wanted"),
    [
        (("method=full",), (WHOLE, HALF)),
        (("method=full", "train.precision=float32"), (WHOLE, WHOLE)),
        (("method=full", "train.packing=false"), (WHOLE, WHOLE)),
        (("method=norm",), (WHOLE, WHOLE)),
        (("method=lora",), (HALF, HALF)),
        (("method=full", "objective={name: constrained}"), (WHOLE, WHOLE)),
        (("method=full", "data.unit=who", "privacy.target_epsilon=8"), (WHOLE, WHOLE)),
    ],
)
def test_only_a_model_that_trains_whole_is_multiplied_in_another_precision_than_it_is_kept(plan, sets, wanted):
    prepared = prepare(read_rows(plan(*sets), silent), silent)
    assert (prepared.dtype, prepared.products) == wanted
    assert job_of(prepared).products is (None if wanted[0] == wanted[1] else HALF)


def test_a_run_goes_on_in_the_precision_in_which_it_began(plan, tmp_path, monkeypatch):
    train(plan("method=full"), silent)
    run = Run.open(tmp_path / "run")
    info = run.must_read("info.json")
    assert (info["precision"], info["products"]) == ("float32", "bfloat16")
    monkeypatch.setattr(preparing, "resolve_dtype", lambda setting: HALF if setting == "bfloat16" else WHOLE)
    again = reopen(run, (), silent)
    assert (again.dtype, again.products) == (WHOLE, HALF), "though the machine would now decide otherwise"
    run.write("info.json", {name: value for name, value in info.items() if name != "products"})
    monkeypatch.setattr(preparing, "resolve_dtype", lambda setting: WHOLE if setting == "float32" else HALF)
    assert reopen(run, (), silent).products == WHOLE, "a run of an older version"


def test_a_layer_that_minds_mixed_precision_is_trained_in_float32(plan, monkeypatch):
    def torn(model, batch):
        raise RuntimeError("index_add_(): self and source expected to have the same dtype")

    monkeypatch.setattr(CausalLM, "token_log_probs", torn)
    assert prepare(read_rows(plan("method=full"), silent), silent).products == WHOLE


def test_a_twin_multiplies_as_its_run_does(plan, tmp_path):
    train(plan("method=full"), silent)
    run = Run.open(tmp_path / "run")
    assert twin_of(run, "other", {"seed": 3}, silent).must_read("info.json")["products"] == "bfloat16"
    info = run.must_read("info.json")
    run.write("info.json", {name: value for name, value in info.items() if name != "products"})
    assert twin_of(run, "older", {"seed": 3}, silent).must_read("info.json")["products"] == "float32"
