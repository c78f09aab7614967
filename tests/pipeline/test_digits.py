"""The digits example is made here, once, and can be tuned."""

from __future__ import annotations

import json

import pytest

from tunewright.models.families.image_classifier import Shape
from tunewright.pipeline import digits
from tunewright.pipeline.fetch import fetch


@pytest.fixture(autouse=True)
def _small(monkeypatch, tmp_path):
    monkeypatch.setenv("TUNEWRIGHT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(digits, "_STEPS", 3)


def test_fetching_it_makes_rows_and_a_network_that_knows_the_other_digits_labels():
    said: list[str] = []
    folder = fetch("digits", said.append)
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    assert {row["label"] for row in rows} == set("56789")
    assert len(rows) == 896
    assert all(0 <= value <= 255 for row in rows[:20] for line in row["image"] for value in line)
    assert Shape.read(folder / "model") == digits.shape("56789")
    assert sorted(path.name for path in folder.iterdir()) == ["before.jsonl", "model", "rows.jsonl", "tunewright.json"]
    assert len(said) == 2
    assert fetch("digits", said.append) == folder
    assert len(said) == 2
