"""Example data for a first run and for tests, read from packages and written as CSV: diagnoses and licence texts.

icd10          ICD-10-CM descriptions -> 22 chapters; unit = three-character category; split already; icd10/small with
               a quarter of the training rows
licences       licence texts -> classes of obligation; unit = cluster of near-duplicate versions; one file
wage-panel     545 men's occupations over 8 years (example_careers.py)
labour-market  drawn careers whose law is known, and those of another population (example_careers.py)
"""

from __future__ import annotations

import csv
import io
import re
import unicodedata
import xml.etree.ElementTree as ElementTree
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import yaml
from datasketch import MinHash, MinHashLSH

from tunewright.core.errors import MissingPart, UserError, nearest
from tunewright.core.files import cache_folder, digest, read_json, write_atomic
from tunewright.models.embedded import RECORD
from tunewright.pipeline.example_careers import labour_market, wage_panel
from tunewright.pipeline.wheels import sha256_of, texts

CHAPTERS = (
    "Infectious diseases",
    "Neoplasms",
    "Blood and immune system",
    "Endocrine and metabolic diseases",
    "Mental disorders",
    "Nervous system",
    "Eye",
    "Ear",
    "Circulatory system",
    "Respiratory system",
    "Digestive system",
    "Skin",
    "Musculoskeletal system",
    "Genitourinary system",
    "Pregnancy and childbirth",
    "Perinatal conditions",
    "Congenital malformations",
    "Symptoms and findings",
    "Injury and poisoning",
    "External causes",
    "Health services",
    "Special purposes",
)
"""Short titles of ICD-10-CM's chapters 1 to 22; the full ones have up to 17 words, which every row would pay for."""


_TEST_ROWS = 320
"""Enough to see a difference of 0.1 between two answerers, and little enough to be weighed in a minute."""


class Row(NamedTuple):
    """One labelled text and whom it belongs to."""

    text: str
    label: str
    unit: str


@dataclass(frozen=True, slots=True)
class ExampleData:
    """A data set that is prepared from one wheel, or drawn at random."""

    name: str
    requirement: str
    """Empty = nothing is downloaded."""
    sha256: str
    """Of the wheel."""
    licence: str
    source: str
    prepare: Callable[[Path], Mapping[str, Sequence[NamedTuple]]]
    """Wheel -> rows of each file, by file name."""
    path: str
    """What a plan reads, inside the folder; '.' = the folder."""
    revision: int = 1
    """Counted up when `prepare` changes."""
    options: tuple[str, ...] = ()
    """More of pip's options: which wheel is meant, where there is one for each platform."""

    @property
    def folder(self) -> Path:
        """Where it lies once prepared."""
        made_from = digest(self.requirement, self.sha256, self.revision)[:12]
        return cache_folder() / "data" / f"{self.name}-{made_from}"


def shipped(name: str) -> bool:
    """Whether a path names example data, or a file of it (`labour-market/pool.csv`); a path that exists is itself."""
    return name.partition("/")[0] in EXAMPLES and not Path(name).exists()


def example(name: str) -> Path:
    """The prepared rows of an example data set: a folder with splits, or one file.

    Raises:
        MissingPart: It was not fetched.
        UserError: No example data has that name, or its files were changed.
    """
    if name not in EXAMPLES:
        allowed = sorted(EXAMPLES)
        raise UserError(f"No example data '{name}'.{nearest(name, allowed)} Allowed: {', '.join(allowed)}.")
    data = EXAMPLES[name]
    if not (data.folder / RECORD).is_file():
        raise MissingPart(f"The example data '{name}' is not fetched. Run `tunewright fetch {name}`.")
    changed = [
        file
        for file, sha256 in read_json(data.folder / RECORD)["files"].items()
        if not (data.folder / file).is_file() or sha256_of(data.folder / file) != sha256
    ]
    if changed:
        raise UserError(
            f"{', '.join(changed)} in {data.folder} {'has' if len(changed) == 1 else 'have'} changed since "
            f"`tunewright fetch {name}`. Copy what you want to keep, delete that folder and fetch again."
        )
    return data.folder / data.path


def write_rows(path: Path, rows: Sequence[NamedTuple]) -> None:
    """Writes rows of one kind as CSV, their field names as the header."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(rows[0]._fields)
    writer.writerows(rows)
    write_atomic(path, text.getvalue())


def icd10(wheel: Path) -> dict[str, list[Row]]:
    """Splits of ICD-10-CM descriptions by category, one row a category, so that rows are independent.

    Categories are drawn within each chapter, so every chapter is in train and test, nearly as often as it has
    categories. The 1,600 training rows are one of each training category and then second ones; small/ has the first
    400 of them beside the same validation and test rows.
    """
    by_unit = _one_place_only(_icd10_rows(wheel))
    by_label: dict[str, list[str]] = defaultdict(list)
    for unit in _shuffled(by_unit):
        by_label[by_unit[unit][0].label].append(unit)
    train, valid, test = [], [], []
    for units in by_label.values():
        tests, valids = max(1, round(len(units) * 0.2)), round(len(units) * 0.1)
        test += units[:tests]
        valid += units[tests : tests + valids]
        train += units[tests + valids :]
    train, test = (
        _some_of_each(_shuffled(units), lambda unit: by_unit[unit][0].label, some)
        for units, some in ((train, 1), (test, 2))
    )
    more = [by_unit[unit][0] for unit in train] + [row for unit in train for row in by_unit[unit][1:3]]
    held_out = {
        "valid.csv": [by_unit[unit][0] for unit in _shuffled(valid)[:64]],
        "test.csv": [by_unit[unit][0] for unit in test[:_TEST_ROWS]],
    }
    small = {"train.csv": more[:400], **held_out}
    return {"train.csv": more[:1600], **held_out, **{f"small/{name}": rows for name, rows in small.items()}}


def licences(wheel: Path) -> dict[str, list[Row]]:
    """English licence texts of 50 to 3,000 words with their class; near-duplicates share a unit.

    At most two of a cluster are taken, and no class with fewer than five clusters ('Unstated License', whose
    entries are placeholders without a text): it could not be in every split.
    """
    found: dict[str, Row] = {}
    for key, content in texts(wheel, "licensedcode/data/licenses/", ".LICENSE").items():
        _, head, body = re.split(r"^---[ \t]*$", content, maxsplit=2, flags=re.MULTILINE)
        stated = yaml.safe_load(head)
        body = body.strip()
        if stated.get("language", "en") == "en" and 50 <= len(body.split()) <= 3000:
            found[key] = Row(body, stated["category"], key)
    clusters = near_duplicates({key: row.text for key, row in found.items()})
    per_class = Counter(found[keys[0]].label for keys in clusters.values())
    clusters = {unit: keys for unit, keys in clusters.items() if per_class[found[keys[0]].label] >= 5}
    drawn = [found[key]._replace(unit=unit) for unit, keys in clusters.items() for key in keys[:2]]
    return {"rows.csv": sorted(drawn, key=lambda row: digest(row.text))}


def near_duplicates(by_key: dict[str, str], jaccard: float = 0.7) -> dict[str, list[str]]:
    """Clusters of texts that share word 3-grams: smallest key -> keys, exact repetitions of a text left out.

    MinHash with 64 permutations proposes pairs (Broder, 1997); clusters are their connected components.
    """
    index = MinHashLSH(threshold=jaccard, num_perm=64)
    leader: dict[str, str] = {}
    members: dict[str, list[str]] = {}
    seen: set[str] = set()
    for key in sorted(by_key):
        words = re.findall(r"\w+", by_key[key].casefold())
        if " ".join(words) in seen:
            continue
        seen.add(" ".join(words))
        sketch = MinHash(num_perm=64, seed=1)
        sketch.update_batch([" ".join(words[start : start + 3]).encode() for start in range(max(1, len(words) - 2))])
        near = sorted({leader[other] for other in index.query(sketch)})
        index.insert(key, sketch)
        head = near[0] if near else key
        joined = [name for other in near for name in members.pop(other)] + [key]
        members[head] = joined
        leader.update(dict.fromkeys(joined, head))
    return members


def _icd10_rows(wheel: Path) -> list[Row]:
    (content,) = texts(wheel, "simple_icd_10_cm/data/", ".xml").values()
    chapters = ElementTree.fromstring(content).findall("chapter")
    return [
        Row(_clean(entry.findtext("desc") or ""), label, (entry.findtext("name") or "")[:3])
        for chapter, label in zip(chapters, CHAPTERS, strict=True)
        for entry in chapter.iter("diag")
    ]


def _one_place_only(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows by unit, drawn order; wordings that stand under several categories have no one answer and are dropped."""
    where: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        where[_wording(row.text)].add(row.unit)
    by_unit: dict[str, dict[str, Row]] = defaultdict(dict)
    for row in sorted(rows, key=lambda row: digest(row.unit, row.text)):
        if row.text and len(where[_wording(row.text)]) == 1:
            by_unit[row.unit].setdefault(_wording(row.text), row)
    return {unit: list(kept.values()) for unit, kept in by_unit.items()}


def _wording(text: str) -> str:
    """A text as its set of words: order, case and punctuation are no difference."""
    return " ".join(sorted(set(re.findall(r"\w+", text.casefold()))))


def _clean(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).split())


def _shuffled(names: Iterable[str]) -> list[str]:
    """In the order of their hashes: the same everywhere, and nobody's choice."""
    return sorted(names, key=lambda name: digest("example", name))


def _some_of_each(units: Sequence[str], label: Callable[[str], str], some: int) -> list[str]:
    """The first few units of each label, then the rest, otherwise in the given order."""
    seen: Counter[str] = Counter()
    late: list[str] = []
    early: list[str] = []
    for unit in units:
        seen[label(unit)] += 1
        (early if seen[label(unit)] <= some else late).append(unit)
    return early + late


EXAMPLES = {
    data.name: data
    for data in (
        ExampleData(
            name="icd10",
            requirement="simple-icd-10-cm==1.5.0",
            sha256="6d461d71dc26aedc530ae65f02cfb578a154e49507c32e8241e75f701d4b7e42",
            licence="MIT (package); the classification is a work of the United States government",
            source="ICD-10-CM, April 2026, from the package simple-icd-10-cm 1.5.0",
            prepare=icd10,
            path=".",
            revision=3,
        ),
        ExampleData(
            name="licences",
            requirement="licensedcode-data==32.1.0",
            sha256="18f60bde6dbabbc0a925d45ed80089cdbb7168156a2a1c118737198f9b743b96",
            licence="CC-BY-4.0",
            source="ScanCode LicenseDB, from the package licensedcode-data 32.1.0",
            prepare=licences,
            path="rows.csv",
            revision=2,
        ),
        ExampleData(
            name="wage-panel",
            requirement="linearmodels==7.1",
            sha256="59c60edf9471d3f0c50c4da46fac696833c59d2568ca241547a3ccb6444af3bd",
            licence="NCSA (package); the rows come from the data archive of the Journal of Applied Econometrics",
            source="Vella and Verbeek (1998), 545 young men of the NLSY, 1980 to 1987, from linearmodels 7.1",
            prepare=wage_panel,
            revision=2,
            path="careers.csv",
            options=(
                *("--platform", "manylinux_2_28_x86_64", "--implementation", "cp"),
                *("--python-version", "3.11", "--abi", "cp311"),
            ),
        ),
        ExampleData(
            name="labour-market",
            requirement="",
            sha256="",
            licence="Apache-2.0 (made up by Tunewright)",
            source="drawn at random from a made-up law; no row describes a person",
            prepare=labour_market,
            path="market",
        ),
    )
}
"""The example data sets, by name."""
