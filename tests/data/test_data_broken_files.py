"""Each broken file gets a sentence that names what is wrong, where, and how to mend it."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from broken_files import BROKEN, GOOD, lines, row, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tunewright.core.errors import UserError
from tunewright.core.settings import DataSettings
from tunewright.data import lines as text_lines
from tunewright.data.dataset import open_dataset
from tunewright.data.readers import READERS, BadRows


@pytest.mark.parametrize("name", sorted(BROKEN))
def test_says_what_is_wrong_and_where(name: str, tmp_path: Path) -> None:
    path = write(tmp_path, name)
    with pytest.raises(UserError) as caught:
        open_dataset(DataSettings(path=str(path), **BROKEN[name].settings))
    said = str(caught.value)
    assert [words for words in BROKEN[name].says if words not in said] == [], said


def test_there_are_many() -> None:
    assert len(BROKEN) >= 40


def test_all_bad_rows_are_kept_and_twenty_are_shown(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(lines(*GOOD, *(row(n, label=None) for n in range(30))))
    with pytest.raises(BadRows) as caught:
        open_dataset(DataSettings(path=str(path)))
    assert [bad.line for bad in caught.value.bad] == list(range(9, 39))
    assert len(caught.value.problems) == 22
    assert "10 more bad rows; `tunewright check DATA --out FILE` lists all" in str(caught.value)
    dataset = open_dataset(DataSettings(path=str(path), on_bad_row="skip"))
    assert dataset.facts["rows"] == 8
    assert dataset.facts["dropped"]["bad_rows"] == len(dataset.facts["bad"]) == 30
    assert dataset.facts["bad"][0] == {
        "file": str(path), "line": 9, "field": "label", "found": "nothing", "expected": "text",
        "mend": "fill it in or delete the row", "stops": False,
    }  # fmt: skip


@pytest.mark.parametrize("name", ["open_quote.csv", "cut.json", "no_comma.json"])
def test_skipping_does_not_lose_what_follows_unread(name: str, tmp_path: Path) -> None:
    path = write(tmp_path, name)
    with pytest.raises(BadRows) as caught:
        open_dataset(DataSettings(path=str(path), on_bad_row="skip"))
    assert "on_bad_row" not in str(caught.value)


def test_faults_of_all_files_come_at_once(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_bytes(lines(*GOOD, *(row(n, text=None) for n in range(9, 39))))
    (tmp_path / "valid.jsonl").write_bytes(b"")
    (tmp_path / "test.jsonl").write_bytes("größer\n".encode("utf-16"))
    with pytest.raises(BadRows) as caught:
        open_dataset(DataSettings(path=str(tmp_path)))
    assert len(caught.value.bad) == 30
    said = str(caught.value)
    assert "train.jsonl, line 9" in said
    assert "valid.jsonl is empty" in said
    assert "test.jsonl: found a UTF-16" in said


def test_bad_fields_bear_the_users_column_names(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("review,stars\nfine,5\n,1\n")
    with pytest.raises(UserError, match="line 3, field 'review'"):
        open_dataset(DataSettings(path=str(path), map={"text": "review", "label": "stars"}))


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_an_endless_line_is_refused_without_holding_it(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_lines, "MAX_LINE", 2**20)
    path = tmp_path / f"rows.{kind}"
    head, tail = (b"text,label\none,a\n", b"two,b\n") if kind == "csv" else (lines(row(0)), lines(row(1)))
    path.write_bytes(head + b"x" * (7 * 2**20) + b"\n" + tail)
    at = head.count(b"\n") + 1
    longest = max(len(text or "") for _, text in text_lines.numbered_lines(path))
    assert longest < 100
    assert [n for n, _ in text_lines.numbered_lines(path)] == list(range(1, at + 2))
    with pytest.raises(BadRows, match=f"line {at}: found a line over 1 MB") as caught:
        open_dataset(DataSettings(path=str(path)))
    assert len(caught.value.bad) == 1


@pytest.mark.parametrize("kind", sorted(READERS))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_bytes_are_rows_or_a_sentence(kind: str, tmp_path: Path, data: st.DataObject) -> None:
    whole = (b"text,label\n" if kind in (".csv", ".tsv") else b"") + lines(*GOOD)
    at, end = sorted(data.draw(st.tuples(st.integers(0, len(whole)), st.integers(0, len(whole)))))
    path = tmp_path / f"rows{kind}"
    path.write_bytes(data.draw(st.sampled_from([whole[:at] + whole[end:], b"", whole]))[:at] + data.draw(st.binary()))
    for choice in ("stop", "skip"):
        with contextlib.suppress(UserError):
            assert open_dataset(DataSettings(path=str(path), on_bad_row=choice)).facts["rows"] > 0


def test_no_path_is_said() -> None:
    with pytest.raises(UserError, match="no file was given"):
        open_dataset(DataSettings())
