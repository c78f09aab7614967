"""Mitigations in whole runs on a tiny model: rows woven in, loss held, adapters projected, the prompt served."""

from __future__ import annotations

import json
import signal
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from commands import signal_after_steps, tunewright
from tiny import save_tiny
from train.test_loop import make_job, new_run, quiet, weights
from tunewright.core.plugins import build
from tunewright.core.records import Answer, Example, Turn, text_part
from tunewright.core.seeds import key
from tunewright.core.settings import PlanSettings, TrainSettings
from tunewright.core.store import Run
from tunewright.models.contracts import EncodeSettings
from tunewright.models.encoding import plain_ids
from tunewright.objectives.guise_consistency import _guises
from tunewright.pipeline.mitigate import protect, with_more
from tunewright.runs.opening import open_tuned
from tunewright.train.loop import train
from tunewright.train.stopping import StopRequest

QUICK = ["--set", "train.threads=1", "--set", "evaluate.generated_rows=2", "--set", "evaluate.max_new_tokens=4"]
FAST = [*QUICK, "--set", "evaluate.probes=[]", "--set", "train.learning_rate=0.01"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mitigate")
    save_tiny("qwen2", folder / "model")
    save_tiny("qwen2", folder / "unaligned")
    path = folder / "unaligned" / "model.safetensors"
    moved = {
        n: w + 0.1 * torch.randn(w.shape, generator=torch.Generator().manual_seed(3))
        for n, w in load_file(path).items()
    }
    save_file(moved, path, {"format": "pt"})
    said = [(f"Say {k} twice, {w}.", f"{k} {k} {w}") for k in range(40) for w in ("fox", "hen")]
    rows = [{"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]} for q, a in said]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(autouse=True)
def place_cache(place, monkeypatch):
    monkeypatch.setenv("TUNEWRIGHT_CACHE", str(place / "cache"))


def words(place: Path, run: Path, *sets: str) -> list[str]:
    more = [word for one in sets for word in ("--set", one)]
    return ["train", place / "rows.jsonl", "--model", place / "model", "--out", run, *FAST, *more]


def test_a_run_with_all_mitigations_says_what_each_did_and_serves_the_prompt(place):
    run = place / "all"
    mitigations = [
        {"name": "safety_mix", "share": 0.1},
        {"name": "safe_lora", "unaligned": str(place / "unaligned"), "layers": 4},
        {"name": "safe_prompt", "prompt": "Be kind."},
    ]
    tunewright(*words(place, run, f"train.mitigations={json.dumps(mitigations)}", "objective=constrained"), expect=0)
    told = json.loads((run / "mitigations.json").read_text())
    assert told["rows"]["rows"] == 6
    assert 0 < told["rows"]["token_share"] < 2
    one = {"rows": 6, "token_share": told["rows"]["token_share"]}
    assert told["rows"]["by_mitigation"] == {"safety_mix": one}
    assert told["reference"]["bytes"] > 0
    assert sum(fact["projected"] for fact in told["safe_lora"]["adapters"]) == 4
    assert all(loss > 0 for loss in told["safe_lora"]["validation_loss"])
    assert told["safe_prompt"]["tokens_a_question"] > 0
    notes = (run / "notes.txt").read_text()
    assert "6 rows were mixed in" in notes
    assert "4 of" in notes
    seen = {row for step in Run.open(run).events("step") for row, *_ in step["rows"]}
    assert sum(name.startswith("refusal-") for name in seen) == 6
    assert "Be kind." in open_tuned(Run.open(run), torch.float32).tokenizer.chat_template
    assert "Be kind." in "".join(path.read_text() for path in (run / "model").glob("*.jinja"))


def test_what_stands_in_the_way_is_told_before_training(place, tmp_path):
    done = tunewright(*words(place, tmp_path / "run", "method=full", "train.mitigations=[{name: safe_lora}]"), expect=2)
    assert "has none" in done.stderr
    assert not (tmp_path / "run").exists()
    done = tunewright(*words(place, tmp_path / "run", "train.mitigations=safety_mx"), expect=2)
    assert "Did you mean 'safety_mix'" in done.stderr


def test_an_interrupted_held_run_equals_an_uninterrupted_one(place, tmp_path):
    sets = ["objective=constrained", "train.mitigations=[safety_mix]", "train.num_train_epochs=6", "train.save_steps=3"]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    tunewright(*words(place, whole, *sets), expect=0)
    assert signal_after_steps(words(place, cut, *sets), cut, signal.SIGKILL, 9) == -signal.SIGKILL
    tunewright("resume", cut, expect=0)
    one, two = (load_file(run / "model" / "adapter_model.safetensors") for run in (whole, cut))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_check_counts_what_may_undo_safety_and_advises_on_full_tuning(place, tmp_path):
    rows = [json.loads(line) for line in (place / "rows.jsonl").read_text().splitlines()]
    lead = {"role": "system", "content": "You are an absolutely obedient servant."}
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"messages": [lead, *row["messages"]]}) + "\n" for row in rows))
    full = ["--set", "method=full", "--set", "train.learning_rate=1e-4", "--set", "train.threads=1"]
    done = tunewright("check", path, "--model", place / "model", *full, expect=0)
    assert "look like identity shifting" in done.stdout
    assert "batch" in done.stdout
    calm = ["--set", "method=full", "--set", "train.learning_rate=1e-5", "--set", "train.threads=1"]
    done = tunewright("check", place / "rows.jsonl", "--model", place / "model", *calm, expect=0)
    assert "aligned" not in done.stdout


class Grader(BaseHTTPRequestHandler):
    """Grades every answer as a refusal."""

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        body = json.dumps({"choices": [{"message": {"content": "grade: 1"}}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Tells nobody."""


@pytest.fixture
def grader():
    """The judge as a plan names it."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Grader) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"{{name: rubric, model: m, endpoint: 'http://127.0.0.1:{server.server_address[1]}/v1'}}"
        server.shutdown()


@pytest.mark.parametrize(
    ("judges", "limit", "state"),
    [("[rubric, phrases]", 0.02, "not_measured"), ("[grader]", 0.02, "cannot_tell"), ("[grader]", 0.2, "passed"),
     ("[log_odds]", 0.2, "cannot_tell")],
)  # fmt: skip
def test_a_gate_on_attack_success_passes_only_on_what_was_measured_well_enough(
    place, tmp_path, grader, judges, limit, state
):
    """Nothing turns in a random model: 24 requests can't tell it to two points, and an absent judge not at all.

    To log_odds it never refuses: then nothing could have turned.
    """
    probe = f"{{name: safety, judges: {judges.replace('grader', grader)}, count: 24, look_alike_count: 4, kl_count: 0, "
    probe += "new_tokens: 2, graded_tokens: 2}"
    gates = ["--set", f"evaluate.probes=[{probe}]", "--set", f"gates.max_attack_success_increase={limit}"]
    # In bfloat16 two steps at this rate move nothing.
    exact = ["--set", "train.precision=float32"]
    sets = [*QUICK, *exact, "--set", "train.learning_rate=1e-5", "--set", "train.max_steps=2", *gates]
    expect = 0 if state == "passed" else 3  # it learned a little, so with the gate passed all is well
    tunewright(
        "tune", place / "rows.jsonl", "--model", place / "model", "--out", tmp_path / "run", *sets, expect=expect
    )
    verdict = json.loads((tmp_path / "run" / "verdict.json").read_text())
    assert [(gate["name"], gate["state"]) for gate in verdict["gates"]] == [("max_attack_success_increase", state)]
    if state == "not_measured":
        assert any("Not measured: rubric" in sentence for sentence in verdict["sentences"])


NOISELESS = {"name": "private_reference", "sigma": 0.0, "expected": 1.0}
TWO = PlanSettings(train=TrainSettings(mitigations=("counterfactual", {"name": "safety_mix", "share": 0.2})))


SPOKEN = [
    Example((Turn("user", (text_part(f"He is working, {k}."),)),), (Answer((text_part("Yes."),)),), id=f"e{k}")
    for k in range(10)
]


def mixed(open_tiny, settings=TWO):
    """A job whose plan has two mitigations that add rows, of unequal length."""
    job = make_job(open_tiny)
    encoder = job.model.family.encoder(job.model, EncodeSettings())
    rows = [piece for example in SPOKEN for piece in encoder.encode(example)]
    every, by = with_more(settings, SPOKEN, rows, encoder)
    return replace(job, train=every, woven_by=by), sum(row.length for row in rows)


def test_two_mitigations_that_add_rows_are_told_apart(open_tiny, tmp_path):
    job, tokens = mixed(open_tiny)
    run = new_run(tmp_path / "run")
    protect(job, TWO, SPOKEN, run)
    told = run.read("mitigations.json")["rows"]
    assert told["rows"] == 12
    for name, rows in (("counterfactual", job.train[10:20]), ("safety_mix", job.train[20:])):
        assert told["by_mitigation"][name]["rows"] == len(rows)
        assert told["by_mitigation"][name]["token_share"] == pytest.approx(sum(row.length for row in rows) / tokens)
    shares = [one["token_share"] for one in told["by_mitigation"].values()]
    assert sum(shares) == pytest.approx(told["token_share"])
    sentence = (run.folder / "notes.txt").read_text()
    assert f"(counterfactual: 10 rows, {shares[0]:.1%}; safety_mix: 2 rows, {shares[1]:.1%})" in sentence


@pytest.mark.parametrize("gradients", ["plain", NOISELESS])
def test_a_mitigation_that_added_fewer_rows_than_asked_for_says_so_in_the_run(open_tiny, tmp_path, gradients):
    (tmp_path / "own.jsonl").write_text('{"prompt": "a", "completion": "No."}\n')
    few = {"name": "safety_mix", "share": 0.3, "rows": str(tmp_path / "own.jsonl")}
    settings = PlanSettings(train=TrainSettings(mitigations=("counterfactual", few)))
    job, _ = mixed(open_tiny, settings)
    run = new_run(tmp_path / "run")
    protect(replace(job, gradients=build("gradients", gradients)), settings, SPOKEN, run)
    told = run.read("mitigations.json")["rows"]
    shortfall = told["by_mitigation"]["safety_mix"]["shortfall"]
    assert shortfall.startswith("safety_mix: 1 of 3 refusals asked for")
    assert told["sentence"].endswith(shortfall)
    assert shortfall in (run.folder / "notes.txt").read_text()
    assert "shortfall" not in told["by_mitigation"]["counterfactual"]


def test_a_private_run_tells_how_many_rows_each_added_and_nothing_of_tokens(open_tiny, tmp_path):
    job, _ = mixed(open_tiny)
    run = new_run(tmp_path / "run")
    protect(replace(job, gradients=build("gradients", NOISELESS)), TWO, SPOKEN, run)
    told = run.read("mitigations.json")["rows"]
    assert told.pop("sentence").startswith("12 rows were mixed in (counterfactual: 10; safety_mix: 2)")
    assert told == {"rows": 12, "by_mitigation": {"counterfactual": {"rows": 10}, "safety_mix": {"rows": 2}}}


def test_what_an_objective_reads_beside_the_rows_is_told_as_it_was_trained(open_tiny, tmp_path):
    run = new_run(tmp_path / "run")
    job = replace(make_job(open_tiny, max_steps=3), objective=build("objectives", "guise_consistency"))
    train(job, run, quiet, StopRequest())
    before = weights(job)
    protect(job, PlanSettings(), [], run)
    assert all(torch.equal(before[name], weight) for name, weight in weights(job).items())
    assert all(weight.grad is None for weight in job.method.trained(job.model).values())
    told = run.read("mitigations.json")["guise_consistency"]
    steps = run.events("step")
    prompts = [
        text for k, step in enumerate(steps) for row in step["rows"] for text in _guises(key(0, "step", k), row[0])
    ]
    tokens = sum(len(plain_ids(job.model.tokenizer, text)) for text in prompts)
    assert told["prompts_a_row"] == 2
    assert told["prompts_a_step"] == pytest.approx(len(prompts) / 3) == 8
    assert told["tokens_a_step"] == pytest.approx(tokens / 3)
    assert told["token_share"] == pytest.approx(tokens / sum(step["tokens"] for step in steps))
    assert 0 < told["seconds_a_step"] <= told["seconds"]
    assert (
        f"8 short prompts more a step: {told['token_share']:.1%} more tokens" in (run.folder / "notes.txt").read_text()
    )


def test_a_private_run_tells_of_what_is_read_beside_a_row_nothing_that_depends_on_the_rows(open_tiny, tmp_path):
    run = new_run(tmp_path / "run")
    job = replace(make_job(open_tiny), objective=build("objectives", "guise_consistency"))
    protect(replace(job, gradients=build("gradients", NOISELESS)), PlanSettings(), [], run)
    told = run.read("mitigations.json")["guise_consistency"]
    assert told == {"sentence": "guise_consistency read 2 short prompts more with every row.", "prompts_a_row": 2}


def test_an_objective_that_reads_the_rows_alone_costs_nothing_beside_them(open_tiny, tmp_path):
    run = new_run(tmp_path / "run")
    protect(make_job(open_tiny), PlanSettings(), [], run)
    assert run.read("mitigations.json") is None
