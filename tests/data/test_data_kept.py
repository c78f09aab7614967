"""Rows on disk are the rows that were put there, nobody else can open them, and memory does not grow with them."""

from __future__ import annotations

import json
import os
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tunewright.core.errors import UserError
from tunewright.core.files import digest
from tunewright.core.records import Answer, Example, Part, Turn, text_part
from tunewright.core.settings import DataSettings
from tunewright.data import kept
from tunewright.data.content import fingerprint_of
from tunewright.data.dataset import open_dataset
from tunewright.data.encoded_rows import EncodedRows, lengths
from tunewright.data.encoder import Encoded
from tunewright.data.kept import KeptRows, example_file
from tunewright.data.keys import Same, firsts, repeats

PLAIN = Example(
    (Turn("user", (text_part("größer?"),)),), (Answer((text_part("a"), text_part("b")), 1, 0.5),), "7", "f:1"
)
ROWS = [
    PLAIN,
    replace(PLAIN, unit="u", label=True, slices={"age": "old"}),
    replace(PLAIN, tools=({"name": "search", "of": [1, 2.5, None]},)),
    replace(PLAIN, tools=({"since": np.datetime64("2020")},)),
    replace(PLAIN, context=(Turn("user", (Part("audio", np.arange(3.0)),)),)),
    replace(PLAIN, context=(Turn("user", (Part("tags", ("a", "b")),), extra={"name": "Ann"}),)),
    Example((), ()),
]


@pytest.fixture(autouse=True)
def written_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(kept, "HELD", 100)
    monkeypatch.setenv("TUNEWRIGHT_CACHE", str(tmp_path / "cache"))


def test_rows_come_back_as_they_were_put() -> None:
    file = example_file()
    for row in ROWS:
        file.append(row)
    rows = KeptRows(file, lambda number, example: example)
    assert rows == ROWS
    assert rows[4].context[0].parts[0].value.tolist() == [0, 1, 2]
    assert rows[-1] == ROWS[-1]
    assert rows[1:3].change(lambda number, row: (number, row.unit)) == [(1, "u"), (2, None)]
    assert rows != ROWS[:-1]


def test_the_file_has_no_name_and_only_the_user_may_read_it(tmp_path: Path) -> None:
    file = example_file()
    for row in ROWS * 3:
        file.append(row)
    assert file._written > 0
    status = os.fstat(file._file.fileno())
    assert (status.st_nlink, status.st_mode & 0o077) == (0, 0)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_cache_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TUNEWRIGHT_CACHE", str(tmp_path / "file"))
    file = example_file()
    with pytest.raises(UserError, match="TUNEWRIGHT_CACHE"):
        file.append(replace(PLAIN, id="x" * 100))


def test_encoded_rows_come_back_with_their_example_and_types() -> None:
    ids = {"input_ids": np.array([5, 6, 2**40]), "sound": np.ones((2, 3), np.float16), "few": np.array([1], np.int32)}
    positions = np.array([0, 1])
    piece = Encoded(ROWS[1], ids, 3, positions, positions + 9, np.array([1, 0.5], np.float32), {"stop_trained": True})
    odd = replace(piece, example=ROWS[0], length=2, notes={"cut": np.int64(3)})  # not JSON, so it stays in memory
    rows = EncodedRows(ROWS)
    for number, one in ((1, piece), (0, odd), (1, piece)):
        rows.append(number, one)
    for found, put in zip(rows, (piece, odd, piece), strict=True):
        assert found.example == put.example
        assert (found.length, dict(found.notes)) == (put.length, dict(put.notes))
        for name, values in put.inputs.items():
            assert found.inputs[name].dtype == values.dtype
            assert np.array_equal(found.inputs[name], values)
        for one, other in (
            (found.positions, put.positions),
            (found.targets, put.targets),
            (found.weights, put.weights),
        ):
            assert one.dtype == other.dtype
            assert one.tolist() == other.tolist()
    assert lengths(rows).tolist() == lengths([*rows]).tolist() == [3, 2, 3]


def test_equal_keys_are_grouped_in_the_order_of_rows() -> None:
    keys = np.array([7, 0, 3, 7, 0, 3, 7], np.uint64)
    assert list(Same(keys)) == [[0, 3, 6], [1, 4], [2, 5]]
    assert firsts(keys).tolist() == [0, 1, 2, 0, 4, 2, 0]
    assert repeats(keys).tolist() == [0, 0, 0, 1, 1, 1, 2]
    assert list(Same(keys[:0])) == []


def test_the_fingerprint_is_the_digest_of_all_contents() -> None:
    contents = {
        "train": np.arange(9000, dtype=np.uint64),
        "valid": np.empty(0, np.uint64),
        "test": np.array([2**64 - 1]),
    }
    assert fingerprint_of(contents) == digest({n: [f"{c:016x}" for c in its.tolist()] for n, its in contents.items()})


def _held_by(rows: int, folder: Path) -> int:
    """Bytes that an opened data set holds, the file of rows aside."""
    path = folder / f"{rows}.jsonl"
    path.write_text("\n".join(json.dumps({"text": f"row {n} of {rows}", "label": "ab"[n % 2]}) for n in range(rows)))
    tracemalloc.start()
    dataset = open_dataset(DataSettings(path=str(path)))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(dataset.train) > rows / 2
    return held


def test_an_opened_row_holds_tens_of_bytes(tmp_path: Path) -> None:
    _held_by(200, tmp_path)  # what is loaded and cached once
    assert (_held_by(4200, tmp_path) - _held_by(1200, tmp_path)) / 3000 < 64
