"""Stata files: values as Stata shows them, missing ones as nothing, damage as a sentence."""

from __future__ import annotations

from pathlib import Path

import pandas
import pytest

from tunewright.core.errors import MissingPart, UserError
from tunewright.core.records import Example
from tunewright.core.settings import DataSettings
from tunewright.data.readers import read_rows
from tunewright.data.reading import open_file


def test_without_pandas_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    (tmp_path / "careers.dta").write_bytes(b"<stata_dta>")
    with pytest.raises(MissingPart, match=r"tunewright\[stata\]"):
        next(read_rows(tmp_path / "careers.dta"))


def test_rows_are_read_with_their_labels(tmp_path: Path) -> None:
    path = tmp_path / "careers.dta"
    table = pandas.DataFrame(
        {"nr": [13, 13], "year": [1980, 1981], "occ": pandas.Categorical(["Service", "Sales"]), "wage": [1.5, None]}
    )
    table.to_stata(path, write_index=False)
    rows = [row for _, row in read_rows(path)]
    assert rows[0] == {"nr": 13, "year": 1980, "occ": "Service", "wage": 1.5}
    assert rows[1]["wage"] is None
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UserError, match="not a whole Stata file"):
        list(read_rows(path))


def test_years_codes_with_gaps_and_labels_of_several_codes_are_read(tmp_path: Path) -> None:
    path = tmp_path / "careers.dta"
    columns = {
        "person": [1] * 4, "year": pandas.to_datetime(["1980", "1981", "1982", "1983"]),
        "occupation": [1.0, 2.0, 1.0, 3.0], "region": [None, 5.0, 5.0, 5.0], "trade": [1, 2, 3, 1],
    }  # fmt: skip
    labels = {"trade": {1: "Sales", 2: "Sales", 3: "Crafts"}}
    frame = pandas.DataFrame(columns)
    frame.to_stata(path, write_index=False, convert_dates={"year": "ty"}, value_labels=labels)
    rows = [row for _, row in read_rows(path)]
    assert [row["trade"] for row in rows] == ["Sales", "Sales", "Crafts", "Sales"]
    assert [str(row["region"]) for row in rows] == ["None", "5", "5", "5"]  # as JSON has them, 5 is not 5.0
    found = [one.result for one in open_file(path, DataSettings(path=str(path), options={"static": "region"})).rows]
    assert all(isinstance(one, Example) for one in found), found
    assert found[-1].prompt_text.endswith("Region: 5\n1980: 1\n1981: 2\n1982: 1\n1983:")  # type: ignore[union-attr]


def test_what_is_wrong_with_a_file_is_the_first_line_that_says_something(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object, **settings: object) -> None:
        raise ValueError("\n\nthis is what is wrong\nand more")

    monkeypatch.setattr(pandas, "read_stata", broken)
    (tmp_path / "careers.dta").write_bytes(b"<stata_dta>")
    with pytest.raises(UserError, match=r"row 1: this is what is wrong\)"):
        list(read_rows(tmp_path / "careers.dta"))
