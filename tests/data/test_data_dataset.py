"""A data set opened whole: its splits, its labels, its facts."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tunewright.core.errors import UserError
from tunewright.core.settings import DataSettings
from tunewright.data.dataset import Dataset, open_dataset


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def labelled(count: int, start: int = 0, **more: Any) -> list[dict[str, Any]]:
    return [{"text": f"sample number {n}", "label": "abc"[n % 3], **more} for n in range(start, start + count)]


def opened(path: Path, seed: int = 0, **more: Any) -> Dataset:
    return open_dataset(DataSettings(path=str(path), **more), seed=seed)


def folder(tmp_path: Path, **files: list[dict[str, Any]]) -> Path:
    for name, rows in files.items():
        write(tmp_path / "data" / f"{name}.jsonl", rows)
    return tmp_path / "data"


def test_a_file_becomes_three_splits_with_labels(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", labelled(100))
    told: list[str] = []
    dataset = open_dataset(
        DataSettings(path=str(path), source="made up", use="tests only"), lambda what, done, total: told.append(what)
    )
    assert [len(rows) for rows in (dataset.train, dataset.valid, dataset.test)] == [70, 10, 20]
    assert dataset.labels == ("a", "b", "c")
    assert not dataset.splits_given
    assert all(row.label for row in dataset.train)
    facts = dataset.facts
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
    assert facts["files"] == [
        {
            "file": str(path),
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "rows": 100,
            "bytes": path.stat().st_size,
        }
    ]
    assert (facts["source"], facts["licence"], facts["consent"], facts["use"]) == (
        "made up",
        "not stated",
        "not stated",
        "tests only",
    )
    assert facts["counts"] == {"train": 70, "valid": 10, "test": 20} == facts["units"]
    assert facts["label_counts"] == {"a": 34, "b": 33, "c": 33}
    assert facts["overlap"] == {"exact": 0, "prompt_only": 0, "near": 0, "unit": 0}
    assert (facts["format"], facts["fingerprint"]) == ("label", dataset.fingerprint)
    assert "looking for duplicates" in told


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(shuffle=st.randoms(use_true_random=False))
def test_the_order_of_rows_in_the_file_changes_nothing(tmp_path: Path, shuffle: random.Random) -> None:
    rows = [*labelled(30), *labelled(3), *labelled(4, start=40, unit="u")]
    straight = opened(write(tmp_path / "rows.jsonl", rows))
    shuffle.shuffle(rows)
    again = opened(write(tmp_path / "rows.jsonl", rows))
    assert again.fingerprint == straight.fingerprint
    for name in ("train", "valid", "test"):
        assert [(e.id, e.prompt_text) for e in getattr(again, name)] == [
            (e.id, e.prompt_text) for e in getattr(straight, name)
        ]


def test_any_change_of_content_or_split_changes_the_fingerprint(tmp_path: Path) -> None:
    rows = labelled(30)
    variants = [
        rows,
        [*rows[:-1], {**rows[-1], "text": "other"}],
        [*rows[:-1], {**rows[-1], "label": "a"}],
        [*rows[:-1], {**rows[-1], "weight": 2}],
        rows[:-1],
    ]
    prints = [opened(write(tmp_path / "rows.jsonl", variant)).fingerprint for variant in variants]
    prints.append(opened(write(tmp_path / "rows.jsonl", rows), seed=1).fingerprint)
    assert len(set(prints)) == len(variants) + 1


def test_ids_are_unique_and_the_users_own_where_given(tmp_path: Path) -> None:
    dataset = opened(write(tmp_path / "rows.jsonl", [*labelled(20), *labelled(5), *labelled(5, start=50, id=None)]))
    ids = [row.id for rows in (dataset.train, dataset.valid, dataset.test) for row in rows]
    assert len(set(ids)) == len(ids) == 30
    rows = [{**row, "id": n} for n, row in enumerate(labelled(9))]
    given = opened(folder(tmp_path, train=rows[:6], test=[{**row, "id": n} for n, row in enumerate(rows[6:])]))
    assert {row.id for row in given.test} == {"test/0", "test/1", "test/2"}
    assert {row.id for row in given.train} == {f"train/{n}" for n in range(6)}


def test_given_splits_are_kept(tmp_path: Path) -> None:
    given = opened(folder(tmp_path, train=labelled(9), dev=labelled(3, 20), test=labelled(4, 30)))
    assert [len(rows) for rows in (given.train, given.valid, given.test)] == [9, 3, 4]
    assert given.splits_given
    names = ["train", "validation", "eval", "test"]
    column = [{**row, "split": names[n % 4]} for n, row in enumerate(labelled(16))]
    by_column = opened(write(tmp_path / "rows.jsonl", column))
    assert [len(rows) for rows in (by_column.train, by_column.valid, by_column.test)] == [4, 8, 4]
    assert by_column.splits_given


def test_a_test_is_made_of_train_when_only_validation_is_given(tmp_path: Path) -> None:
    made = opened(folder(tmp_path, train=labelled(50), val=labelled(5, 100)))
    assert [len(rows) for rows in (made.train, made.valid, made.test)] == [40, 5, 10]
    assert made.facts["splits_made"] == ["test"]
    assert made.splits_given
    kept = opened(folder(tmp_path / "more", train=labelled(50), test=labelled(5, 100)))
    assert [len(rows) for rows in (kept.train, kept.valid, kept.test)] == [50, 0, 5]


@pytest.mark.parametrize(
    ("train", "test", "word"),
    [
        ({"text": "Sample number 77!", "label": "a"}, {"text": "sample number 77", "label": "a"}, "the same row as"),
        ({"text": "sample number 77", "label": "b"}, {"text": "sample number 77", "label": "a"}, "the same prompt as"),
        ({"text": "one", "label": "b", "unit": "u"}, {"text": "two", "label": "a", "unit": "u"}, "the same unit as"),
    ],
)
def test_planted_overlap_stops_or_is_dropped(
    train: dict[str, Any], test: dict[str, Any], word: str, tmp_path: Path
) -> None:
    data = folder(tmp_path, train=[*labelled(9), train], test=[*labelled(3, 20), test])
    with pytest.raises(UserError) as caught:
        opened(data)
    assert f"train.jsonl, line 10 (train) has {word}" in str(caught.value)
    assert "test.jsonl, line 4 (test)" in str(caught.value)
    dataset = opened(data, on_overlap="drop")
    assert (len(dataset.train), len(dataset.test)) == (9, 4)
    assert dataset.facts["dropped"]["overlap"] == 1 == sum(dataset.facts["overlap_given"].values())
    assert sum(dataset.facts["overlap"].values()) == 0


def test_facts_of_what_is_left_are_true_of_it(tmp_path: Path) -> None:
    test = [*labelled(4, 30, unit="u"), {"text": "sample number 99", "label": "z", "unit": "v"}]
    given = opened(folder(tmp_path, train=labelled(9), test=test))
    assert given.facts["labels_unseen_in_train"] == ["z"]
    assert given.facts["test_rows_of_unseen_labels"] == 1
    unseen = next(n for n, row in enumerate(given.test) if row.answer.text == "z")
    left = given.without({"train": [0, 2], "test": [unseen]})
    assert [row.id for row in left.train] == [row.id for n, row in enumerate(given.train) if n not in (0, 2)]
    assert left.facts["counts"] == {"train": 7, "valid": 0, "test": 4}
    assert left.facts["units"] == {"train": 7, "valid": 0, "test": 1}
    assert left.facts["dropped"]["overlong"] == 3
    assert sum(left.facts["label_counts"].values()) == 11
    assert (left.facts["labels_unseen_in_train"], left.facts["test_rows_of_unseen_labels"]) == ([], 0)
    assert left.fingerprint == given.fingerprint
    assert given.without({}) is given


def test_dropping_everything_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing is left"):
        opened(folder(tmp_path, train=labelled(9), test=labelled(9)), on_overlap="drop")


def test_planted_contradictions_and_duplicates_are_in_the_facts(tmp_path: Path) -> None:
    long = " ".join(f"word{n}" for n in range(80))
    rows = [
        *labelled(20),
        {"text": "sample NUMBER 3", "label": "b"},
        {"text": "sample number 4", "label": "b"},
        {"text": f"{long} one", "label": "a"},
        {"text": f"{long} two", "label": "a"},
    ]
    facts = opened(write(tmp_path / "rows.jsonl", rows)).facts
    assert (facts["contradictions"], facts["contradicting_rows"]) == (1, 2)
    assert facts["contradiction_rows"] == [
        {"prompt": "sample number 3", "rows": "rows.jsonl:4, rows.jsonl:21", "answers": "a | b"}
    ]
    assert facts["duplicates"] == {"exact": 1, "near": 2, "coverage": 1.0}
    assert "rows.jsonl:23, rows.jsonl:24" in facts["duplicate_rows"]


@pytest.mark.parametrize(
    ("answers", "closed"),
    [
        (["yes", "no"], ("no", "yes")),
        ([f"class {n}" for n in range(10)], tuple(f"class {n}" for n in range(10))),
        ([f"class {n}" for n in range(11)], None),
        (["yes"], None),
        (["yes", "no " * 13], None),
    ],
)
def test_prompt_rows_have_labels_when_answers_are_few_short_and_frequent(
    answers: list[str], closed: tuple[str, ...] | None, tmp_path: Path
) -> None:
    rows = [{"prompt": f"question {n}", "completion": answers[n % len(answers)]} for n in range(30)]
    dataset = opened(write(tmp_path / "rows.jsonl", rows))
    assert dataset.labels == closed
    assert all(row.label == (closed is not None) for row in (*dataset.train, *dataset.valid, *dataset.test))


def test_train_is_cut_by_content_and_the_cut_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", labelled(100))
    whole, cut = opened(path), opened(path, max_train_rows=20)
    assert cut.train == whole.train[:20]
    assert (cut.valid, cut.test) == (whole.valid, whole.test)
    assert cut.facts["dropped"]["max_train_rows"] == 50
    assert cut.fingerprint != whole.fingerprint


def test_a_share_of_the_rows_is_that_share_of_the_units(tmp_path: Path) -> None:
    notes = [{"text": f"{w} of {n}", "label": "ab"[n % 2], "unit": f"p{n % 40}"} for n in range(400) for w in ("note",)]
    path = write(tmp_path / "rows.jsonl", notes)
    whole = opened(path)
    cut = opened(path, max_train_rows=len(whole.train) // 4)
    units = len({row.unit for row in whole.train})
    assert len({row.unit for row in cut.train}) <= units // 4 + 1
    kept = {row.id for row in cut.train}
    assert [row.id for row in cut.train] == [row.id for row in whole.train if row.id in kept], "in the order they had"


def test_the_instruction_leaves_splits_as_they_are(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", labelled(60))
    plain, instructed = opened(path), opened(path, instruction="Which class?")
    assert [row.id for row in plain.test] == [row.id for row in instructed.test]
    assert {row.prompt_text.partition("\n\n")[0] for row in instructed.test} == {"Which class?"}


def test_text_that_looks_equal_is_equal(tmp_path: Path) -> None:
    data = folder(
        tmp_path,
        train=[*labelled(9), {"text": "Gru\u0308n", "label": "a"}],
        test=[*labelled(3, 20), {"text": "Gr\u00fcn", "label": "a"}],
    )
    with pytest.raises(UserError, match="the same row as"):
        opened(data)


def test_labels_that_train_never_sees_are_told(tmp_path: Path) -> None:
    data = folder(tmp_path, train=labelled(9), test=[*labelled(3, 20), {"text": "new", "label": "z"}])
    dataset = opened(data)
    assert dataset.facts["labels_unseen_in_train"] == ["z"]
    assert dataset.labels == ("a", "b", "c", "z")


def test_labels_that_look_alike_are_told_and_kept(tmp_path: Path) -> None:
    rows = [*labelled(9), {"text": "more", "label": "A"}, {"text": "still more", "label": "a "}]
    dataset = opened(write(tmp_path / "rows.jsonl", rows))
    assert dataset.labels == ("A", "a", "a ", "b", "c")
    assert dataset.facts["labels_alike"] == ["A | a | a "]


def test_reading_needs_no_torch() -> None:
    code = "import sys, tunewright.data.dataset, tunewright.data.checks; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
