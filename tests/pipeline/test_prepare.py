"""What is made ready for training is fit for it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from torch import nn

from tiny import save_tiny
from train.test_loop import make_job
from tunewright.core.config import Request
from tunewright.core.errors import UserError
from tunewright.core.progress import silent
from tunewright.data.canaries import Canaries, Mould
from tunewright.data.encoded_rows import EncodedRows
from tunewright.pipeline.obstacles import counting
from tunewright.pipeline.prepare import _able_to_choose, mould_of, prepare, read_rows


def test_validation_rows_of_no_weight_are_refused_and_one_that_counts_is_enough(open_tiny):
    rows = make_job(open_tiny).train[:3]
    weights = [(0.0, 0.0, 0.0), (0.0, 1.0, 0.0), ()]
    made = []
    for given in weights:
        kept = EncodedRows([row.example for row in rows])
        for number, weight in enumerate(given):
            kept.append(number, replace(rows[number], weights=rows[number].weights * weight))
        made.append(kept)
    with pytest.raises(UserError, match="All 3 validation rows have weight 0"):
        _able_to_choose(made[0])
    assert [len(_able_to_choose(kept)) for kept in made[1:]] == [3, 0]


def test_a_model_that_learns_beside_its_weights_is_refused_by_the_name_of_the_part(open_tiny):
    model = open_tiny("llama")
    assert counting(model) == []
    kept = model.with_module(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)))
    (said,) = counting(kept)
    assert said.startswith("model: 1 of ")
    assert "running statistics" in said
    assert counting(model.with_module(nn.Sequential(nn.BatchNorm1d(4, track_running_stats=False)))) == []


def test_canaries_look_alike_though_the_row_they_are_made_after_was_dropped(tmp_path, monkeypatch):
    """Training plants canaries before rows are dropped, the audit makes them again afterwards."""
    save_tiny("qwen2", tmp_path / "model")
    turns = [[{"role": "user", "content": f"What is {n}?"}, {"role": "assistant", "content": "So."}] for n in range(40)]
    long = [[{"role": "assistant", "content": f"word {n} " * 100}] for n in range(100)]
    for name, given in (("train", [*long, *turns[:30]]), ("test", turns[30:])):
        lines = [json.dumps({"messages": messages}) for messages in given]
        (tmp_path / "rows").mkdir(exist_ok=True)
        (tmp_path / "rows" / f"{name}.jsonl").write_text("\n".join(lines))
    planted: list[Mould] = []
    monkeypatch.setattr(Canaries, "included", lambda self, mould: planted.append(mould) or ())
    sets = ("train.max_length=200", "data.on_overlong=drop", "audit.canaries=16")
    request = Request(str(tmp_path / "rows"), None, sets, (), None, None, str(tmp_path / "model"))
    prepared = prepare(read_rows(request, silent), silent)
    assert len(prepared.dataset.train) == 30
    assert planted == [mould_of(prepared)]
    assert planted[0].asks != bool(prepared.dataset.train[0].context), "the first row left is of another shape"


def rows_of(folder, *lengths: int):
    said = [(f"{chr(97 + k) * 3} " * length, f"so {k}") for k, length in enumerate(lengths)]
    turns = [[{"role": "user", "content": q}, {"role": "assistant", "content": a}] for q, a in said]
    for name, given in (("train", turns[:-1]), ("test", turns[-1:])):
        (folder / "rows").mkdir(exist_ok=True)
        lines = [json.dumps({"messages": messages}) for messages in given]
        (folder / "rows" / f"{name}.jsonl").write_text("\n".join(lines))
    save_tiny("qwen2", folder / "model")


@pytest.mark.parametrize("on_overlong", ["error", "drop"])
def test_test_rows_must_fit_behind_the_prompt_that_the_finished_model_is_asked_with(tmp_path, on_overlong):
    rows_of(tmp_path, 2, 3, 4, 20)
    prompt = json.dumps([{"name": "safe_prompt", "prompt": "Be kind and answer in no more than a few words."}])
    plain = ("train.max_length=96", f"data.on_overlong={on_overlong}")

    def prepared(*sets: str):
        request = Request(str(tmp_path / "rows"), None, (*plain, *sets), (), None, None, str(tmp_path / "model"))
        return prepare(read_rows(request, silent), silent)

    assert len(prepared().test) == 1
    if on_overlong == "drop":
        found = prepared(f"train.mitigations={prompt}")
        assert (len(found.test), len(found.train)) == (0, 3)
    else:
        with pytest.raises(UserError, match="max_length"):
            prepared(f"train.mitigations={prompt}")


def test_files_of_probes_are_read_before_training(tmp_path):
    rows_of(tmp_path, 2, 3, 4, 5)
    probes = [
        {"name": "dialect", "pairs": str(tmp_path / "no.tsv")},
        {"name": "safety", "prompts": str(tmp_path / "no.txt")},
    ]
    request = Request(
        str(tmp_path / "rows"),
        None,
        (f"evaluate.probes={json.dumps(probes)}",),
        (),
        None,
        None,
        str(tmp_path / "model"),
    )
    with pytest.raises(UserError) as caught:
        prepare(read_rows(request, silent), silent)
    assert len(caught.value.problems) == 2
    assert "no.tsv does not exist" in caught.value.problems[0]
