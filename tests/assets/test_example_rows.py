"""The example rows as they are fetched, and the plans that use them."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import pytest
import yaml

from tunewright.core.errors import MissingPart
from tunewright.core.settings import PlanSettings
from tunewright.models.embedded import EMBEDDED
from tunewright.pipeline.example_data import CHAPTERS, EXAMPLES, example, near_duplicates

PLANS = sorted((Path(__file__).parents[2] / "examples").glob("*.yaml"))
Rows = list[dict[str, str]]


def rows_of(path: Path) -> Rows:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def fetched(name: str) -> Path:
    try:
        return example(name)
    except MissingPart as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="module")
def icd10() -> dict[str, Rows]:
    folder = fetched("icd10")
    return {name: rows_of(folder / f"{name}.csv") for name in ("train", "valid", "test", "small/train")}


@pytest.fixture(scope="module")
def licences() -> Rows:
    return rows_of(fetched("licences"))


@pytest.mark.assets
def test_icd10_has_the_promised_sizes_over_all_chapters(icd10: dict[str, Rows]) -> None:
    assert len(icd10["train"]) == 1600
    assert len(icd10["small/train"]) == 400
    assert 50 <= len(icd10["valid"]) <= 70
    assert len(icd10["test"]) >= 300
    assert len({row["unit"] for row in icd10["test"]}) >= 250
    for name in ("train", "test", "small/train"):
        assert {row["label"] for row in icd10[name]} == set(CHAPTERS)
    assert len({row["unit"] for row in icd10["small/train"]}) == 400, "one row a category"


@pytest.mark.assets
def test_icd10_splits_share_neither_category_nor_wording(icd10: dict[str, Rows]) -> None:
    for one, other in (("train", "test"), ("train", "valid"), ("valid", "test")):
        for read in (lambda row: row["unit"], lambda row: frozenset(row["text"].casefold().split())):
            assert not {read(row) for row in icd10[one]} & {read(row) for row in icd10[other]}
    assert icd10["small/train"] == icd10["train"][:400]


@pytest.mark.assets
def test_icd10_labels_stand_for_their_chapters(icd10: dict[str, Rows]) -> None:
    first_letter = {"Neoplasms": "CD", "Ear": "H", "Circulatory system": "I", "Pregnancy and childbirth": "O"}
    for rows in icd10.values():
        for row in rows:
            assert row["unit"][0] in first_letter.get(row["label"], row["unit"][0]), row
            assert row["text"] == " ".join(row["text"].split())


@pytest.mark.assets
def test_no_label_is_so_frequent_that_guessing_it_looks_good(icd10: dict[str, Rows]) -> None:
    for rows in icd10.values():
        assert max(Counter(row["label"] for row in rows).values()) < 0.2 * len(rows)


@pytest.mark.assets
def test_licences_have_ten_classes_some_overlong_texts_and_whole_clusters(licences: Rows) -> None:
    assert len(licences) == 1533
    assert len({row["label"] for row in licences}) == 10
    words = [len(row["text"].split()) for row in licences]
    assert min(words) >= 50
    assert max(words) <= 3000
    assert sum(count > 1000 for count in words) >= 75
    units = Counter(row["unit"] for row in licences)
    assert max(units.values()) == 2
    assert len(units) == 1337


@pytest.mark.assets
def test_licences_of_different_units_are_no_near_duplicates(licences: Rows) -> None:
    leader = {row["unit"]: row["text"] for row in licences}
    clusters = near_duplicates(leader, jaccard=0.8)
    assert sum(len(keys) > 1 for keys in clusters.values()) <= 8  # MinHash is a draw


def test_the_example_plans_are_there() -> None:
    assert [path.stem for path in PLANS] == ["careers", "legal", "medical"]


@pytest.mark.parametrize("path", PLANS, ids=lambda path: path.stem)
def test_example_plans_are_valid_and_name_what_can_be_fetched(path: Path) -> None:
    plan = PlanSettings.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    assert plan.model in EMBEDDED
    assert plan.data.path in EXAMPLES
    assert plan.data.licence == EXAMPLES[plan.data.path].licence
    assert plan.data.source == EXAMPLES[plan.data.path].source
    assert plan.data.use
