"""Stata files: values as Stata shows them, missing ones as nothing, damage as a sentence."""

from __future__ import annotations

from pathlib import Path

import pandas
import pytest

from tunewright.core.errors import MissingPart, UserError
from tunewright.data.readers import read_rows


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
