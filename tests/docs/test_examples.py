"""Rows and plugins shown in the documentation do what the pages say of them."""

from __future__ import annotations

import csv
import importlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from docs.pages import blocks, text_of
from tunewright.core import plugins
from tunewright.core.records import Example
from tunewright.core.settings import DataSettings
from tunewright.data import named_columns
from tunewright.data.formats import How
from tunewright.data.reading import open_file
from tunewright.evaluate.bootstrap import compare
from tunewright.evaluate.contracts import Outcome

PAGE = text_of("docs/formats.md")
HEADINGS = re.split(r"^## (\w+)\n", PAGE, flags=re.MULTILINE)
ROWS = {
    name: json.loads(blocks(text, "json")[0])
    for name, text in zip(HEADINGS[1::2], HEADINGS[2::2], strict=True)
    if blocks(text, "json")
}


def inside(kind: str) -> list[str]:
    return [p.plugin_name() for p in plugins.everything(kind) if p.__module__.startswith("tunewright.")]


def test_every_format_has_a_row_and_no_other_is_shown() -> None:
    assert sorted(ROWS) == inside("formats")


@pytest.mark.parametrize("name", ROWS)
def test_a_row_is_read_as_the_format_it_stands_under(name: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = ROWS[name] if isinstance(ROWS[name], list) else [ROWS[name]]  # a table's example is made of several
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    opened = open_file(path, DataSettings(path=str(path)))
    (read,) = opened.rows
    assert opened.format == name
    assert isinstance(read.result, Example), read.result
    assert read.result.answer.text


def test_a_row_may_stand_in_a_csv(tmp_path: Path) -> None:
    with open(tmp_path / "rows.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(ROWS["label"]))
        writer.writeheader()
        writer.writerow(ROWS["label"])
    opened = open_file(tmp_path / "rows.csv", DataSettings())
    (read,) = opened.rows
    assert isinstance(read.result, Example)
    assert (opened.format, read.result.unit) == ("label", ROWS["label"]["unit"])


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package made of the code blocks of the page, with the entry points of the page."""
    page = text_of("docs/adding-a-plugin.md")
    metric, format_ = blocks(page, "python")
    (points,) = blocks(page, "toml")
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_package" / "__init__.py").touch()
    (tmp_path / "my_package" / "answer_length.py").write_text(metric, encoding="utf-8")
    (tmp_path / "my_package" / "register.py").write_text(format_, encoding="utf-8")
    info = tmp_path / "my_package-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1\n", encoding="utf-8")
    written = re.sub(r'\[project\.entry-points\."(.*)"\]', r"[\1]", points).replace('"', "")
    (info / "entry_points.txt").write_text(written, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    named_columns.known_formats.cache_clear()
    yield
    monkeypatch.undo()
    named_columns.known_formats.cache_clear()
    for name in [name for name in sys.modules if name.split(".")[0] == "my_package"]:
        del sys.modules[name]


@pytest.mark.usefixtures("outside")
def test_the_metric_of_the_page_works_and_weighs_rows_rightly() -> None:
    metric = plugins.build("metrics", "answer_length")
    assert "answer_length" in plugins.names("metrics")
    example = Example((), ())
    texts = ["no", "perhaps", "certainly not", "yes"]
    records = np.array([metric.record(Outcome(example, text=text), ()) for text in texts])
    assert metric.record(Outcome(example), ()) is None
    doubled = metric.summarise(records, np.array([[2.0, 1.0, 0.0, 1.0]]))
    assert doubled == pytest.approx([(2 + 2 + 7 + 3) / 4])
    longer = records + 3
    found = compare(metric, np.repeat(records, 8, 0), np.repeat(longer, 8, 0), [f"u{i}" for i in range(32)], 0, 200)
    assert found.difference == pytest.approx(3)
    assert found.decision == "worse"


@pytest.mark.usefixtures("outside")
def test_the_format_of_the_page_reads_rows_and_tells_faults(tmp_path: Path) -> None:
    rows = [{"facts": "No rent was paid.", "ruling": "eviction", "case": "c1"}, {"facts": 3, "ruling": "none"}]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    opened = open_file(path, DataSettings())
    good, bad = [read.result for read in opened.rows]
    assert opened.format == "register"
    assert isinstance(good, Example)
    assert (good.unit, good.answer.text, good.label) == ("c1", "eviction", True)
    assert "line 2, field 'facts'" in str(bad)
    lenient = plugins.build("formats", "register").parse({"facts": "x"}, How(answers_needed=False))
    assert lenient.answers == ()
