"""What a forecast counts is what goes through the layers; oracle: a hook on the first one."""

from __future__ import annotations

import csv
import random
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tiny import save_tiny
from tunewright.core.config import Request
from tunewright.core.errors import Interrupted
from tunewright.core.progress import silent
from tunewright.core.store import Run
from tunewright.pipeline import asked, forecast
from tunewright.pipeline import train as pipeline_train
from tunewright.pipeline.evaluate import ask_base
from tunewright.pipeline.example_data import write_rows as write_people
from tunewright.pipeline.jobs import job_of
from tunewright.pipeline.labour_market import Market
from tunewright.pipeline.prepare import prepare, read_rows
from tunewright.pipeline.probe import planned_probes
from tunewright.pipeline.resume import resume
from tunewright.pipeline.train import begun
from tunewright.pipeline.tune import tune
from tunewright.pipeline.work import Size, Work, of_probe, of_suite
from tunewright.train.loop import train
from tunewright.train.stopping import StopRequest

LABELS = ("a red one", "a red thing", "blue", "green as grass")
SETS = ("train.threads=1", "train.early_stopping_patience=0", "evaluate.max_new_tokens=6")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("forecast")
    for kind in ("qwen2", "mamba"):
        save_tiny(kind, folder / kind)
    draw = random.Random(0)
    with open(folder / "rows.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label", "unit"])
        for number in range(150):
            words = " ".join(draw.choices(("apple", "sky", "leaf", "ink"), k=draw.randint(1, 12)))
            writer.writerow([f"{words} {number}", draw.choice(LABELS), f"u{number // 2}"])
    write_people(folder / "careers.csv", Market(1).records(40, years=5))
    return folder


def request(place: Path, rows: str, *sets: str, kind: str = "qwen2", out: Path | None = None) -> Request:
    recipe = "careers" if rows == "careers.csv" else None
    return Request(str(place / rows), None, (*SETS, *sets), (), out, recipe, str(place / kind))


def prepared_of(place: Path, rows: str, *sets: str, kind: str = "qwen2"):
    return prepare(read_rows(request(place, rows, *sets, kind=kind), silent), silent)


@contextmanager
def through_the_layers(module):
    """How many positions each forward brings to the first layer."""
    seen: list[int] = []
    first = module.get_submodule("model.layers.0") if hasattr(module, "model") else module.backbone.layers[0]
    hook = first.register_forward_pre_hook(
        lambda _, given, named: seen.append((given[0] if given else named["hidden_states"])[..., 0].numel()),
        with_kwargs=True,
    )
    try:
        yield seen
    finally:
        hook.remove()


@pytest.mark.parametrize("kind", ["qwen2", "mamba"])
@pytest.mark.parametrize("rows", ["rows.csv", "careers.csv"])
def test_what_a_suite_asks_is_counted_to_the_position(place, rows, kind):
    prepared = prepared_of(place, rows, kind=kind)
    suite, few = asked.without_texts(asked.suite_of(prepared)), prepared.test[:24]
    if kind == "mamba":  # reads each answer by itself, without the trie: nothing stands for that
        suite = replace(suite, labels=(), needs=frozenset({"answer"}))
    counted = of_suite(prepared.model, suite, few)
    with through_the_layers(prepared.model.module) as seen:
        suite.ask(prepared.model, few, silent, "")
    assert (counted.positions, counted.widest) == (sum(seen), max(seen))


def test_the_trie_and_the_shared_past_are_counted_not_whole_contexts(place):
    prepared = prepared_of(place, "careers.csv")
    counted = of_suite(prepared.model, asked.without_texts(asked.suite_of(prepared)), prepared.test)
    encoder = prepared.model.family.encoder(prepared.model, prepared.encode)
    whole = sum(len(encoder.context_ids(row)) for row in prepared.test) * len(prepared.dataset.labels)
    assert counted.positions < whole / 10


def test_free_answers_are_counted_as_long_as_they_may_be(place):
    prepared = prepared_of(place, "rows.csv")
    suite = replace(asked.suite_of(prepared), needs=frozenset({"text"}))
    counted = of_suite(prepared.model, suite, prepared.test)
    with through_the_layers(prepared.model.module) as seen:
        suite.ask(prepared.model, prepared.test, silent, "")
    assert sum(seen) <= counted.positions <= 1.2 * sum(seen)


@pytest.mark.parametrize("word", ["quick", {"name": "representation", "max_new_tokens": 3, "toxicity": "absent"}])
def test_probes_are_counted_by_asking_them(place, word):
    prepared = prepared_of(place, "rows.csv")
    for probe in planned_probes((word,), prepared.model.family.capabilities).values():
        counted = of_probe(prepared.model, probe)
        with through_the_layers(prepared.model.module) as seen:
            getattr(probe, "costing", lambda probe=probe: probe)().ask(prepared.model, silent)
        assert counted.positions == pytest.approx(sum(seen), rel=0.1), probe.plugin_name()


@pytest.mark.parametrize("rows", ["rows.csv", "careers.csv"])
def test_training_is_counted_as_micro_batches_are_laid_out(place, tmp_path, rows):
    question = request(place, rows, "train.num_train_epochs=2", out=tmp_path / "run")
    with begun(question, "train", silent) as (prepared, run):
        job = job_of(prepared)
        found = forecast.by_formula(prepared, job)
        with through_the_layers(job.model.module.get_base_model()) as seen:
            train(job, run, silent, StopRequest())
    counted = found.positions["training"] + found.positions["validation"]
    assert counted == pytest.approx(sum(seen), rel=0.02)
    tokens = sum(row.length for row in prepared.train)
    assert found.positions["training"] < 2 * tokens, "what rows begin with alike was counted for each of them"


def test_what_the_base_answered_before_is_not_counted_again(place, tmp_path):
    question = request(place, "rows.csv", "evaluate.probes=[retention]", out=tmp_path / "run")
    with begun(question, "tune", silent) as (prepared, run):
        fresh = asked.work(prepared, job_of(prepared_of(place, "rows.csv")), base=True)
        assert fresh["base"].positions > 0
        ask_base(prepared, run, silent)
        again = asked.work(prepared, job_of(prepared), base=True)
    assert (again["base"].positions, again["probes of base"].positions) == (0, 0)
    assert again["tuned"].positions > 0
    assert again["probes of tuned"].positions > 0


def test_of_a_run_that_was_interrupted_nobody_says_how_long_the_whole_took(place, tmp_path, monkeypatch):
    question = request(place, "rows.csv", "evaluate.probes=[]", "train.max_steps=4", out=tmp_path / "run")
    stop = StopRequest()
    stop.requested = True
    with monkeypatch.context() as patch:
        patch.setattr(pipeline_train, "StopRequest", lambda *_: stop)
        with pytest.raises(Interrupted):
            tune(question, silent)
    resume(tmp_path / "run")
    actual = Run.open(tmp_path / "run").must_read("forecast.json")["actual"]
    assert actual["training_seconds"] > 0
    assert "seconds" not in actual
    assert "evaluation_seconds" not in actual


def test_a_dry_step_measures_rates_and_leaves_the_weights(place):
    prepared = prepared_of(place, "rows.csv")
    job = job_of(prepared)
    before = {name: weight.detach().clone() for name, weight in job.method.trained(job.model).items()}
    found = forecast.by_dry_step(prepared, job, 100.0)
    assert found.basis == "dry step"
    assert found.evaluation_seconds >= 100
    assert found.training_seconds > 0
    assert forecast.by_dry_step(prepared, job, None).evaluation_seconds == 0, "`train` asks nothing"
    for name, weight in job.method.trained(job.model).items():
        assert weight.grad is None
        assert weight.equal(before[name])


def test_a_dry_step_counts_the_memory_that_is_held_beside_the_models_still_to_be_opened(place, monkeypatch):
    prepared = prepared_of(place, "rows.csv")
    monkeypatch.setattr(forecast, "held_memory", lambda: 10**12)
    assert forecast.by_formula(prepared, job_of(prepared)).memory_bytes < 10**12
    prepared = prepared_of(place, "rows.csv")
    job = job_of(prepared)
    size = Size.of(job.model, sum(weight.numel() for weight in job.method.trained(job.model).values()))
    found = forecast.by_dry_step(prepared, job)
    assert found.memory_bytes == 10**12 + size.weight_bytes + 16 * size.trained, "one more model is opened"


def test_operations_are_two_a_weight_and_position_and_twice_that_back(place):
    job = job_of(prepared_of(place, "rows.csv"))
    size = Size.of(job.model, 100)
    weights = sum(p.numel() for p in job.model.module.parameters())
    assert size.body + size.head == weights, "a tied head is one with the embedding"
    work = Work(positions=10, predicted=3)
    assert size.forward(work) == 2 * size.body * 10 + 2 * size.head * 3
    assert size.backward(work) == size.forward(work) + 2 * 100 * 10
    assert size.activations(work + Work(widest=50), 0) > size.activations(work + Work(widest=50), 2) > 0
