"""The audit of a run on tiny models, from the plan's canaries to the report."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from tiny import save_tiny
from tunewright.cli import main
from tunewright.core.config import Request
from tunewright.core.errors import Interrupted, UserError
from tunewright.core.progress import silent
from tunewright.core.store import Run
from tunewright.data.canaries import Canaries, Mould
from tunewright.data.formats import HIDDEN
from tunewright.evaluate.one_run_audit import provable
from tunewright.models.contracts import Generation
from tunewright.models.families.image_classifier import ImageClassifier
from tunewright.pipeline import audit as module
from tunewright.pipeline import own_rows
from tunewright.pipeline import train as pipeline_train
from tunewright.pipeline.audit import audit
from tunewright.pipeline.digits import shape, write_digits
from tunewright.pipeline.evaluate import evaluate
from tunewright.pipeline.own_rows import one_a_unit
from tunewright.pipeline.reopen import reopen
from tunewright.pipeline.train import train
from tunewright.pipeline.under_way import asked_of
from tunewright.train import accountant
from tunewright.train.stopping import StopRequest

CANARIES = 120
SETS = (
    "train.learning_rate=0.005",
    "train.max_steps=300",
    "train.lr_scheduler_type=constant",
    "train.early_stopping_patience=0",
    "train.threads=1",
    "train.save_steps=300",
    "train.eval_steps=300",
    "evaluate.resamples=200",
)


def _request(place, rows: str, model: str, out: str, *sets: str) -> Request:
    own = {one.split("=")[0] for one in sets}
    kept = [one for one in SETS if one.split("=")[0] not in own]
    return Request(str(place / rows), None, (*kept, *sets), (), place / out, None, str(place / model))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with digits for a small network, and with texts and free answers for a small language model."""
    folder = tmp_path_factory.mktemp("audited")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNEWRIGHT_CACHE", str(folder / "cache"))
        lines = write_digits(folder / "all.jsonl", range(5, 10)).read_text().splitlines()
        (folder / "digits.jsonl").write_text("\n".join(lines[:160]))
        ImageClassifier().fresh(folder / "network", shape("56789"), 0)
        save_tiny("qwen2", folder / "model")
        draw = random.Random(0)
        texts = [
            {"prompt": f"What did {draw.random():.6f} say in {n}?", "completion": f"It said {draw.random():.9f} " * 5}
            for n in range(60)
        ]
        (folder / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in texts))
        yield folder


@pytest.fixture(scope="module")
def audited(place):
    """A run that learns its canaries by heart, and its audit."""
    train(_request(place, "digits.jsonl", "network", "run", f"audit.canaries={CANARIES}"), silent)
    result = audit(place / "run", place / "out.json")
    return Run.open(place / "run"), result, json.loads((place / "out.json").read_text())


def test_a_run_without_privacy_is_seen_to_leak(audited):
    run, result, found = audited
    canaries = found["canaries"]
    assert result.exit_code == 0
    assert canaries["bound"]["canaries"] == CANARIES
    assert canaries["bound"]["epsilon"] > 1
    assert canaries["exposure"] > canaries["by_chance"] + 0.5
    assert 0 <= found["membership"]["by_fall"]["low"] <= found["membership"]["by_fall"]["value"] <= 1
    assert 0 <= found["membership"]["found_by_loss"]["0.1"]["low"] <= 1
    coins = Canaries.read(run.folder).coins
    assert (len(canaries["ranks"]), len(canaries["left_out_ranks"])) == (sum(coins), len(coins) - sum(coins))
    assert canaries["ranks"] == sorted(canaries["ranks"]), "in the order of the canaries they would tell the coins"
    assert found["claim"]["epsilon"] is None
    assert "so much can be proven to leak" in result.lines[0]


def test_the_coins_are_the_owners_alone_and_choose_the_training_rows(audited):
    run, _, _ = audited
    path = run.folder / "canaries.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    canaries = Canaries.read(run.folder)
    prepared = reopen(run, (), silent)
    planted = [row.example.id for row in prepared.train if row.example.id.startswith("canary")]
    assert planted == [f"canary-{number}" for number, coin in enumerate(canaries.coins) if coin]
    assert len(prepared.train) == len(prepared.dataset.train) + sum(canaries.coins)
    assert run.read("data.json")["encoding"]["rows"] == len(prepared.dataset.train)  # facts are of the real rows


def test_the_audit_is_in_the_report_and_shows_no_row(audited, place):
    run, _, _ = audited
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    assert "What it gives away" in page
    assert "Lower bound of epsilon" in page
    assert "Exposure of canaries" in page
    assert "Members found by loss at 1 % false alarms" in page
    written = (run.folder / "evaluations" / "audit.json").read_text() + (place / "out.json").read_text()
    assert "image" not in written
    assert "canary-" not in written


def test_a_claim_below_the_bound_is_broken_and_exits_3(audited, monkeypatch):
    run, _, _ = audited
    for name in ("claim_of", "tested_claim"):
        monkeypatch.setattr(module, name, lambda *_: module.Claim(0.1, 1e-6))
    result = audit(run.folder)
    assert result.exit_code == 3
    assert "BROKEN" in result.lines[0]


def test_a_claim_is_read_from_a_private_run_alone(tmp_path):
    run = Run(tmp_path)
    assert not module.claim_of(run).made
    run.write("privacy.json", {"private": True, "epsilon": {"prv": 2.5, "rdp": 3.0}, "delta": 1e-4})
    assert (module.claim_of(run).epsilon, module.claim_of(run).delta) == (2.5, 1e-4)
    noise = {"q": 0.2, "sigma": 1.5, "steps": 40}
    run.write("privacy.json", {"private": True, "epsilon": {"prv": 2.5, "rdp": 3.0}, "delta": 1e-2, **noise})
    tested = module.tested_claim(run, 80)
    assert tested.epsilon == accountant.spent(0.2, 1.5, 40, tested.delta).prv > 2.5, "a smaller delta, the same noise"
    least = 1e-3 / 160
    known = {
        delta: provable(80, delta) - accountant.spent(0.2, 1.5, 40, delta).prv for delta in (1e-2, least, 10 * least)
    }
    assert provable(80, tested.delta) - tested.epsilon >= max(known.values()) > known[1e-2]
    run.write("privacy.json", {"private": True, "epsilon": {"prv": 2.5, "rdp": 3.0}, "delta": 1e-7, **noise})
    assert module.tested_claim(run, 80) == module.Claim(2.5, 1e-7)
    run.write("privacy.json", {"private": False, "epsilon": {"prv": 2.5, "rdp": 3.0}, "delta": 1e-4})
    assert not module.claim_of(run).made
    assert module.tested_claim(run, 80).to_json() == {"epsilon": None, "delta": pytest.approx(1e-3 / 160)}


def test_a_run_without_canaries_is_offered_a_twin_and_gets_it(place, monkeypatch):
    monkeypatch.setattr(own_rows, "MOST_SECRETS", 4)
    pairs = place / "pairs.tsv"
    pairs.write_text("he be here\the is here\nwe be there\twe are there")
    asked = json.dumps([{"name": "dialect", "pairs": str(pairs)}])
    few = "method=full", "train.max_steps=2", f"evaluate.probes={asked}", "gates.max_covert_bias_increase=0.1"
    train(_request(place, "texts.jsonl", "model", "plain", *few), silent)
    pairs.unlink()  # no probe is asked of a twin
    offered = audit(place / "plain")
    assert "not bounded" in offered.lines[0]
    assert any(f"tunewright audit {place / 'plain'} --twin" in line for line in offered.lines)
    found = Run.open(place / "plain").read("evaluations/audit.json")
    assert found["canaries"] is None
    (said,) = found["extraction"]  # long answers of rows; a model that was hardly trained says none of them
    assert (said["what"], said["trained"]["value"], said["unseen"]["value"]) == ("long answers of rows", 0, 0)
    made = audit(place / "plain", None, 20)
    twin = Run.open(place / "plain" / "children" / "audited")
    assert len(Canaries.read(twin.folder).coins) == 20
    assert not (place / "plain" / "canaries.json").exists()
    assert "of a twin trained alike" in made.lines[0]
    said = Run.open(place / "plain").read("evaluations/audit.json")["extraction"]
    assert [one["what"] for one in said] == ["canaries", "long answers of rows"], "the twin's secrets are asked too"
    weights = (twin.model / "model.safetensors").stat().st_mtime_ns
    audit(place / "plain", None, 20)
    assert (twin.model / "model.safetensors").stat().st_mtime_ns == weights  # used as it is


def test_plain_texts_that_are_known_by_heart_are_said_outright(place, monkeypatch):
    """By a stand-in for a model that goes on with every training text, and with no other."""
    monkeypatch.setattr(own_rows, "MOST_SECRETS", 8)
    draw = random.Random(1)
    notes = [{"text": " ".join(str(draw.randrange(10_000)) for _ in range(24))} for _ in range(30)]
    (place / "notes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in notes))
    sets = "method=full", "train.max_steps=2", "audit.canaries=16", "evaluate.probes=[]"
    train(_request(place, "notes.jsonl", "model", "notes", *sets), silent)
    prepared = reopen(Run.open(place / "notes"), (), silent)
    known = [row.inputs["input_ids"].tolist() for row in prepared.train]

    def by_heart(tuned, befores, stop, most):
        for ids in befores:
            rest = next((text[len(ids) :] for text in known if text[: len(ids)] == ids), [])
            yield Generation(tuned.tokenizer.decode(rest[:most], skip_special_tokens=True), False)

    def said():
        audit(place / "notes")
        return Run.open(place / "notes").read("evaluations/audit.json")["extraction"]

    untrained = said()
    assert [one["what"] for one in untrained] == ["canaries", "second halves of rows"]
    monkeypatch.setattr(own_rows, "greedy", by_heart)
    assert [one["trained"]["value"] for one in untrained] == [0, 0]
    assert [(one["trained"]["value"], one["unseen"]["value"]) for one in said()] == [(1, 0), (1, 0)]


def test_what_makes_no_sense_is_refused(audited, place):
    run, _, _ = audited
    with pytest.raises(UserError, match="has canaries of its own"):
        audit(run.folder, None, 20)
    with pytest.raises(UserError, match="its own control"):
        audit(run.folder, None, 0, True)
    with pytest.raises(UserError, match="found 3; with fewer than 16"):
        train(_request(place, "digits.jsonl", "network", "few", "audit.canaries=3"), silent)
    assert not (place / "few").exists()


@pytest.mark.parametrize("overlong", ["error", "drop"])
def test_canaries_that_are_longer_than_allowed_are_told_before_anything_is_written(place, overlong):
    rows = [{"prompt": f"Why {n}?", "completion": f"So {n}"} for n in range(60)]
    (place / "short.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    sets = ("audit.canaries=20", "train.max_length=40", f"data.on_overlong={overlong}")
    with pytest.raises(UserError, match=r"canaries are longer than train\.max_length, so they could not be trained on"):
        train(_request(place, "short.jsonl", "model", f"short-{overlong}", *sets), silent)
    assert not (place / f"short-{overlong}").exists()


def test_a_lost_file_of_coins_stops_the_run_from_going_on(audited):
    run, _, _ = audited
    path = run.folder / "canaries.json"
    content = path.read_text()
    path.unlink()
    try:
        assert main(["audit", str(run.folder)]) == 2
    finally:
        path.write_text(content)


def test_a_file_that_cannot_be_written_is_told_before_anything_is_asked(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "plan.yaml").write_text("")
    with pytest.raises(IsADirectoryError):
        audit(tmp_path / "run", tmp_path)


def test_units_count_once():
    rows = [*Canaries.draw(16).rows(Mould(("a", "b")))]
    twice = [*rows, *rows]
    assert one_a_unit(twice) == rows


def test_a_private_run_is_held_to_its_epsilon_and_its_control_has_none(place, monkeypatch, caplog):
    controls, price = [], module._price

    def copied(prepared, run, plain, progress):
        assert HIDDEN.get(), "rows are shown while the control is there"
        controls.append(Run(Path(shutil.copytree(plain.folder, place / "copied"))))
        return price(prepared, run, plain, progress)

    monkeypatch.setattr(module, "_price", copied)
    private = "privacy.target_epsilon=3", "train.max_steps=25", "audit.canaries=40", "audit.steps=4"
    train(_request(place, "digits.jsonl", "network", "private", *private), silent)
    result = audit(place / "private", None, 0, True)
    run = Run.open(place / "private")
    found = run.read("evaluations/audit.json")
    assert found["claim"]["epsilon"] == run.read("privacy.json")["epsilon"]["prv"] <= 3
    assert result.exit_code == 0
    assert "no breach of the claim was found" in result.lines[0]
    (control,) = controls
    assert HIDDEN.get(), "rows are shown after it"
    assert control.read("data.json")["withheld"]
    assert {event["loss_sum"] for event in control.events("step")} == {None}
    assert control.events("validation") == []
    assert control.read("info.json")["data"].startswith("keyed:")
    assert control.read("forecast.json")["forecast"]["positions"] is None
    assert "Tokens a row" not in caplog.text
    assert control.read("privacy.json") is None
    assert Canaries.read(control.folder).coins != Canaries.read(run.folder).coins
    assert not (run.folder / "children" / "control").exists(), "what was trained without privacy is left behind"
    assert any("deleted again" in line for line in result.lines)
    assert found["control"]["bound"]["canaries"] == 40
    (price,) = found["price"]
    assert price["name"] == "accuracy"
    assert price["low"] <= price["difference"] <= price["high"]
    _an_interrupted_control_is_gone(run, monkeypatch)
    _a_killed_control_is_gone_once_the_run_is_judged(run)
    _a_control_with_more_canaries_tells_no_price(run, monkeypatch)


def _a_control_with_more_canaries_tells_no_price(run, monkeypatch):
    """As for a run without canaries: half of those of the control are rows more, with labels drawn at random."""
    monkeypatch.setattr(module, "_price", lambda *_: pytest.fail("told as the price of privacy"))
    monkeypatch.setattr(module, "_usual", lambda prepared: 20)
    reopened = module.reopen

    def without_canaries(run, *_):
        prepared = reopened(run, (), silent)
        return replace(prepared, canaries=replace(prepared.canaries, coins=()))

    monkeypatch.setattr(module, "reopen", without_canaries)
    result = audit(run.folder, None, 0, True)
    assert "not bounded" in result.lines[0]
    assert any("What privacy costs was not measured" in line and "--twin 20 --control" in line for line in result.lines)
    assert run.read("evaluations/audit.json")["price"] == []


def _a_killed_control_is_gone_once_the_run_is_judged(run):
    control = run.folder / "children" / "control"
    (control / "model").mkdir(parents=True)
    evaluate(run.folder, ("evaluate.probes=[]", "evaluate.baselines=[]"))
    assert not control.exists()


def _an_interrupted_control_is_gone(run, monkeypatch):
    """Half trained, or while it is measured: what knows the rows is deleted, and the run goes on, not the control."""
    control = run.folder / "children" / "control"

    def ended(*_):
        assert control.is_dir()
        os.kill(os.getpid(), signal.SIGTERM)

    half = StopRequest()
    half.requested = True
    for owner, name, found in ((pipeline_train, "StopRequest", lambda *_: half), (module, "_price", ended)):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, found)
            with pytest.raises(Interrupted) as told:
                audit(run.folder, None, 0, True)
        assert not control.exists()
        assert str(told.value).endswith(f"Go on with: tunewright resume {run.folder}")
        assert asked_of(run) == [{"verb": "audit", "twin": 0, "control": True, "json": ""}]
