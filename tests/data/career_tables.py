"""Small tables of careers, and what is said of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tunewright.core.errors import UserError
from tunewright.core.settings import DataSettings
from tunewright.data.dataset import open_dataset

HEAD = "person,year,occupation,gender"
LIFE = ["a,1990,Cook,female", "a,1991,Cook,female", "a,1994,Nurse,female"]


def table(folder: Path, *rows: str, head: str = HEAD, name: str = "careers.csv") -> Path:
    path = folder / name
    path.write_text("\n".join([head, *rows]) + "\n", encoding="utf-8")
    return path


def faults(path: Path, **options: Any) -> list[str]:
    with pytest.raises(UserError) as error:
        open_dataset(DataSettings(path=str(path), format="careers", options=options))
    return error.value.problems


def people(count: int, years: int = 4) -> list[str]:
    titles = ["Cook", "Nurse", "Driver"]
    gender = ["female", "male"]
    return [f"p{n},{1990 + y},{titles[(n + y * n) % 3]},{gender[n % 2]}" for n in range(count) for y in range(years)]
