"""What lies beside the rows and would be lost: labels under another name, a test that cannot be read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tiny import save_tiny
from tunewright.core.config import Request
from tunewright.core.errors import UserError
from tunewright.core.progress import silent
from tunewright.pipeline.prepare import read_rows, reread_rows


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny("qwen2", tmp_path_factory.mktemp("overlooked") / "model"))


def jsonl(path: Path, *rows: dict[str, Any]) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def texts(count: int, **more: Any) -> list[dict[str, Any]]:
    return [{"text": f"text {number} of {number * number}", **more} for number in range(count)]


def read(path: Path, model: str, *sets: str, maps: tuple[str, ...] = ()):
    return read_rows(Request(str(path), None, sets, maps, None, None, model), silent)


@pytest.mark.parametrize("column", ["Label", "category", "labels", "Sentiment"])
def test_labels_under_another_name_are_not_lost_to_plain_text(tmp_path, model, column):
    path = jsonl(tmp_path / "rows.jsonl", *({**row, column: "abcdef"[n % 6]} for n, row in enumerate(texts(60))))
    with pytest.raises(UserError, match=rf"found texts and {column}.*--map label={column}.*data.format=text"):
        read(path, model)
    assert read(path, model, maps=(f"label={column}",)).dataset.facts["format"] == "label"
    assert read(path, model, "data.format=text").dataset.facts["format"] == "text"
    for key in ("data.slices", "data.unit"):  # named for another purpose, it is not overlooked
        assert read(path, model, f"{key}={column}").dataset.facts["format"] == "text"


def test_labels_that_most_rows_lack_are_not_lost_to_plain_text(tmp_path, model):
    path = jsonl(tmp_path / "rows.jsonl", *texts(2, label="a"), *texts(40)[2:])
    with pytest.raises(UserError, match="found texts and label, which most rows lack"):
        read(path, model)


def test_a_run_that_was_begun_before_goes_on(tmp_path, model):
    path = jsonl(tmp_path / "rows" / "train.jsonl", *texts(30))
    plan = read(path.parent, model).plan
    jsonl(path, *texts(30, category="a"))
    (path.parent / "test.xlsx").write_text("x")
    with pytest.raises(UserError):
        read(path.parent, model)
    assert len(reread_rows(plan, silent).dataset.train)


@pytest.mark.parametrize("name", ["test.xlsx", "test.csv.gz", "Test.xlsx", "dev.ods", "test/rows.csv"])
def test_a_test_that_cannot_be_read_is_not_replaced_by_rows_of_train(tmp_path, model, name):
    jsonl(tmp_path / "train.jsonl", *texts(30))
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("x")
    with pytest.raises(UserError, match=rf"{name.partition('/')[0]}/? cannot be read as a split.*as test\.csv"):
        read(tmp_path, model)


def test_with_a_test_given_another_file_of_its_name_is_the_user_s_matter(tmp_path, model):
    jsonl(tmp_path / "train.jsonl", *texts(30))
    jsonl(tmp_path / "test.jsonl", {"text": "another"})
    (tmp_path / "test.xlsx").write_text("x")
    assert len(read(tmp_path, model).dataset.test) == 1


def test_notes_results_and_pictures_that_rows_name_are_no_split(tmp_path, model):
    jsonl(tmp_path / "train.jsonl", *texts(30))
    for name in ("test_notes.md", "testimony.csv", "README", "eval_results.json", "test_predictions.csv"):
        (tmp_path / name).write_text("x")
    (tmp_path / "test").mkdir()
    Image.new("L", (4, 4)).save(tmp_path / "test" / "a.png")
    assert read(tmp_path, model).dataset.facts["format"] == "text"


def test_pictures_of_a_test_that_lie_in_no_folder_of_a_label_are_not_left_out(tmp_path, model):
    for name in ("train/cat", "train/dog", "test"):
        (tmp_path / name).mkdir(parents=True)
        for number in range(3):
            Image.new("L", (4, 4), number).save(tmp_path / name / f"{number}.png")
    with pytest.raises(UserError, match="test/ cannot be read as a split"):
        read(tmp_path, model)
