"""A table of careers goes the whole way: text, training, judgement, prediction; folded training equals its rows."""

from __future__ import annotations

import csv
import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tiny import save_tiny
from tunewright.core.config import Request
from tunewright.core.errors import UserError
from tunewright.core.progress import silent
from tunewright.core.settings import DataSettings
from tunewright.core.store import Run, each_event
from tunewright.data.dataset import open_dataset
from tunewright.data.folding import folded
from tunewright.evaluate.kept import answers_key, labels_key, rows_key
from tunewright.models.contracts import EncodeSettings
from tunewright.models.features import last_hidden
from tunewright.pipeline.check import check
from tunewright.pipeline.embedding import _fitted
from tunewright.pipeline.example_data import write_rows
from tunewright.pipeline.labour_market import Market
from tunewright.pipeline.predict import predict
from tunewright.pipeline.score import _answer_ids, score
from tunewright.pipeline.train import train
from tunewright.pipeline.tune import tune

AROUND = (" ", "\n")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("careers")
    save_tiny("qwen2", folder / "model")
    write_rows(folder / "careers.csv", Market(1).records(40, years=5, law=True))
    write_rows(folder / "pool.csv", Market(2).records(12, years=5))
    return folder


@pytest.fixture
def dataset(place: Path):
    return open_dataset(DataSettings(path=str(place / "careers.csv"), format="careers"))


def test_ablations_are_one_test_in_other_words_where_the_split_is_by_time(place: Path, dataset):
    def opened(**options: object):
        settings = DataSettings(
            path=str(place / "careers.csv"), format="careers", options={"test_from": 1994, **options}
        )
        return open_dataset(settings)

    whole = opened()
    for ablation in ({"history": 2}, {"demographics": False}):
        rows = opened(**ablation).test
        assert rows_key(rows) != rows_key(whole.test)
        assert answers_key(rows) == answers_key(whole.test)
    codes = opened(titles="codes")
    assert answers_key(codes.test) != answers_key(whole.test)
    assert labels_key(codes.labels) != labels_key(whole.labels) == labels_key(dataset.labels[::-1])


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("loss_on", ["answers", "last"])
def test_a_folded_career_has_the_loss_of_its_rows_token_by_token(open_tiny, dataset, kind, loss_on):
    model = open_tiny(kind, torch.float64)
    encoder = model.family.encoder(model, EncodeSettings(around=AROUND, loss_on=loss_on))

    def totals(rows):
        encoded = [piece for row in rows for piece in encoder.encode(row)]
        batch = model.family.collate(model, encoded)
        lost = -model.family.token_log_probs(model, batch)
        weight = batch.targets.weight_T.double()
        return float((lost * weight).sum()), float(weight.sum()), sum(row.length for row in encoded)

    rows = [row for row in dataset.train if row.unit in {dataset.train[0].unit, dataset.train[-1].unit}]
    whole = folded(rows)
    assert (len(rows), len(whole)) == (8, 2)
    (loss, count, tokens), (apart, counted, read) = totals(whole), totals(rows)
    if loss_on == "answers":
        assert loss == pytest.approx(apart, rel=1e-9)
        assert count == counted
        assert tokens < read / 2
    else:  # the last title alone: what evaluation asks of a row
        assert count < counted


def test_only_titles_and_their_ends_are_trained_and_all_tokens_if_asked(open_tiny, dataset):
    model = open_tiny("llama")
    (row,) = folded([one for one in dataset.train if one.unit == dataset.train[0].unit])
    for loss_on, wanted in (("answers", None), ("all", 1.0)):
        encoder = model.family.encoder(model, EncodeSettings(around=AROUND, loss_on=loss_on))
        (piece,) = encoder.encode(row)
        spans = encoder.render(piece)
        trained = "".join(span.text for span in spans if span.trained)
        if wanted is None:
            titles = [*(t.extra["title"] for t in row.context if t.weight), row.answer.text]
            assert trained == "".join(f" {title}\n" for title in titles)
            assert "".join(span.text for span in spans).endswith(f" {row.answer.text}\nEnd of the record.")
        else:
            assert len(piece.targets) == piece.length - 1
        assert piece.notes["stop_trained"]


def test_the_features_of_a_context_are_those_of_a_plain_forward(open_tiny, dataset):
    model = open_tiny("llama")
    encoder = model.family.encoder(model, EncodeSettings(around=AROUND))
    contexts = [encoder.context_ids(example) for example in dataset.train[:9]]
    plain = open_tiny("llama").module
    plain.set_attn_implementation("eager")
    for context, found in zip(contexts, last_hidden(model, contexts), strict=True):
        with torch.no_grad():
            out = plain(input_ids=torch.tensor([context]), output_hidden_states=True, use_cache=False)
        np.testing.assert_allclose(found, out.hidden_states[-1][0, -1].numpy(), atol=1e-4)


@pytest.fixture(scope="module")
def run(place: Path) -> Path:
    sets = (
        "train.threads=1", "evaluate.probes=[]", "method=full", "train.learning_rate=0.004", "train.num_train_epochs=2",
        f"data.pool={place / 'pool.csv'}", "data.slices=[gender]", "evaluate.resamples=200",
        "evaluate.baselines=[uniform, prior, bigram, career_network, career_network_pooled, oracle, tuned_logit]",
    )  # fmt: skip
    tune(Request(str(place / "careers.csv"), None, sets, (), place / "run", "careers", str(place / "model")))
    return place / "run"


def test_the_logit_on_features_counts_what_rows_stand_for():
    features, answers = np.zeros((6, 2), dtype=np.float32), np.array([0, 0, 0, 0, 1, 1])
    for weights, share in ((np.ones(6), 1 / 3), (np.array([0.5, 0.5, 0.5, 0.5, 2.0, 2.0]), 2 / 3)):
        fit = _fitted(features, answers, weights, 100.0)
        assert fit.predict_proba(features)[0, 1] == pytest.approx(share, abs=1e-3)


@pytest.mark.parametrize("history", [None, 2])
def test_loss_on_the_last_answer_of_each_row_is_loss_on_every_title(place: Path, tmp_path: Path, history):
    """Rows of a career train as one row, in which the last answer of each of them stands."""
    counts = {}
    for loss_on in ("answers", "last"):
        sets = ("train.threads=1", "train.max_steps=1", "train.per_device_train_batch_size=64", "evaluate.probes=[]")
        sets += (f"objective={{name: next_token, loss_on: {loss_on}}}",)
        sets += (f"data.options.history={history}",) if history else ()
        out = tmp_path / loss_on
        train(Request(str(place / "careers.csv"), None, sets, (), out, "careers", str(place / "model")), silent)
        step = next(event for event in each_event(Run(out), "step"))
        counts[loss_on] = step["count"], step["loss_sum"]
    assert counts["answers"] == counts["last"]


def test_by_year_people_stand_on_both_sides_and_no_line_is_learned_that_validates(place: Path):
    table, model = str(place / "careers.csv"), str(place / "model")
    sets = ("train.threads=1", "data.options.test_from=1994")
    result = check(Request(table, None, sets, (), None, "careers", model))
    told = "\n".join(result.lines)
    assert "split by year, so people stand on both sides, as planned" in told
    assert "none overlaps" not in told
    with pytest.raises(UserError, match="splits go by year: the lines of earlier years"):
        check(Request(table, None, (*sets, "objective.loss_on=all"), (), None, "careers", model))


@pytest.mark.parametrize("jobs", [["Student", "Cook"], ["Student", "Cook", "Baker"]])
def test_both_logits_answer_also_where_training_rows_have_one_title(place: Path, tmp_path: Path, jobs):
    lines = [
        f"{person},{1990 + year},{jobs[0] if not year else jobs[1 + (person + year) % (len(jobs) - 1)]}"
        for person in range(60)
        for year in range(3)
    ]
    (tmp_path / "rows.csv").write_text("\n".join(["person,year,occupation", *lines]) + "\n")
    sets = ("train.threads=1", "train.max_steps=1", "evaluate.probes=[]", "evaluate.resamples=200")
    sets += ("evaluate.baselines=[frozen_logit, tuned_logit]",)
    tune(Request(str(tmp_path / "rows.csv"), None, sets, (), tmp_path / "run", "careers", str(place / "model")))
    found = {
        metric["name"]: metric for metric in json.loads((tmp_path / "run" / "verdict.json").read_text())["metrics"]
    }
    assert {"frozen_logit", "tuned_logit"} <= found["accuracy"]["baselines"].keys()


def test_one_command_trains_judges_and_sets_every_baseline_beside_it(run: Path):
    found = {metric["name"]: metric for metric in json.loads((run / "verdict.json").read_text())["metrics"]}
    assert found["move_auc"]["n"] == 8
    for name in ("perplexity_renormalised", "accuracy", "move_auc", "move_ece"):
        assert set(found[name]["baselines"]) == {
            "uniform", "prior", "bigram", "career_network", "career_network_pooled", "oracle", "tuned_logit",
        }  # fmt: skip
    data = json.loads((run / "data.json").read_text())
    assert data["facts"]["counts"] == {"train": 28 * 4 + 12 * 4, "valid": 16, "test": 32}
    assert data["encoding"]["rows"] == 28 + 12
    assert data["encoding"]["dropped_rows"] == []
    assert data["encoding"]["stop_trained"] == 1.0
    assert "Are moves as frequent as foreseen?" in (run / "report.html").read_text()
    assert "Suspected wrong labels" not in (run / "report.html").read_text()
    validated = json.loads((run / "evaluations" / "validation.json").read_text())["rows"]
    assert [row["weight"] for row in validated] == [1.0] * 16


def test_people_who_all_stay_leave_a_metric_of_moves_without_a_value_and_not_the_run_without_a_verdict(
    place: Path, tmp_path: Path
):
    def told(name: str, *sets: str):
        usual = ("train.threads=1", "evaluate.probes=[]", "evaluate.baselines=[uniform]", "train.max_steps=1")
        model = str(place / "model")
        return Request(str(tmp_path / "rows"), None, (*usual, *sets), (), tmp_path / name, "careers", model)

    (tmp_path / "rows").mkdir()
    for name, first, last, jobs in (
        ("train", 0, 30, ["Cook", "Baker"]), ("valid", 30, 40, ["Cook", "Baker"]), ("test", 40, 60, ["Cook"])
    ):  # fmt: skip
        lines = [
            f"{person},{1990 + year},{jobs[(person + year) % len(jobs)]}"
            for person in range(first, last)
            for year in range(3)
        ]
        (tmp_path / "rows" / f"{name}.csv").write_text("\n".join(["person,year,occupation", *lines]) + "\n")
    tune(told("run"))
    verdict = json.loads((tmp_path / "run" / "verdict.json").read_text())
    assert "move_auc" not in {metric["name"] for metric in verdict["metrics"]}
    assert any("MoveAuc has no value on these 40 rows" in sentence for sentence in verdict["sentences"])
    with pytest.raises(UserError, match=r"evaluate.primary: move_auc has no value on these 40 test rows"):
        tune(told("other", "evaluate.primary=[move_auc]"))
    assert not (tmp_path / "other" / "model").exists()


def test_the_benchmark_tells_each_baseline_with_its_interval(run: Path, capsys: pytest.CaptureFixture[str]):
    file = Path(__file__).parents[2] / "benchmarks" / "careers.py"
    spec = importlib.util.spec_from_file_location("careers_benchmark", file)
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    row, found = benchmark.line(run), benchmark.figure(run)
    said = benchmark.told(row)
    assert row["margins"].keys() == found["baselines"].keys() > {"bigram", "career_network"}
    for name, (low, high) in found["margins"].items():
        assert f"{name} {found['baselines'][name]:.3f} (tuned {low:+.3f} to {high:+.3f})" in said
    assert {"accuracy", "move_auc", "move_ece"} <= row["others"].keys()
    assert f"move_auc {row['others']['move_auc']['tuned']:.3f} (untuned " in said
    note = run.with_name(f"{run.name}.asked")
    with pytest.raises(SystemExit, match="was made under other settings or rows"):
        benchmark.tune([], run)  # nothing says under which
    note.write_text(benchmark.digest([], benchmark.file_digest([])))
    assert benchmark.tune([], run) == row, "a run that is there is read"
    with pytest.raises(SystemExit, match="was made under other settings or rows"):
        benchmark.tune(["--set", "seed=1"], run)


def test_prediction_answers_each_row_from_the_rows_above_it(run: Path, tmp_path: Path):
    rows = ["person,year,occupation,gender", "x,1990,Cook,male", "x,1991,Waiter,male", "x,1993,,male"]
    (tmp_path / "new.csv").write_text("\n".join(rows) + "\n")
    predict(run, tmp_path / "new.csv", tmp_path / "out.csv")
    with open(tmp_path / "out.csv", newline="") as file:
        found = list(csv.DictReader(file))
    assert [row["year"] for row in found] == ["1990", "1991", "1993"]
    assert all(0 < float(row["probability"]) <= 1 for row in found)
    assert [row["prediction_note"] for row in found] == ["no record before it to foresee it from", "", ""]
    predict(run, tmp_path / "new.csv", tmp_path / "every.csv", every=True)
    with open(tmp_path / "every.csv", newline="") as file:
        more = list(csv.DictReader(file))
    assert [{name: row[name] for name in found[0]} for row in more] == found
    labels = set(json.loads((run / "data.json").read_text())["facts"]["labels"])
    for row in more:
        shares = json.loads(row["probabilities"])
        assert shares.keys() == labels
        assert sum(shares.values()) == pytest.approx(1, abs=1e-4)
        assert max(shares, key=shares.__getitem__) == row["prediction"]


def test_an_answer_that_is_scored_ends_as_the_run_ends_its_titles(run: Path, tmp_path: Path):
    """With the newline behind a title, not with the template's end, which no career was trained on."""
    context = "The career of one person, one line a year.\n1990: Cook\n1991:"
    (tmp_path / "rows.jsonl").write_text(json.dumps({"context": context, "answers": [" Cook", " Waiter"]}))
    (tmp_path / "ended.jsonl").write_text(json.dumps({"context": context, "answers": [" Cook\n", " Waiter\n"]}))
    score(None, run, tmp_path / "rows.jsonl", tmp_path / "a.json", terminator=True)
    score(None, run, tmp_path / "ended.jsonl", tmp_path / "b.json")
    a, b = (json.loads((tmp_path / name).read_text())["rows"][0]["log_probs"] for name in ("a.json", "b.json"))
    assert a == b
    joins = SimpleNamespace(  # a tokenizer that has one token for a bracket with the newline behind it
        text_ids=lambda text: list(map(ord, text.replace(")\n", "X"))), stop_ids=lambda: [ord("\n")]
    )
    model = SimpleNamespace(family=SimpleNamespace(encoder=lambda model, settings: joins))
    assert _answer_ids(model, Run.open(run), True)("Cook (1)") == list(map(ord, "Cook (1)\n")), "apart, as in training"
