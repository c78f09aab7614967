"""What the README and the tutorial tell the reader to type is typed, in order, on a tiny model without the network."""

from __future__ import annotations

import csv
import os
import re
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from commands import Started
from docs.pages import ROOT, text_of, tunewright_commands
from tiny import save_tiny
from tunewright.core.files import file_digest, write_json
from tunewright.models.embedded import EMBEDDED, RECORD

_CHAPTERS = {"Eye": "cornea retina lens", "Ear": "drum canal hearing", "Skin": "rash itch scale"}
_ANY_VERDICT = {"tune": {0, 3}, "evaluate": {0, 3}, "resume": {0, 3}}


@dataclass(frozen=True)
class Typed:
    """A page's commands with how each ended, and the folder in which they were typed."""

    commands: list[list[str]]
    codes: list[int]
    said: list[str]
    folder: Path


def rows(count: int, first: int) -> list[dict[str, str]]:
    """Labelled rows; no two share text or unit."""
    named = list(_CHAPTERS.items())
    found = []
    for number in range(first, first + count):
        label, words = named[number % 3]
        word = words.split()[number // 3 % 3]
        text = f"{word} disorder {chr(97 + number % 26)}{number * 7919 % 9973} stage {number}"
        found.append({"text": text, "label": label, "unit": f"U{number}"})
    return found


def write(path: Path, found: list[dict[str, str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(found[0]))
        writer.writeheader()
        writer.writerows(found)


def typed(page: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Typed:
    """Types a page's commands (but `fetch`) in a folder that has what the page says is there."""
    monkeypatch.setenv("TUNEWRIGHT_CACHE", str(folder / "cache"))
    # The model that a fetch would have left, tiny; and the example rows under their name, which a folder may bear.
    model = save_tiny("llama", EMBEDDED["smollm2"].folder)
    digest = file_digest([*sorted(model.glob("*.safetensors")), model / "config.json"])
    write_json(model / RECORD, {"name": "smollm2", "licence": "Apache-2.0", "digest": digest})
    for name, count, first in (("train", 24, 0), ("valid", 9, 100), ("test", 15, 200)):
        write(folder / "icd10" / f"{name}.csv", rows(count, first))
    write(folder / "rows.csv", rows(60, 300))
    write(folder / "new.csv", [{"text": row["text"], "ward": "3"} for row in rows(5, 500)])
    (folder / "examples").mkdir()
    for plan in (ROOT / "examples").glob("*.yaml"):
        (folder / "examples" / plan.name).write_bytes(plan.read_bytes())
    patients = [sys.executable, str(ROOT / "examples" / "patients.py"), str(folder / "patients.csv")]
    subprocess.run(patients, check=True)
    commands = [words for words in tunewright_commands(text_of(page)) if words[0] != "fetch"]
    ended = [Started(words, folder, _few_and_offline).ended() for words in commands]
    return Typed(commands, [one.returncode for one in ended], [one.stdout + one.stderr for one in ended], folder)


def _few_and_offline() -> None:
    """In each command's process: few questions for the probes, one thread, no network."""
    from tunewright.evaluate.probes import retention
    from tunewright.evaluate.probes.dialect import Dialect

    def refuse(*_: object) -> None:
        raise AssertionError("the network was touched")

    for name in ("connect", "connect_ex"):
        setattr(socket.socket, name, refuse)
    socket.getaddrinfo = socket.create_connection = refuse  # type: ignore[assignment]
    os.sched_getaffinity = lambda _: {0}  # one thread a core: tiny products are faster alone
    Dialect.forms = {"quick": {"count": 2}, "full": {"count": 4}}
    few = retention.passages()[:6], retention.prompts()[:6]
    retention.passages, retention.prompts = (lambda: few[0]), (lambda: few[1])


@pytest.fixture(scope="module")
def readme(tmp_path_factory: pytest.TempPathFactory) -> Typed:
    with pytest.MonkeyPatch.context() as patch:
        return typed("README.md", tmp_path_factory.mktemp("readme"), patch)


@pytest.fixture(scope="module")
def tutorial(tmp_path_factory: pytest.TempPathFactory) -> Typed:
    with pytest.MonkeyPatch.context() as patch:
        return typed("docs/tutorial-medical.md", tmp_path_factory.mktemp("tutorial"), patch)


@pytest.fixture(scope="module")
def patients(tmp_path_factory: pytest.TempPathFactory) -> Typed:
    with pytest.MonkeyPatch.context() as patch:
        return typed("docs/tutorial-patients.md", tmp_path_factory.mktemp("patients"), patch)


def unexpected(page: Typed) -> list[str]:
    """Commands that ended otherwise than the page says."""
    found = []
    for words, code, said in zip(page.commands, page.codes, page.said, strict=True):
        allowed = _ANY_VERDICT.get(words[0], {0})
        # A tiny random model is not sure enough for a least accuracy; the page says that this is told.
        none_reached = "--min-accuracy" in words and code == 2 and "No threshold reaches" in said
        if code not in allowed and not none_reached:
            found.append(f"{' '.join(words)}: {code}\n{said}")
    return found


@pytest.mark.slow
def test_the_commands_of_the_readme_run(readme: Typed) -> None:
    assert unexpected(readme) == []
    assert [words[0] for words in readme.commands] == ["check", "tune", "predict"]


@pytest.mark.slow
def test_a_run_holds_the_files_that_the_readme_names(readme: Typed) -> None:
    table = text_of("README.md").split("A run is a folder")[1].split("\n\n")[1]
    named = [name for row in table.splitlines() for name in re.findall(r"`([^`]+)`", row.split("|")[1])]
    assert len(named) > 8
    assert [name for name in named if not (readme.folder / "runs" / "first" / name).exists()] == []


@pytest.mark.slow
def test_rows_come_back_with_the_columns_that_the_readme_names(readme: Typed) -> None:
    with open(readme.folder / "answers.csv", encoding="utf-8", newline="") as file:
        answered = list(csv.DictReader(file))
    assert list(answered[0]) == ["text", "ward", "prediction", "probability", "abstain", "prediction_note"]
    assert len(answered) == 5
    assert {row["prediction"] for row in answered} <= set(_CHAPTERS)
    assert {row["abstain"] for row in answered} == {"false"}


@pytest.mark.slow
def test_the_commands_of_the_tutorial_run(tutorial: Typed) -> None:
    assert unexpected(tutorial) == []
    verbs = {words[0] for words in tutorial.commands}
    assert verbs >= {"check", "plan", "tune", "resume", "report", "predict", "compare", "delete", "doctor"}


@pytest.mark.slow
def test_the_tutorial_ends_as_it_says(tutorial: Typed) -> None:
    runs = tutorial.folder / "runs"
    assert sorted(path.name for path in runs.iterdir()) == ["icd10"]
    shown = next(s for w, s in zip(tutorial.commands, tutorial.said, strict=True) if "--show-mask" in w)
    trained = re.findall(r"\[\[(.*?)\]\]", shown, re.DOTALL)
    assert len(trained) == 2
    assert {text.replace("</s>", "").strip() for text in trained} <= set(_CHAPTERS)
    assert all("</s>" in text for text in trained)


@pytest.mark.slow
def test_the_run_folder_of_the_architecture_is_the_one_that_is_made(tutorial: Typed) -> None:
    listed = text_of("docs/architecture.md").split("## The run folder")[1].split("```")[1]
    run = tutorial.folder / "runs" / "icd10"
    optional = {"notes.txt", "children/"}
    top = {re.split(r"(?<=/)", word)[0] for line in listed.splitlines() for word in line.split()[:1]}
    top |= {word for line in listed.splitlines() if "/" not in line for word in line.split()}
    assert [name for name in sorted(top - optional) if not (run / name).exists()] == []
    made = {path.name + "/" * path.is_dir() for path in run.iterdir() if not path.name.startswith(".")}
    assert made - top == set()
    held = {path.name for path in next(p for p in (run / "checkpoints").iterdir() if p.name.isdigit()).iterdir()}
    assert held == {"trained.safetensors", "optimizer.safetensors", "state.json", "manifest.json"}


@pytest.mark.slow
def test_the_commands_of_the_patients_tutorial_run(patients: Typed) -> None:
    assert unexpected(patients) == []
    assert [words[0] for words in patients.commands] == ["tune", "audit", "plan", "tune", "audit"]
    promised, audited = patients.said[2], patients.said[4]
    assert "for each patient of" in promised
    assert "no breach of the claim was found" in audited
    assert "nothing is claimed" in patients.said[1]
