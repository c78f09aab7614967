"""What `check` says is true of what would be trained, and tells how to find every row."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tiny import save_tiny
from tunewright.core.config import Request
from tunewright.core.errors import UserError
from tunewright.core.progress import silent
from tunewright.core.store import Run
from tunewright.pipeline.check import check, plan
from tunewright.pipeline.example_data import write_rows
from tunewright.pipeline.labour_market import Market
from tunewright.pipeline.prepare import prepare, read_rows
from tunewright.pipeline.summary import data_lines
from tunewright.report.gather import gather

WORDS = {"a": ("apple", "blood"), "b": ("sky", "sea")}
DROP = ("train.max_length=70", "data.on_overlong=drop")
Row = dict[str, Any]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny("qwen2", tmp_path_factory.mktemp("check") / "model"))


def rows(count: int, start: int = 0, label: str = "") -> list[Row]:
    """Label rows of 1 to 14 words."""
    draw = random.Random(start)
    found = []
    for number in range(start, start + count):
        own = label or "ab"[number % 2]
        words = " ".join(draw.choices(WORDS.get(own, ("leaf", "frog")), k=draw.randint(1, 14)))
        found.append({"text": f"{words} {number}", "label": own, "unit": f"u{number}"})
    return found


def write(path: Path, found: list[Row]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in found))
    return path


def request(data: Path, model: str, *sets: str, out: Path | None = None) -> Request:
    return Request(str(data), None, ("train.threads=1", *sets), (), out, None, model)


def said(data: Path, model: str, *sets: str, out: Path | None = None) -> str:
    return "\n".join(check(request(data, model, *sets, out=out)).lines)


@pytest.mark.parametrize(
    ("sets", "told"),
    [
        (("gates.max_attack_success_increase=0.02",), "cannot pass with 24 requests"),
        (("gates.max_attack_success_increase=0.02",), "takes 189: `evaluate.probes: full` asks 200"),
        (("gates.max_attack_success_increase=0.001", "evaluate.probes=full"), "takes 3838: give more"),
        (("gates.max_attack_success_increase=0",), "No number of requests"),
        (("gates.max_covert_bias_increase=0.1", "evaluate.probes=[safety]"), "the probe dialect"),
        (("gates.max_attack_success_increase=0.02", "evaluate.probes=full"), ""),
        (("gates.max_attack_success_increase=0.2", "gates.max_loss_increase=0.1"), ""),
    ],
)
def test_a_gate_that_cannot_pass_is_told_before_training(model, tmp_path, sets, told):
    data = write(tmp_path / "rows.jsonl", rows(60))
    found = [line for line in check(request(data, model, *sets)).lines if "cannot pass" in line]
    assert len(found) == bool(told), found
    assert told in "".join(found)


def test_a_plan_shows_that_a_gate_cannot_pass(model, tmp_path):
    data = write(tmp_path / "rows.jsonl", rows(60))
    sets = ("gates.max_covert_bias_increase=0.1", "evaluate.probes=[]")
    assert any("gates.max_covert_bias_increase cannot pass" in line for line in plan(request(data, model, *sets)).lines)


def test_rows_dropped_as_too_long_are_counted_listed_and_said_for_every_split(model, tmp_path):
    data = write(tmp_path / "rows.jsonl", rows(120))
    asked = request(data, model, *DROP)
    prepared = prepare(read_rows(asked, silent), silent)
    used = {"train": len(prepared.train), "valid": len(prepared.valid), "test": len(prepared.test)}
    facts, encoding = prepared.data["facts"], prepared.data["encoding"]
    left_out = encoding["overlong_dropped"]
    assert all(left_out.values())
    assert facts["counts"] == used
    assert sum(used.values()) + sum(left_out.values()) == 120
    assert facts["dropped"]["overlong"] == sum(left_out.values())
    listed = [*encoding["dropped_rows"], *encoding["dropped_valid_rows"], *encoding["dropped_test_rows"]]
    kept = [row.source for split in ("train", "valid", "test") for row in getattr(prepared.dataset, split)]
    assert sorted([*listed, *kept]) == sorted(f"rows.jsonl:{line}" for line in range(1, 121))
    told = said(data, model, *DROP)
    assert "Rows: {train} train, {valid} valid, {test} test".format(**used) in told
    assert "over max_length (70 tokens): {train} train, {valid} valid, {test} test rows".format(**left_out) in told
    with Run.create(tmp_path / "run", "x") as run:
        run.write("data.json", prepared.data)
    report = str(gather(run))
    assert f"overlong {facts['dropped']['overlong']}" in report
    assert encoding["dropped_test_rows"][0] in report


def test_a_dropped_career_takes_all_its_rows_along(model, tmp_path):
    write_rows(tmp_path / "careers.csv", Market(1).records(40, years=5))
    asked = replace(request(tmp_path / "careers.csv", model, "data.format=careers"), recipe="careers")
    whole = prepare(read_rows(asked, silent), silent)
    longest = max(row.length for row in whole.train)
    asked = replace(asked, sets=(*asked.sets, f"train.max_length={longest - 1}", DROP[1]))
    prepared = prepare(read_rows(asked, silent), silent)
    counts, dropped = prepared.data["facts"]["counts"], prepared.data["encoding"]["dropped_rows"]
    assert len(dropped) == 4 * (len(whole.train) - len(prepared.train)) > 0
    assert counts["train"] == len(prepared.dataset.train) == whole.data["facts"]["counts"]["train"] - len(dropped)


def test_a_private_run_says_how_many_rows_were_dropped_and_not_which(model, tmp_path):
    data = write(tmp_path / "rows.jsonl", rows(240))
    sets = (*DROP, "privacy.target_epsilon=3", "privacy.unit=unit")
    prepared = prepare(read_rows(request(data, model, *sets), silent), silent)
    assert prepared.data["facts"]["counts"]["test"] == len(prepared.test)
    assert "rows.jsonl:" not in json.dumps(prepared.data)
    lines = "\n".join(data_lines(prepared.data))
    assert f"{prepared.data['encoding']['overlong_dropped']['test']} test rows" in lines


def test_a_test_that_is_dropped_whole_stops(model, tmp_path):
    long = [{**row, "text": row["text"] * 20} for row in rows(6, 100)]
    write(tmp_path / "train.jsonl", [{**row, "text": f"n {n}"} for n, row in enumerate(rows(30))])
    write(tmp_path / "test.jsonl", long)
    with pytest.raises(UserError, match="All 6 test rows are over"):
        said(tmp_path, model, *DROP)


def test_test_labels_that_were_never_trained_on_are_warned_of_by_name_and_number(model, tmp_path):
    write(tmp_path / "train.jsonl", rows(30))
    write(tmp_path / "test.jsonl", [*rows(10, 100), *rows(4, 200, "c")])
    told = said(tmp_path, model)
    assert "4 of 14 test rows have labels that no training row has (c)" in told
    assert "Nothing stands in the way" in told


def test_a_test_without_any_trained_label_stops_before_training(model, tmp_path):
    write(tmp_path / "train.jsonl", rows(30))
    write(tmp_path / "test.jsonl", rows(10, 200, "c"))
    with pytest.raises(UserError, match="None of the 10 test rows has a label that is trained on: the test has c, tr"):
        said(tmp_path, model)


def test_split_is_not_advised_where_it_is_set_and_cannot_help(model, tmp_path):
    data = write(tmp_path / "rows.jsonl", rows(60))
    with pytest.raises(UserError) as caught:
        said(data, model, "train.max_length=70", "data.on_overlong=split")
    assert caught.value.problems[-1].endswith("set data.on_overlong to drop or truncate-context.")


def test_contradictions_are_counted_in_rows_and_prompts_and_the_file_that_lists_them_exists(model, tmp_path):
    twice = [{"text": f"same {n} thing", "label": label} for n in range(20) for label in "ab"]
    data = write(tmp_path / "rows.jsonl", [*({k: v for k, v in r.items() if k != "unit"} for r in rows(40)), *twice])
    told = said(data, model)
    assert "40 rows hold contradicting answers to 20 prompts; --out FILE lists them." in told
    assert "data.json" not in told
    out = tmp_path / "found.json"
    assert f"to 20 prompts; see {out}." in said(data, model, out=out)
    assert len(json.loads(out.read_text())["facts"]["contradiction_rows"]) == 20


def test_all_bad_rows_are_in_the_asked_file_though_the_check_fails(model, tmp_path):
    data = write(tmp_path / "rows.jsonl", [*rows(30), *({"text": "", "label": "a", "unit": "u"} for _ in range(40))])
    out = tmp_path / "found.json"
    with pytest.raises(UserError, match=f"20 more bad rows; {out} lists all"):
        said(data, model, out=out)
    assert [bad["line"] for bad in json.loads(out.read_text())["facts"]["bad"]] == list(range(31, 71))
    with pytest.raises(UserError, match="20 more bad rows; `tunewright check DATA --out FILE` lists all"):
        said(data, model)


@pytest.mark.parametrize(
    ("splits", "sentence"),
    [
        ((), "splits made by unit and content"),
        (("valid",), "valid as given, test made of train by unit and content"),
        (("valid", "test"), "splits as given"),
    ],
)
def test_it_is_told_which_splits_were_made_and_which_were_given(model, tmp_path, splits, sentence):
    write(tmp_path / "train.jsonl", rows(40))
    for number, split in enumerate(splits, 1):
        write(tmp_path / f"{split}.jsonl", rows(10, 100 * number))
    assert f"{sentence}, none overlaps" in said(tmp_path if splits else tmp_path / "train.jsonl", model)


def test_facts_are_told_in_plain_words_each_once(model, tmp_path):
    told = said(write(tmp_path / "rows.jsonl", rows(60)), model)
    assert not [word for word in ("{", "}", "[", "'", "None", "True", "False") if word in told]
    labels = [line.strip().split(":")[0] for line in told.splitlines() if line.startswith("  ")]
    assert len(labels) > 30
    assert [label for label in labels if label.startswith("Rows ")][:1] == ["Rows read"]
    assert "  Rows trained on: 42" in told
    assert "sha256" in told


def test_many_rows_that_are_too_long_are_told_as_a_few_and_listed_in_the_file(model, tmp_path):
    found = [{"text": "apple blood " * 60 + str(n), "label": "ab"[n % 2], "unit": f"u{n}"} for n in range(60)]
    data, out = write(tmp_path / "rows.jsonl", found), tmp_path / "found.json"
    with pytest.raises(UserError) as refused:
        said(data, model, "train.max_length=64", out=out)
    problems = refused.value.problems
    assert len([one for one in problems if "rows.jsonl:" in one]) == 20
    assert "... and 40 more like these." in problems
    assert any("data.on_overlong" in one for one in problems)
    assert len(json.loads(out.read_text())["encoding"]["over_max_length_rows"]) == 60
